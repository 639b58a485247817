"""What grows with the number of rows: time to open a file and to its first batch, and the memory that stays.

The files are as large as they say and take little room: of X, only where its rows begin is written, and all of its
values are a hole, which reads as zeros. Each row has 1,000 of them; obs has integers for names and a column of labels.
Memory is what a process has that has read such a file of 10,000 rows before, so that chunks are not counted.

*8 ranks* read one such file at the same time: what each of them has of its own, and what all have together.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import annpipes as ap
import files
import measuring

PER_ROW, N_VARS, BATCH, CHUNK = 1_000, 20_000, 256, 4096
RANKS = 8
CASES = {
    **{f"{n_obs:,} rows": (n_obs, 1) for n_obs in (10**7, 5 * 10**7, 10**8)},
    f"{RANKS} ranks, 50,000,000 rows": (5 * 10**7, RANKS),
}
FIELDS = ["X", "obs/cell_type:code"]


def hollow_file(n_obs: int) -> Path:
    """An ``.h5ad`` file whose values are a hole."""
    path = files.CACHE / f"hollow-{n_obs}.h5ad"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    with h5py.File(unfinished, "w", libver="latest") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        x = _group(file, "X", "csr_matrix", shape=np.array([n_obs, N_VARS]))
        for name, dtype in (("data", np.float32), ("indices", np.int32)):
            _hole(x, name, n_obs * PER_ROW, np.dtype(dtype))
        offsets = x.create_dataset("indptr", (n_obs + 1,), np.int64)
        for first in range(0, n_obs + 1, 1 << 22):
            last = min(first + (1 << 22), n_obs + 1)
            offsets[first:last] = np.arange(first, last) * PER_ROW
        obs = _group(file, "obs", "dataframe", **{"_index": "number", "column-order": ["cell_type"]})
        obs.create_dataset("number", data=np.arange(n_obs))
        labels = _group(obs, "cell_type", "categorical", ordered=False)
        labels.create_dataset("codes", data=(np.arange(n_obs) % 12).astype(np.int8))
        labels.create_dataset("categories", data=[f"type {i}" for i in range(12)])
        var = _group(file, "var", "dataframe", **{"_index": "name", "column-order": np.zeros(0, "S1")})
        var.create_dataset("name", data=[f"gene{i}" for i in range(N_VARS)])
    unfinished.rename(path)
    return path


def _group(parent: Any, name: str, kind: str, **attributes: Any) -> Any:
    group = parent.create_group(name)
    group.attrs.update({"encoding-type": kind, "encoding-version": "0.2.0", **attributes})
    return group


def _hole(group: Any, name: str, length: int, dtype: np.dtype[Any]) -> None:
    """A contiguous dataset that has its place in the file, and was never written."""
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind, space = h5py.h5t.py_create(dtype), h5py.h5s.create_simple((length,))
    h5py.h5d.create(group.id, name.encode(), kind, space, how).close()


def measure(case: tuple[int, int], quick: bool) -> dict[str, Any]:
    rows, world_size = 10**6 if quick else case[0], case[1]
    hollow_file(rows)
    return opened(rows) if world_size == 1 else side_by_side(rows, world_size)


def side_by_side(rows: int, world_size: int) -> dict[str, Any]:
    """What each rank needs of its own, when all have read their first batch."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(world_size)
    with context.Pool(world_size, _meet, (together,)) as pool:
        found = pool.starmap(opened, [(rows, rank, world_size) for rank in range(world_size)], chunksize=1)
    return {
        "rows": rows,
        "bytes_a_row_and_rank": max(one["bytes_a_row"] for one in found),
        "seconds_to_first_batch": max(one["seconds_to_first_batch"] for one in found),
        "all_mb": sum(one["bytes_a_row"] for one in found) * rows / 1e6,
    }


_together: Any = None  # in a rank: where it waits for the others


def _meet(together: Any) -> None:
    global _together
    _together = together


def opened(rows: int, rank: int = 0, world_size: int = 1) -> dict[str, Any]:
    """What opening a file takes, and what stays."""
    path = hollow_file(rows)
    measuring.consume(ap.stream(hollow_file(10**4), BATCH, form="csr", fields=FIELDS))  # what is compiled once
    gc.collect()
    before = measuring.memory()["rss_anon_mb"]
    begin = time.perf_counter()
    ranks: dict[str, Any] = {"rank": rank, "world_size": world_size}
    loader = ap.stream(path, BATCH, form="csr", fields=FIELDS, chunk_size=CHUNK, block_size=64, prefetch=0, **ranks)
    made = time.perf_counter()
    batches = iter(loader)
    next(batches)
    first = time.perf_counter()
    peak = measuring.memory()["max_rss_mb"] - before
    if _together is not None:
        _together.wait()  # all have it at the same time
    del batches
    gc.collect()
    return {
        "rows": rows,
        "seconds_to_open": made - begin,
        "seconds_to_first_batch": first - begin,
        "bytes_a_row": (measuring.memory()["rss_anon_mb"] - before) * 1e6 / rows,
        "peak_mb": peak,
    }


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
