"""A plain DataLoader over a pipe: every row once over all workers, a new order each epoch, in every mode."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import anndata
import pytest
import torch
from builders import dense
from contracts import all_rows, rows_seen
from torch.utils.data import DataLoader

from annpipes import IndexSource, Log1p, NormalizeTotal

MODES = [
    pytest.param({"num_workers": 0}, id="no workers"),
    *(
        pytest.param(
            {"num_workers": 2, "multiprocessing_context": start, "persistent_workers": persistent},
            id=f"{start}{' persistent' if persistent else ''}",
        )
        for start, persistent in [("fork", False), ("fork", True), ("spawn", True), ("forkserver", False)]
    ),
]
"""Processes that spawn take seconds to begin, so not every combination of them is there."""


def pipe_of(path: Path) -> Any:
    pipe = IndexSource(path, block_size=2).shuffle_blocks().sort_within_chunks(6)
    return pipe.read_rows(["X", "rows", "obs/donor", "obs/int64"]).batch_rows(4).transform(Log1p()).collate_rows()


@pytest.mark.parametrize("mode", MODES)
def test_every_row_once_and_a_new_order_each_epoch(h5ad: Path, mode: dict[str, Any]) -> None:
    loader = DataLoader(pipe_of(h5ad), batch_size=None, **mode)
    adata = anndata.read_h5ad(h5ad)
    expected = torch.log1p(torch.from_numpy(dense(adata.X)))
    orders = []
    for _ in range(2):
        batches = list(loader)
        orders.append(tuple(all_rows(batches)))
        for batch in batches:
            rows = batch["rows"]
            torch.testing.assert_close(batch["X"], expected[rows])
            assert batch["obs_donor"] == adata.obs["donor"].iloc[rows].tolist()
            assert batch["obs_int64"].tolist() == adata.obs["int64"].iloc[rows].tolist()
    assert all(sorted(order) == list(range(29)) for order in orders)
    assert len(set(orders)) == 2


def test_workers_read_different_chunks_of_one_order(h5ad: Path) -> None:
    # What a worker reads are whole chunks of the order that all workers share; two orders would repeat rows.
    pipe = IndexSource(h5ad, block_size=2).shuffle_blocks().sort_within_chunks(6)
    for workers in (1, 2, 3):
        chunks = [tuple(rows_seen(chunk)) for chunk in DataLoader(pipe, batch_size=None, num_workers=workers % 3)]
        assert sorted(map(len, chunks)) == [5, 6, 6, 6, 6]
        assert Counter(row for chunk in chunks for row in chunk) == Counter(range(29))


@pytest.mark.parametrize("workers", [0, 2])
def test_torchs_seed_repeats_a_run(h5ad: Path, workers: int) -> None:
    def run() -> list[list[int]]:
        torch.manual_seed(11)
        loader = DataLoader(pipe_of(h5ad), batch_size=None, num_workers=workers)
        return [all_rows(loader) for _ in range(2)]

    assert run() == run()


def test_a_generator_of_ones_own_repeats_a_run(h5ad: Path) -> None:
    def run() -> list[int]:
        return all_rows(DataLoader(pipe_of(h5ad), batch_size=None, generator=torch.Generator().manual_seed(4)))

    assert run() == run()


def test_one_pipe_serves_loaders_with_and_without_workers_in_turn(h5ad: Path) -> None:
    pipe = pipe_of(h5ad)
    for workers in (2, 0, 2, 0):
        assert sorted(all_rows(DataLoader(pipe, batch_size=None, num_workers=workers))) == list(range(29))
    assert sorted(all_rows(pipe)) == list(range(29))


def test_more_workers_than_chunks(h5ad: Path) -> None:
    pipe = IndexSource(h5ad).shuffle_blocks().sort_within_chunks(100).read_rows(["rows"]).batch_rows(4).collate_rows()
    assert sorted(all_rows(DataLoader(pipe, batch_size=None, num_workers=2))) == list(range(29))


def test_data_in_memory_and_backed_cross_to_workers(h5ad: Path) -> None:
    backed = anndata.read_h5ad(h5ad, backed="r")
    for data in (anndata.read_h5ad(h5ad), anndata.read_h5ad(h5ad)[::-1], backed):
        pipe = IndexSource(data).shuffle_blocks().sort_within_chunks(6).read_rows(["X", "rows"]).batch_rows(4)
        pipe = pipe.transform(NormalizeTotal(1)).collate_rows("csr")
        seen = list(DataLoader(pipe, batch_size=None, num_workers=2))
        assert sorted(all_rows(seen)) == list(range(29))
        totals = torch.cat([batch["X"].to_dense().sum(dim=1) for batch in seen])
        assert set(totals.round(decimals=4).tolist()) == {0.0, 1.0}
    backed.file.close()


def test_a_pass_that_is_given_up_does_no_harm(h5ad: Path) -> None:
    loader = DataLoader(pipe_of(h5ad), batch_size=None, num_workers=2, persistent_workers=True)
    for _ in range(3):
        next(iter(loader))
    assert sorted(all_rows(loader)) == list(range(29))
