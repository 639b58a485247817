"""One loader of each sampler, over the same cells."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from builders import tiny, write
from numpy.typing import NDArray

from annpipes import IndexSource, Loader, SourceMixer

N, OTHER = 101, 45


BATCH = 8
"""A multiple of the four rows of a set with its controls."""


def cells(n: int, first: int = 0) -> anndata.AnnData:
    """Numbered cells ``first … first+n-1`` with types, donors and weights."""
    adata = tiny(first + n)[first:].copy()
    types = np.array(["T", "T", "T", "T", "B", "control", "control", None], object)[np.arange(n) % 8]
    adata.obs["cell_type"] = pd.Categorical(types)
    adata.obs["donor"] = pd.Categorical(np.array(["d1", "d2", "d3"], object)[np.arange(n) % 3])
    adata.obs["quality"] = 1.0 + np.arange(n) % 4
    return adata


def ends(epoch: int, n: int) -> NDArray[np.float64]:
    """Weights that move on with the epoch."""
    return 1.0 + (np.arange(n) + epoch) % 5


def source_of(data: Any, **options: Any) -> IndexSource:
    return IndexSource(data, block_size=4, **options)


def mixed(data: tuple[Any, Any]) -> SourceMixer:
    sources = {"main": source_of(data[0]).shuffle_blocks(), "other": source_of(data[1]).shuffle_blocks()}
    return SourceMixer(sources, {"main": 0.7, "other": 0.3})


def mixed_samplers(data: tuple[Any, Any]) -> SourceMixer:
    sources = {
        "main": source_of(data[0]).sample_rows(balance="cell_type"),
        "other": source_of(data[1]).sample_rows(weights=partial(ends, n=OTHER), num_rows=20),
    }
    return SourceMixer(sources, {"main": 1, "other": 1}, until="first")


CONTROLS = {"control": "cell_type == 'control'", "match": "donor"}


SAMPLERS: dict[str, Callable[[tuple[Any, Any]], Any]] = {
    "shuffle": lambda data: source_of(data[0]).shuffle_blocks(),
    "weights": lambda data: source_of(data[0]).sample_rows(weights="quality"),
    "balance": lambda data: source_of(data[0]).sample_rows(balance="cell_type", temperature=0.5, num_rows=90),
    "blocks": lambda data: source_of(data[0]).sample_rows(weights="quality", unit="blocks"),
    "weights by epoch": lambda data: source_of(data[0]).sample_rows(weights=partial(ends, n=N)),
    "groups": lambda data: source_of(data[0]).sample_groups("cell_type", 4),
    "groups repeated": lambda data: source_of(data[0]).sample_groups(["cell_type", "donor"], 4, short="repeat"),
    "groups replaced": lambda data: source_of(data[0]).sample_groups("cell_type", 4, replace=True),
    "controls": lambda data: source_of(data[0]).sample_groups(["cell_type", "donor"], 2, **CONTROLS),
    "controls replaced": lambda data: source_of(data[0]).sample_groups(
        ["cell_type", "donor"], 2, replace=True, num_sets=25, **CONTROLS
    ),
    "mixture": mixed,
    "mixture of samplers": mixed_samplers,
}
"""Every way to order an epoch, by name."""


SHARED = cells(N), cells(OTHER, N)


by_sampler = pytest.mark.parametrize("name", SAMPLERS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("samplers")
    return write(SHARED[0], folder / "main.h5ad", "gzip"), write(SHARED[1], folder / "other.h5ad", "gzip")


def loader_of(name: str, data: tuple[Any, Any] = SHARED, batch_size: int = BATCH, **options: Any) -> Loader:
    """Batches of 8 in chunks of 24, or whatever else."""
    read = SAMPLERS[name](data).sort_within_chunks(options.pop("chunk_size", 24)).read_rows(["X", "rows"])
    batched = read.batch_rows(batch_size, drop_last=options.pop("drop_last", False))
    if name.startswith("controls") and batch_size % 4 == 0:
        batched = batched.pair_controls()
    return Loader(batched.collate_rows(), **options)


def ids(batches: Any) -> list[list[int]]:
    """The rows of each batch, controls behind them, each with its own values."""
    seen = []
    for batch in batches:
        rows = torch.cat([batch[key] for key in ("rows", "control_rows") if key in batch])
        values = torch.cat([batch[key] for key in ("X", "control_X") if key in batch])
        assert torch.equal(values[:, 0], 100.0 * rows)
        seen.append(rows.tolist())
    return seen


@cache
def whole_run(name: str, epochs: int = 3) -> list[list[list[int]]]:
    """Some epochs by the simplest means: no worker, nothing read ahead, data in memory."""
    loader = loader_of(name, prefetch=0)
    return [ids(loader) for _ in range(epochs)]


def joined(parts: Any) -> list[Any]:
    return [item for part in parts for item in part]
