"""The command: what it prints, and with which exit code."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import get_args

import click
import pytest
from cached_files import gzip_file
from click.testing import CliRunner
from terminals import on_a_terminal

import annpipes as ap
from annpipes.stages.collating import Form
from annpipes.stores import CODECS
from annpipes.tools import rewriting
from annpipes.tools.cli import annpipes


def test_inspect_prints_what_the_function_returns(h5ad: Path) -> None:
    ran = CliRunner().invoke(annpipes, ["inspect", str(h5ad)])
    assert ran.exit_code == 0
    assert ran.stdout.strip() == str(ap.inspect(h5ad)).strip()


def test_json_is_for_machines(h5ad: Path) -> None:
    ran = CliRunner().invoke(annpipes, ["inspect", "--json", str(h5ad)])
    assert json.loads(ran.stdout) == [json.loads(json.dumps(ap.inspect(h5ad).to_dict()))]


def test_shuffle_writes_the_file_that_it_names(h5ad: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.h5ad"
    ran = CliRunner().invoke(annpipes, ["shuffle", str(h5ad), "-o", str(output), "--json"])
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["files"] == [str(output)]
    assert output.exists()


def test_cache_lists_what_is_kept_and_removes_it(tmp_path: Path) -> None:
    files = [gzip_file(tmp_path / "one.h5ad"), gzip_file(tmp_path / "two.h5ad")]
    for file in files:
        list(ap.stream(file, cache=ap.Cache(str(tmp_path / "cache"), "1GB")))
    listed = CliRunner().invoke(annpipes, ["cache", str(tmp_path / "cache")])
    assert listed.exit_code == 0
    assert all(f"{file}  X/data " in listed.stdout for file in files)
    assert listed.stdout.count("100%") == 4  # values and columns of both
    removed = CliRunner().invoke(annpipes, ["cache", str(tmp_path / "cache"), "--remove", "*/one.h5ad", "--json"])
    assert {Path(kept["source"]).name for kept in json.loads(removed.stdout)["arrays"]} == {"one.h5ad"}
    assert len(list((tmp_path / "cache").iterdir())) == 3  # two arrays and the tag
    left = CliRunner().invoke(annpipes, ["cache", str(tmp_path / "cache"), "--json"])
    assert {Path(kept["source"]).name for kept in json.loads(left.stdout)["arrays"]} == {"two.h5ad"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cache", "nowhere"], "no such folder: 'nowhere'"),
        (["cache", os.curdir], "is not the folder of a cache"),
        (["inspect", "nowhere.h5ad"], "no file 'nowhere.h5ad'"),
        (["shuffle", "nowhere.h5ad", "-o", "out.h5ad"], "no file 'nowhere.h5ad'"),
        (["bench"], "Missing argument 'FILE'"),
        (["tune", "nowhere.h5ad", "--plot", "mixing.jpg"], "--plot: save must end in .png, .svg or .pdf, got"),
        (["tune", "nowhere.h5ad", "--plot", "nowhere/mixing.png"], "there is no folder"),
    ],
)
def test_a_wrong_call_is_one_line_and_exits_with_2(arguments: list[str], message: str) -> None:
    ran = CliRunner().invoke(annpipes, arguments)
    assert ran.exit_code == 2
    assert message in ran.stderr
    assert "Traceback" not in ran.output


def test_damage_exits_with_1(h5ad: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.h5ad"
    broken.write_bytes(h5ad.read_bytes()[:-3000])
    ran = CliRunner().invoke(annpipes, ["inspect", "--check", str(broken)])
    assert ran.exit_code == 1


def test_a_picture_that_cannot_be_drawn_is_told_before_measuring(monkeypatch: pytest.MonkeyPatch, h5ad: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "annpipes.tools.drawings", raising=False)
    ran = CliRunner().invoke(annpipes, ["tune", str(h5ad), "--plot", "mixing.png", "--seconds", "1e9"])
    assert ran.exit_code == 2
    assert "pip install 'annpipes[plot]'" in ran.stderr


def test_tune_draws_what_it_measured(h5ad: Path, tmp_path: Path) -> None:
    picture = tmp_path / "mixing.png"
    ran = CliRunner().invoke(annpipes, ["tune", str(h5ad), "--plot", str(picture), "--seconds", "0.01"])
    assert ran.exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_every_file_is_looked_at_whatever_the_others_are(h5ad: Path, tmp_path: Path) -> None:
    bad, none = tmp_path / "bad.h5ad", tmp_path / "none.h5ad"
    bad.write_text("no HDF5")
    ran = CliRunner().invoke(annpipes, ["inspect", str(bad), str(h5ad), str(none), str(h5ad)])
    assert ran.exit_code == 2  # the worst of them: one is not there
    assert ran.stdout.count(str(ap.inspect(h5ad))) == 2
    assert ran.stderr.splitlines() == [
        f"annpipes: {str(bad)!r} is not an HDF5 file",
        f"annpipes: no file {str(none)!r}",
    ]
    assert CliRunner().invoke(annpipes, ["inspect", str(bad), str(h5ad)]).exit_code == 1


def test_a_pattern_stands_for_its_files(h5ad: Path, tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.h5ad").write_bytes(h5ad.read_bytes())
    ran = CliRunner().invoke(annpipes, ["inspect", "--json", str(tmp_path / "[ab].h5ad")])
    assert [Path(report["file"]).name for report in json.loads(ran.stdout)] == ["a.h5ad", "b.h5ad"]
    ran = CliRunner().invoke(annpipes, ["inspect", str(tmp_path / "x*.h5ad")])
    assert (ran.exit_code, ran.stderr) == (2, f"annpipes: no file matches {str(tmp_path / 'x*.h5ad')!r}\n")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(13, "Permission denied", "a.h5ad"), "annpipes: Permission denied: 'a.h5ad'"),
        (OSError(28, "No space left on device"), "annpipes: No space left on device"),
        (OSError(30, "Read-only file system", "out"), "annpipes: Read-only file system: 'out'"),
    ],
    ids=str,
)
def test_what_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, h5ad: Path, tmp_path: Path, error: OSError, told: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(rewriting, "rewrite_shuffled", refuse)
    ran = CliRunner().invoke(annpipes, ["shuffle", str(h5ad), "-o", str(tmp_path / "out.h5ad")])
    assert (ran.exit_code, ran.stderr.strip()) == (1, told)


def test_a_picture_that_cannot_be_written_is_told_before_measuring(
    monkeypatch: pytest.MonkeyPatch, h5ad: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    ran = CliRunner().invoke(annpipes, ["tune", str(h5ad), "--plot", str(tmp_path / "mixing.png")])
    assert ran.exit_code == 2
    assert "cannot be written" in ran.stderr


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (KeyboardInterrupt(), 130, "annpipes: interrupted; finished parts (2 kB) are kept in {!r}"),
        (
            OSError(28, "No space left on device"),
            1,
            "annpipes: No space left on device; finished parts (2 kB) are kept",
        ),
    ],
    ids=str,
)
def test_a_rewrite_that_is_broken_off_says_what_is_kept(
    monkeypatch: pytest.MonkeyPatch, h5ad: Path, tmp_path: Path, error: BaseException, code: int, told: str
) -> None:
    output = tmp_path / "out.h5ad"

    def write_a_part(*_: object, **__: object) -> None:
        (tmp_path / "out.h5ad.unfinished").mkdir()
        (tmp_path / "out.h5ad.unfinished" / "part").write_bytes(bytes(2000))
        raise error

    monkeypatch.setattr(rewriting, "rewrite_shuffled", write_a_part)
    ran = CliRunner().invoke(annpipes, ["shuffle", str(h5ad), "-o", str(output)])
    assert ran.exit_code == code
    assert told.format(f"{output}.unfinished") in ran.stderr
    assert "the same command continues from there" in ran.stderr


def test_an_interrupt_before_any_part_says_no_more(monkeypatch: pytest.MonkeyPatch, h5ad: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(rewriting, "rewrite_shuffled", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    ran = CliRunner().invoke(annpipes, ["shuffle", str(h5ad), "-o", str(tmp_path / "out.h5ad")])
    assert (ran.exit_code, ran.stderr.strip()) == (130, "annpipes: interrupted")


def test_choices_are_those_of_what_they_are_handed_to() -> None:
    choices = {
        (name, parameter.name): list(parameter.type.choices)
        for name, command in annpipes.commands.items()
        for parameter in command.params
        if isinstance(parameter.type, click.Choice)
    }
    assert choices["shuffle", "codec"] == list(CODECS)
    assert choices["tune", "form"] == list(get_args(Form))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["inspect", "--check", "nowhere.h5ad"], "no file 'nowhere.h5ad'"),
        (["bench", "{}", "--batch-size", "0"], "batch_size must be at least 1, got 0"),
        (["bench", "{}", "--against", "nobody"], "nobody"),
        (["tune", "{}", "--label", "absent"], "no obs column 'absent'"),
        (["tune", "{}", "--field", "layers/absent"], "layers/absent"),
        (["shuffle", "{}", "-o", "nowhere/out.h5ad"], "there is no folder"),
        (["shuffle", "{}", "-o", "out.h5ad", "--without", "obsm/absent"], "obsm/absent"),
    ],
    ids=" ".join,
)
def test_a_wrong_call_shows_no_progress(h5ad: Path, arguments: list[str], told: str) -> None:
    seen, code = on_a_terminal(*(argument.format(h5ad) for argument in arguments))
    assert code == 2, seen
    assert len(seen.splitlines()) == 1
    assert seen.startswith("\x1b[31mannpipes:\x1b[0m ")
    assert told in seen


def test_a_call_that_is_right_shows_progress(h5ad: Path) -> None:
    seen, code = on_a_terminal("inspect", "--check", str(h5ad))
    assert (code, "checking" in seen, "100%" in seen, "no damage" in seen) == (0, True, True, True)


def test_tune_says_where_the_picture_is(h5ad: Path, tmp_path: Path) -> None:
    picture = tmp_path / "mixing.svg"
    call = ["tune", str(h5ad), "--plot", str(picture), "--seconds", "0.01"]
    assert CliRunner().invoke(annpipes, call).stdout.splitlines()[-1] == f"picture: {picture}"
    ran = CliRunner().invoke(annpipes, [*call, "--json"])
    assert json.loads(ran.stdout)["points"]
    assert ran.stderr.strip() == f"picture: {picture}"
