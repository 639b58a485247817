"""An AnnData in memory against what one writes by hand over the same matrix, and against its uncompressed file.

``scipy`` is a loop that takes random rows of the CSR matrix, ``torch.from_numpy(X[rows].toarray())`` where batches are
dense. CSR batches are those of a whole epoch, the others those of a part. By hand means a Dataset whose ``__getitem__``
makes a dense tensor of one row, in a `DataLoader` with default collate. ``single`` is ``AnnDataset[i]``, in
microseconds. AnnLoader is anndata's own.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import anndata as ad
import numpy as np
import torch
from anndata.experimental import AnnLoader
from scipy.sparse import csr_matrix
from torch.utils.data import DataLoader, Dataset

import annpipes as ap
import files
import measuring

BATCH, CHUNK = 256, 16_384
CASES = ["CSR", "dense", "Dataset", "Dataset in 2 workers"]
Pass = Callable[[], Any]


class ByHand(Dataset):  # type: ignore[type-arg] # of tensors
    """What one writes first."""

    def __init__(self, x: csr_matrix) -> None:
        self.x = x

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.from_numpy(self.x[row].toarray()[0])


def by_scipy(x: csr_matrix, rows: Any, *, dense: bool) -> Iterator[Any]:
    for first in range(0, len(rows), BATCH):
        part = x[rows[first : first + BATCH]]
        if dense:
            yield torch.from_numpy(part.toarray())
        else:
            yield tuple(map(torch.from_numpy, (part.indptr, part.indices, part.data)))


def streams(adata: ad.AnnData, path: Any, rows: Any, form: str) -> dict[str, Pass]:
    stream = partial(ap.stream, batch_size=BATCH, rows=rows, form=form, block_size=1, chunk_size=CHUNK)
    x, shuffled = adata.X, np.random.default_rng(1).permutation(rows)
    return {
        "annpipes": partial(measuring.consume, stream(adata)),
        "file": partial(measuring.consume, stream(path)),
        "scipy": lambda: [None for _ in by_scipy(x, shuffled, dense=form == "dense")],
    }


def datasets(adata: ad.AnnData, rows: Any, workers: int) -> dict[str, Pass]:
    ours = ap.AnnDataset(adata, rows=rows, fields=["X"])
    how: dict[str, Any] = {"batch_size": BATCH, "shuffle": True, "num_workers": workers}
    loaders = {
        "annpipes": ours.get_optimized_dataloader(**how),
        "default collate": DataLoader(ours, **how),
        "by hand": DataLoader(torch.utils.data.Subset(ByHand(adata.X), rows), **how),
    }
    if not workers:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = AnnLoader(adata[rows], batch_size=BATCH, shuffle=True)
    passes: dict[str, Pass] = {name: partial(_consumed, loader) for name, loader in loaders.items()}
    return passes if workers else {**passes, "AnnLoader": lambda: [batch.X for batch in theirs]}  # read when asked for


def _consumed(loader: Any) -> int:
    return sum(1 for _ in loader)


def single(adata: ad.AnnData) -> float:
    """Microseconds for one cell with its obs."""
    dataset, seconds = ap.AnnDataset(adata), []
    for row in range(2000):
        begin = time.perf_counter()
        dataset[row]
        seconds.append(time.perf_counter() - begin)
    return median(seconds[100:]) * 1e6


def measure(case: str, quick: bool) -> dict[str, Any]:
    n_obs, turns = (20_000, 2) if quick else (200_000, 7)
    path = files.sparse_file(n_obs, None)
    adata = ad.read_h5ad(path)
    count = {"CSR": n_obs, "dense": 64 * BATCH}.get(case, 16 * BATCH) // (8 if quick else 1)
    rows = measuring.sample_rows(n_obs, 1, count)
    if case in ("CSR", "dense"):
        contenders = streams(adata, path, rows, case.lower())
    else:
        contenders = datasets(adata, rows, 2 if "workers" in case else 0)
    times = measuring.interleaved(contenders, turns, lambda: measuring.warm(path))
    found: dict[str, Any] = {"turns": turns, "cells_per_second": times.rate("annpipes", len(rows))}
    for name in contenders:
        if name != "annpipes":
            found[f"times {name}"] = times.speed("annpipes", name)
            found[f"times {name}, spread"] = times.spread("annpipes", name)
    if case == "Dataset":
        found["default collate, times by hand"] = times.speed("default collate", "by hand")
        found["single_microseconds"] = single(adata)
    return found


if __name__ == "__main__":
    measuring.main({name: name for name in CASES}, measure, __doc__)
