"""The notebook of the guide, run by a kernel: what each cell shows, and that it shows it once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbclient", reason="notebooks are run by nbclient, and by ipykernel")
pytest.importorskip("ipykernel", reason="notebooks are run by nbclient, and by ipykernel")

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebooks" / "first_hour.ipynb"

HTML, PNG = "text/html", "image/png"

SHOWN: dict[str, tuple[str, str]] = {
    # of each cell with a result: its richest form, and words that must be in it
    "inspect": (HTML, "raw/X"),
    "loader": (HTML, "11 batches of 64 rows"),
    "dataset": (HTML, "700 cells × 765 genes"),
    "stats": (HTML, "cells/s"),
    "tune": (HTML, "ap.stream("),
    "picture": (PNG, ""),
    "axes": (PNG, ""),
    "recorder": (PNG, ""),
    "bench": (HTML, "Each limit alone"),
}
BARS = {"training": [(11, 11)] * 3, "interrupted": [(4, 11)], "resumed": [(11, 11)], "recorder": [(44, 44)]}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each cell of code shows, by its id; any error but the one that is meant to be raised ends this."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def forms(cell: list[Any]) -> list[dict[str, Any]]:
    return [output.data for output in cell if output.output_type in ("execute_result", "display_data")]


def streamed(cell: list[Any]) -> str:
    return "".join(output.text for output in cell if output.output_type == "stream")


def test_every_result_is_shown_once_as_a_table_or_a_picture(outputs: dict[str, list[Any]]) -> None:
    assert {name for name, cell in outputs.items() if forms(cell)} == SHOWN.keys()
    for name, (form, words) in SHOWN.items():
        (shown,) = forms(outputs[name])
        assert {HTML, PNG} & shown.keys() == {form}, name
        assert words in shown[form], name
        if form == HTML:
            assert "<table" in shown[form], name


def test_bars_count_to_the_end_of_the_epoch_also_where_it_was_broken_off(outputs: dict[str, list[Any]]) -> None:
    for name, expected in BARS.items():
        bars = [bar.split("\r")[-1] for bar in streamed(outputs[name]).split("\n") if "it/s" in bar or "%|" in bar]
        assert [tuple(map(int, re.findall(r"(\d+)/(\d+) \[", bar)[-1])) for bar in bars] == expected, name


def test_nothing_else_is_said(outputs: dict[str, list[Any]]) -> None:
    errors = {name: output.ename for name, cell in outputs.items() for output in cell if output.output_type == "error"}
    assert errors == {"interrupted": "KeyboardInterrupt"}
    assert not [name for name, cell in outputs.items() if "Warning" in streamed(cell)]
    assert re.search(r"loss \d\.\d\d, then 0\.\d\d", streamed(outputs["training"]))


def test_it_is_kept_without_outputs() -> None:
    assert '"outputs": []' in NOTEBOOK.read_text()
    assert not re.search(r'"outputs": \[\n', NOTEBOOK.read_text())
