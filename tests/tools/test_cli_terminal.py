"""What the command prints at terminals of all widths, with and without colours; and where there is no terminal."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy import sparse
from terminals import on_a_terminal

import annpipes as ap
from annpipes.messages.showing import Code, Labelled, Page, Prose, Table

YELLOW, RED, PLAIN = "\x1b[33m", "\x1b[31m", "\x1b[0m"


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a long path and long names, of which something is wrong: X is dense though nearly all of it is 0."""
    folder = tmp_path_factory.mktemp("a folder that is named at length")
    values = np.zeros((300, 40), np.float32)
    values[:, 0] = 1
    adata = anndata.AnnData(values, layers={"counts of the second sequencing run": sparse.csr_matrix(values)})
    adata.obs["a column whose name says everything about it"] = 1
    adata.write_h5ad(folder / "cells.h5ad")
    return folder / "cells.h5ad"


def words(text: str) -> list[str]:
    return sorted(set(re.sub(r"\x1b\[\d+m", "", text).split()))


@pytest.mark.parametrize("columns", [60, 80])
def test_lines_keep_to_the_terminal_and_lose_nothing(scaled: Path, columns: int) -> None:
    seen, code = on_a_terminal("inspect", str(scaled), columns=columns, NO_COLOR="1")
    assert code == 0
    whole = (str(scaled), "counts of the second sequencing run", "a column whose name says everything", "column  ")
    long = [line for line in seen.splitlines() if len(line) > columns]
    assert all(any(name in line for name in whole) or len(line.split()) == 1 for line in long), long
    assert words(seen) == words(str(ap.inspect(scaled)))


def test_a_wide_terminal_has_whole_tables(scaled: Path) -> None:
    seen, _ = on_a_terminal("inspect", str(scaled), columns=200, NO_COLOR="1")
    assert len(re.findall("^matrix ", seen, re.MULTILINE)) == 1
    assert max(len(line) for line in seen.splitlines() if not line.startswith(("matrix", "X ", "layers", "/"))) <= 120


def test_problems_have_a_colour_at_a_terminal(scaled: Path, tmp_path: Path) -> None:
    seen, _ = on_a_terminal("inspect", str(scaled))
    assert re.findall(r"\x1b\[\d+m\w*", seen) == [f"{YELLOW}problem", PLAIN]
    broken = tmp_path / "broken.h5ad"
    broken.write_bytes(scaled.read_bytes()[:-4000])
    seen, code = on_a_terminal("inspect", "--check", str(broken))
    assert (code, f"{RED}damage{PLAIN}" in seen) == (1, True)
    seen, code = on_a_terminal("inspect", "nowhere.h5ad")
    assert (code, seen) == (2, f"{RED}annpipes:{PLAIN} no file 'nowhere.h5ad'\n")


@pytest.mark.parametrize("how", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"NO_COLOR": "1", "FORCE_COLOR": "1"}])
def test_who_wants_no_colour_gets_none(scaled: Path, how: dict[str, str]) -> None:
    assert "\x1b" not in on_a_terminal("inspect", str(scaled), **how)[0]


@pytest.mark.parametrize("forced", [False, True])
def test_elsewhere_the_lines_are_always_the_same(scaled: Path, forced: bool) -> None:
    environment = {"COLUMNS": "60", **({"FORCE_COLOR": "1"} if forced else {})}
    call = [sys.executable, "-m", "annpipes", "inspect", str(scaled)]
    seen = subprocess.run(call, env=environment, capture_output=True, text=True, check=True).stdout
    assert (YELLOW in seen) == forced
    assert re.sub(r"\x1b\[\d+m", "", seen) == f"{ap.inspect(scaled)}\n"


def test_tables_are_cut_between_columns_each_part_with_the_first() -> None:
    table = Table(["name", "one", "two", "three"], [["X", "1", "22", "333"], ["obs", "4", "5", "6"]], [1, 2, 3])
    assert table.text(Page(columns=16)).splitlines() == [
        *("name  one  two", "X       1   22", "obs     4    5"),
        "",
        *("name  three", "X       333", "obs       6"),
    ]
    assert table.text(Page(columns=3)).count("name") == 3  # never fewer than two columns
    assert table.text(Page(16)) == table.text()


def test_paths_and_code_are_never_broken() -> None:
    page, path = Page(20), "/a/very/long/path/to/some/cells-of-mine.h5ad"
    assert path in Prose([f"it lies in {path} there"]).text(page).splitlines()
    assert path in Labelled([("where", f"in {path}")]).text(page)
    code = f"ap.stream({path!r}, batch_size=256)"
    assert Code("", code).text(page) == code
