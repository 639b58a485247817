"""The command: what it prints, and with which exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import annpipes as ap
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "nowhere.h5ad"], "no file 'nowhere.h5ad'"),
        (["shuffle", "nowhere.h5ad", "-o", "out.h5ad"], "no file 'nowhere.h5ad'"),
        (["bench"], "Missing argument 'FILE'"),
        (["tune", "nowhere.h5ad", "--plot", "mixing.pdf"], "--plot: where must end in .png or .svg, got 'mixing.pdf'"),
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
    ran = CliRunner().invoke(annpipes, ["tune", str(h5ad), "--plot", "mixing.png", "--seconds", "1e9"])
    assert ran.exit_code == 2
    assert "pip install 'annpipes[plot]'" in ran.stderr


def test_tune_draws_what_it_measured(h5ad: Path, tmp_path: Path) -> None:
    picture = tmp_path / "mixing.png"
    ran = CliRunner().invoke(annpipes, ["tune", str(h5ad), "--plot", str(picture), "--seconds", "0.01"])
    assert ran.exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
