"""What the last value of a cell shows in a notebook, run by a kernel: once, as a table or a picture."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

import pytest

pytest.importorskip("nbclient", reason="notebooks are run by nbclient, and by ipykernel")
pytest.importorskip("ipykernel", reason="notebooks are run by nbclient, and by ipykernel")

CELLS = {
    "imports": """
        import matplotlib.pyplot as plt
        import scanpy as sc
        from tqdm import tqdm
        import annpipes as ap
        from annpipes.plotting import Recorder, plot_coverage, plot_mixing, plot_throughput, plot_tuning

        sc.datasets.pbmc68k_reduced().write_h5ad("pbmc.h5ad")""",
    "inspect": 'ap.inspect("pbmc.h5ad")',
    "loader": """
        loader = ap.stream("pbmc.h5ad", batch_size=64, fields=["X", "obs/louvain:code"], seed=0)
        loader""",
    "dataset": 'ap.AnnDataset("pbmc.h5ad", fields=["X", "obs/louvain"])',
    "training": """
        for _ in range(3):
            for batch in tqdm(loader, desc=f"epoch {loader.epoch}"):
                pass""",
    "stats": "loader.stats()",
    "interrupted": """
        for number, batch in enumerate(tqdm(loader)):
            if number == 4:
                raise KeyboardInterrupt""",
    "resumed": """
        loader.load_state_dict(loader.state_dict())
        for batch in tqdm(loader, initial=loader.first_batch):
            pass""",
    "tune": """
        tuning = ap.tune("pbmc.h5ad", "louvain", batch_size=64, seconds=0.5)
        tuning""",
    "picture": "plot_tuning(tuning)",
    "axes": """
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
        loaders = {f"blocks of {size}": ap.stream("pbmc.h5ad", 64, block_size=size) for size in (1, 64)}
        plot_mixing(loaders, "louvain", ax=left)
        plot_coverage(ap.stream("pbmc.h5ad", 64, block_size=64), ax=right);""",
    "recorder": """
        recorder = Recorder(ap.stream("pbmc.h5ad", batch_size=16))
        for batch in tqdm(recorder):
            pass
        plot_throughput(recorder)""",
    "bench": 'ap.bench("pbmc.h5ad", batch_size=64, seconds=0.05)',
}

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
    """What each cell shows, by its name; any error but the one that is meant to be raised ends this."""
    from nbclient import NotebookClient
    from nbformat import v4

    notebook = v4.new_notebook()
    notebook.cells = [v4.new_code_cell(dedent(source).strip(), id=name) for name, source in CELLS.items()]
    notebook.cells[[*CELLS].index("interrupted")].metadata["tags"] = ["raises-exception"]
    folder = tmp_path_factory.mktemp("notebook")
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    return {cell.id: cell.outputs for cell in notebook.cells}


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
