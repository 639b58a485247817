"""Other loaders on the same file in the same run: scDataset 0.3, and a loop over a backed AnnData.

Each case takes turns between annpipes (one chunk read ahead) and the peer; all deliver batches of
256 as CSR tensors. ``speed`` is how many times as fast annpipes is.

* scDataset gets the same blocks and fetches as many rows at once. It reads ``adata[rows]``, as its
  documentation does; ``by mask`` hands AnnData the same rows as a mask, for which AnnData has a
  faster way, so that is the best that scDataset can do on it; ``in 2 workers`` is the same in a
  `DataLoader` with two worker processes. In memory, it gets the AnnData or its matrix alone; annpipes
  gets the AnnData.
* The loop reads ``X[sorted rows]`` of ``anndata.read_h5ad(path, backed="r")``, 256 random rows at a time.

Needs ``pip install scdataset==0.3.*``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import torch
from scdataset import BlockShuffling, scDataset
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.utils.data import DataLoader

import annpipes as ap
import files
import measuring

BATCH, CHUNK = 256, 16_384

Batches = Iterator[tuple[Tensor, ...]]
Fetch = Callable[[ad.AnnData, Any], csr_matrix]


def tensors(x: csr_matrix) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(part) for part in (np.asarray(x.indptr), x.indices, x.data))


def by_rows(adata: ad.AnnData, rows: Any) -> csr_matrix:
    return adata[rows].X


def by_mask(adata: ad.AnnData, rows: Any) -> csr_matrix:
    mask = np.zeros(adata.n_obs, bool)
    mask[rows] = True  # scDataset asks in ascending order, so none is lost
    return adata[mask].X


def by_matrix(adata: ad.AnnData, rows: Any) -> csr_matrix:
    return adata.X[rows]


def scdataset(adata: ad.AnnData, rows: Any, block: int, *, fetch: Fetch, workers: int = 0) -> Callable[[], Batches]:
    dataset = scDataset(
        adata,
        BlockShuffling(block, indices=np.sort(rows)),
        batch_size=BATCH,
        fetch_factor=CHUNK // BATCH,
        fetch_callback=fetch,
        batch_transform=tensors,
        seed=0,
    )
    return DataLoader(dataset, batch_size=None, num_workers=workers).__iter__


def backed_loop(adata: ad.AnnData, rows: Any, block: int) -> Callable[[], Batches]:
    x: Any = adata.X

    def batches() -> Batches:
        for start in range(0, len(rows), BATCH):
            yield tensors(x[np.sort(rows[start : start + BATCH])])

    return batches


@dataclass(frozen=True)
class Case:
    """A peer, and how many rows it reads in some seconds."""

    peer: Callable[[ad.AnnData, Any, int], Callable[[], Batches]]
    compression: str | None
    block: int
    rows: int
    turns: int = 5
    in_memory: bool = False


DOCUMENTED, FASTEST = partial(scdataset, fetch=by_rows), partial(scdataset, fetch=by_mask)
MATRIX = partial(scdataset, fetch=by_matrix)
CASES = {
    "scDataset, gzip, blocks of 64": Case(DOCUMENTED, "gzip", 64, 2 * CHUNK),
    "scDataset by mask, gzip, blocks of 64": Case(FASTEST, "gzip", 64, 2 * CHUNK),
    "scDataset by mask in 2 workers, gzip, blocks of 64": Case(partial(FASTEST, workers=2), "gzip", 64, 4 * CHUNK),
    "scDataset, uncompressed, random rows": Case(DOCUMENTED, None, 1, 2 * CHUNK),
    "scDataset by mask, uncompressed, random rows": Case(FASTEST, None, 1, 2 * CHUNK),
    "scDataset by mask in 2 workers, uncompressed, random rows": Case(partial(FASTEST, workers=2), None, 1, 4 * CHUNK),
    "backed AnnData, gzip, random rows": Case(backed_loop, "gzip", 1, 16 * BATCH),
    "backed AnnData, uncompressed, random rows": Case(backed_loop, None, 1, 128 * BATCH),
    "scDataset, in memory, random rows": Case(DOCUMENTED, None, 1, 4 * CHUNK, in_memory=True),
    "scDataset on the matrix, in memory, random rows": Case(MATRIX, None, 1, 4 * CHUNK, in_memory=True),
    "scDataset on the matrix, in memory, blocks of 64": Case(MATRIX, None, 64, 4 * CHUNK, in_memory=True),
}


def measure(case: Case, quick: bool) -> dict[str, Any]:
    n_obs, turns = (20_000, 2) if quick else (200_000, case.turns)
    path = files.sparse_file(n_obs, case.compression)
    rows = measuring.sample_rows(n_obs, case.block, 4 * CHUNK)
    peer_rows = rows[: 4 * BATCH if quick else case.rows]
    adata = ad.read_h5ad(path, backed=None if case.in_memory else "r")
    data: Path | ad.AnnData = adata if case.in_memory else path
    loader = ap.stream(data, BATCH, rows=rows, form="csr", block_size=case.block, chunk_size=CHUNK)
    batches = case.peer(adata, peer_rows, case.block)
    contenders = {"annpipes": partial(measuring.consume, loader), "peer": lambda: sum(1 for _ in batches())}
    times = measuring.interleaved(contenders, turns, partial(measuring.warm, path))
    rates = times.rate("annpipes", len(rows)), times.rate("peer", len(peer_rows))
    return {
        "file": path.name,
        "turns": turns,
        "cells_per_second": rates[0],
        "peer_cells_per_second": rates[1],
        "speed": rates[0] / rates[1],
    }


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
