"""The first thing that a stranger runs, on files that people have."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from builders import write
from click.testing import CliRunner
from scipy import sparse

import annpipes as ap
from annpipes.tools import cli, quickstart

N = 60


def cells(x: Any = None) -> anndata.AnnData:
    """Cells of three types, each of which has one gene for itself."""
    types = np.arange(N) % 3
    counts = np.random.default_rng(0).poisson(1.0, (N, 5)).astype(np.float32)
    counts[:, :3] = 50 * np.eye(3, dtype=np.float32)[types]
    obs = pd.DataFrame({"cell type": pd.Categorical([f"type {one}" for one in types]), "depth": counts.sum(axis=1) / 7})
    obs.index = [f"c{number}" for number in range(N)]
    return anndata.AnnData(sparse.csr_matrix(counts) if x is None else x(counts), obs=obs)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart.cells_per_second, "__defaults__", (0.05,))
    return write(cells(), tmp_path / "my cells.h5ad")


def ran(*arguments: str) -> str:
    """What the command prints."""
    found = CliRunner().invoke(cli.annpipes, ["quickstart", *arguments], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


def went_on(output: str) -> dict[str, Any]:
    """What the lines that it prints define."""
    lines = textwrap.dedent("".join(re.findall(r"^(?: {4}.*)?\n", output, re.MULTILINE)))
    page: dict[str, Any] = {}
    exec(lines, page)  # noqa: S102 (our own)
    return page


def test_it_learns_what_is_easy_and_says_how_well(file: Path) -> None:
    output = ran(file.name, "--label", "cell type", "--epochs", "40", "--batch-size", "16")
    assert "60 cells × 5 genes in my cells.h5ad; X is normalised to 10,000 per cell, then log1p" in output
    assert "48 cells to train on, 12 held out, 3 classes of cell type" in output
    assert re.search(r"always 'type \d': accuracy 0.33\n", output)
    for way in ("Loader", "AnnDataset"):
        assert re.search(rf"\n{way}: accuracy 1.00 after 40 epochs in .*; reading alone, [\d,]+ cells/s", output)


def test_the_lines_that_it_prints_go_on_with_the_same_file(file: Path) -> None:
    output = ran(file.name, "--label", "cell type", "--epochs", "1")
    assert "left out" not in output
    page = went_on(output)
    assert isinstance(page["loader"], ap.Loader)
    assert len(page["train"]) == 48
    expected = anndata.read_h5ad(file).obs["cell type"].cat.codes.to_numpy()[page["train"]]
    codes = torch.cat([batch["obs_cell type"] for batch in page["loader"]])
    assert sorted(codes.tolist()) == sorted(expected.tolist())
    assert "annpipes tune 'my cells.h5ad' --label 'cell type'" in output


@pytest.mark.parametrize(
    ("x", "told", "line"),
    [
        (sparse.csr_matrix, "is normalised to 10,000 per cell", "[ap.NormalizeTotal(1e4), ap.Log1p()]"),
        (np.log1p, "looks like logarithms", "ap.Clip(high=10)"),
        (lambda counts: counts - 1, "has negative values", "ap.Clip(high=10)"),
    ],
)
def test_it_looks_at_what_x_is(file: Path, x: Any, told: str, line: str) -> None:
    output = ran(str(write(cells(x), file)), "--label", "cell type", "--epochs", "1")
    assert f"X {told}" in output
    assert f"transform={line}," in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say which obs column to predict: --label COLUMN; with how many labels each: cell type (3)"),
        (["--label", "celltype"], "no obs column 'celltype' in my cells.h5ad; columns: cell type, depth"),
        (["--label", "depth"], "obs column 'depth' holds numbers that are not whole"),
    ],
)
def test_a_wrong_call_is_one_line_and_exits_with_2(file: Path, arguments: list[str], message: str) -> None:
    found = CliRunner().invoke(cli.annpipes, ["quickstart", file.name, *arguments])
    assert found.exit_code == 2
    assert message in found.stderr


def test_cells_without_a_label_are_left_out_and_counted_and_the_lines_leave_them_out_too(file: Path) -> None:
    adata = cells()
    adata.obs.loc[adata.obs_names[:30], "cell type"] = None
    output = ran(write(adata, file).name, "--label", "cell type", "--epochs", "1")
    assert "\n30 cells have no cell type and are left out\n24 cells to train on, 6 held out" in output
    page = went_on(output)
    assert sorted([*page["train"], *page["test"]]) == list(range(30, 60))
    assert torch.cat([batch["obs_cell type"] for batch in page["loader"]]).min() == 0


def test_the_program_can_be_kept_and_run(file: Path) -> None:
    program = ran("--program")
    assert program == Path(quickstart.__file__).read_text()
    Path("train.py").write_text(program)
    command = [sys.executable, "-W", "error", "train.py", file.name, "--label", "cell type", "--epochs", "1"]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("accuracy") == 3


def test_without_scanpy_cells_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scanpy", None)
    monkeypatch.setattr(quickstart.made_cells, "__defaults__", (400, 50, 3))
    path, label = quickstart.example_file(str(tmp_path))
    adata = anndata.read_h5ad(path)
    assert adata.shape == (400, 50)
    assert adata.obs[label].nunique() == 3
    means = np.stack([adata[adata.obs[label] == one].X.mean(axis=0).A1 for one in adata.obs[label].unique()])
    assert np.corrcoef(means)[~np.eye(3, dtype=bool)].max() < 0.5  # types differ


def test_it_trains_with_one_thread_and_leaves_torch_as_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, used = torch.get_num_threads(), set()
    train = quickstart.train
    monkeypatch.setattr(
        quickstart, "train", lambda *given, **named: (used.add(torch.get_num_threads()), train(*given, **named))[1]
    )
    torch.set_num_threads(2)
    try:
        ran(file.name, "--label", "cell type", "--epochs", "1")
        assert used == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_time_ends_training_within_an_epoch() -> None:
    x, codes = torch.zeros(10, 4), torch.zeros(10, dtype=torch.int64)
    told = quickstart.train(torch.nn.Linear(4, 2), [(x, codes)] * 100, epochs=10**6, seconds=0.05, n_cells=1000)
    assert re.fullmatch(r"[\d.e+]+ epochs? in 0\.\d s \(--seconds 0\.05 ended it\)", told)


def test_speed_is_that_of_batches_that_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    class Batches:
        """Ten cells each: the first of all takes half a second, the others a hundredth."""

        waits = itertools.chain([0.5], itertools.repeat(0.01))

        def __iter__(self) -> Iterator[Any]:
            nonlocal now
            for _ in range(5):
                now += next(self.waits)
                yield torch.zeros(10, 3), torch.zeros(10)

    assert quickstart.cells_per_second(Batches(), seconds=2.0) == pytest.approx(1000)
