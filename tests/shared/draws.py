"""Draws counted, and compared with what weights and classes promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import torch
from builders import tiny
from contracts import StageContract, all_rows
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare
from torch.utils.data import DataLoader

from annpipes.plans.mixture import Mixed
from annpipes.plans.order import BlockShuffled, InOrder
from annpipes.plans.weighted import Weighted

RARE = 1e-5
"""Keys are fixed, so a test passes always or never; a fair draw fails one in a hundred thousand such tests."""


DRAWN = 40_000


ROUND = 4096


def check_shares(counts: Any, shares: Any) -> None:
    """What was counted came as often as its share says, and what has none never."""
    counts, shares = np.asarray(counts), np.asarray(shares, float)
    assert not counts[shares == 0].any()
    drawable = shares > 0
    if np.count_nonzero(drawable) > 1:
        wanted = shares[drawable] / shares.sum() * counts.sum()
        assert chisquare(counts[drawable], wanted).pvalue > RARE


def drawn(plan: Any, key: tuple[int, ...] = (0, 0)) -> NDArray[np.int64]:
    """A whole epoch."""
    return plan.epoch(key).rows(0, plan.n_rows)


def weighted(weights: Any, n_rows: int = DRAWN, block_size: int = 1) -> Weighted:
    weights = np.asarray(weights, float)
    return Weighted(InOrder(range(len(weights)), max(2, block_size)), weights, n_rows, block_size)


def with_labels() -> anndata.AnnData:
    """60 cells: 40 T, 15 B, 3 NK, 2 without a type; donors in turn; a column of weights."""
    adata = tiny(60)
    types = np.array(["T"] * 40 + ["B"] * 15 + ["NK"] * 3 + [None] * 2, object)
    adata.obs["cell_type"] = pd.Categorical(types, ["B", "never seen", "NK", "T"])
    adata.obs["donor"] = pd.Categorical(np.array(["d1", "d2", "d3"])[np.arange(60) % 3])
    adata.obs["batch"] = pd.Categorical(np.where(np.arange(60) % 7 == 2, None, "b"), ["b"])
    adata.obs["lane"] = pd.Categorical(np.array([10, 2])[np.arange(60) % 2])
    adata.obs["quality"] = np.linspace(0, 1, 60)
    adata.obs["good"] = np.arange(60) % 4 == 0
    adata.obs["nothing"] = pd.Categorical([None] * 60, ["a"])
    adata.obs["minus"] = -1.0
    adata.obs["absent"] = np.where(np.arange(60) == 7, np.nan, 1.0)
    return adata


LABELLED = with_labels()


def mixed(shares: Any, n_rows: int = 3 * ROUND, children: Any = None) -> Mixed:
    """Sources of 100, 1,000 and 700 rows, and so on."""
    shares = np.asarray(shares) / np.sum(shares)
    sizes = [100, 1000, 700, 50, 333, 8][: len(shares)]
    plans = children or [BlockShuffled(InOrder(range(size), 8)) for size in sizes]
    return Mixed(plans, [10_000 * number for number in range(len(shares))], shares.tolist(), n_rows)


class WithReplacement(StageContract):
    """A stage that draws rows with replacement: an epoch has its number of rows, not each of them once."""

    shuffled = True

    def n_rows(self, path: Path) -> int:
        return 29

    def complete(self, pipe: Any) -> Any:
        return pipe.sort_within_chunks(6)

    def test_every_row_once(self, h5ad: Path) -> None:
        rows = all_rows(self.chained(h5ad))
        assert len(rows) == self.n_rows(h5ad)
        assert len(set(rows)) < len(rows)

    def test_same_rows_for_0_and_2_workers(self, h5ad: Path) -> None:
        seen = []
        for workers in (0, 2):
            pipe, generator = self.complete(self.chained(h5ad)), torch.Generator().manual_seed(3)
            loader = DataLoader(pipe, batch_size=None, num_workers=workers, generator=generator)
            seen.append(sorted(all_rows(loader)))
        assert seen[0] == seen[1]
        assert len(seen[0]) == self.n_rows(h5ad)


def check_slices(plan: Any, key: tuple[int, ...], data: Any) -> None:
    whole = drawn(plan, key)
    epoch = plan.epoch(key)
    assert len(whole) == plan.n_rows
    for _ in range(4):
        start = data.draw(st.integers(0, plan.n_rows))
        stop = data.draw(st.integers(start, plan.n_rows))
        span = epoch.rows(start, stop)
        assert span.dtype == np.int64
        assert span.tolist() == whole[start:stop].tolist()
