"""What columns cost a bare loop: rows copied whole, with chosen columns alone, and with other column numbers.

All rows of a file's first 60,000 in random order, out of memory and into memory that was used before, with as many
threads as annpipes decodes with, each doing its share of the rows in one loop. Nothing is counted beforehand and
nothing is copied twice, and columns of ``checked`` are compared with the width of the matrix before a table is asked
for them, as those of a mapped file must be. Speeds are times that of ``copied``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import anndata as ad
import numba
import numpy as np
from numpy.typing import NDArray

import files
import measuring
from annpipes.stores.compiled.kernels import memcpy

ROWS, KEPT = 60_000, 2_000
CASES = ["2,000 most common genes", "all genes in another order"]


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def copied(indices: Any, data: Any, indptr: Any, rows: Any, out: Any, out_data: Any) -> int:
    to = 0
    for row in rows:
        first, length = indptr[row], indptr[row + 1] - indptr[row]
        memcpy(out.ctypes.data + to * 4, indices.ctypes.data + first * 4, length * 4)
        memcpy(out_data.ctypes.data + to * 4, data.ctypes.data + first * 4, length * 4)
        to += length
    return to


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def chosen(indices: Any, data: Any, indptr: Any, rows: Any, out: Any, out_data: Any, columns: Any) -> int:
    to, one = np.uint64(0), np.uint64(1)
    for row in rows:
        place, end = np.uint64(indptr[row]), np.uint64(indptr[row + 1])
        while place < end:
            column = columns[indices[place]]
            out[to], out_data[to] = column, data[place]
            to += np.uint64(column >= 0)
            place += one
    return int(to)


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def checked(indices: Any, data: Any, indptr: Any, rows: Any, out: Any, out_data: Any, columns: Any) -> int:
    to, one, width = np.uint64(0), np.uint64(1), np.uint64(len(columns))
    for row in rows:
        place, end = np.uint64(indptr[row]), np.uint64(indptr[row + 1])
        while place < end:
            index = np.uint64(indices[place])
            if index >= width:
                return -1
            column = columns[index]
            out[to], out_data[to] = column, data[place]
            to += np.uint64(column >= 0)
            place += one
    return int(to)


def measure(case: str, quick: bool) -> dict[str, Any]:
    x = ad.read_h5ad(files.sparse_file(20_000 if quick else 200_000, None), backed="r").X[: 5_000 if quick else ROWS]
    indices, rng = x.indices.view("u4"), np.random.default_rng(0)
    if case == CASES[0]:
        common = np.argsort(-np.bincount(x.indices, minlength=x.shape[1]))[:KEPT]
        columns = np.full(x.shape[1], -1, np.int16)
        columns[np.sort(common)] = np.arange(KEPT)
    else:
        columns = rng.permutation(x.shape[1]).astype(np.int16)
    parts = np.array_split(rng.permutation(x.shape[0]), measuring.THREADS)
    indptr = x.indptr.astype(np.int64)
    sizes = [int((indptr[rows + 1] - indptr[rows]).sum()) for rows in parts]
    outs: list[tuple[NDArray[Any], NDArray[Any]]] = [(np.empty(n, "u4"), np.empty(n, x.data.dtype)) for n in sizes]
    executor = ThreadPoolExecutor(measuring.THREADS)

    def run(loop: Any, *table: Any) -> None:
        parts_of_it = zip(parts, outs, strict=True)
        begun = [executor.submit(loop, indices, x.data, indptr, rows, *out, *table) for rows, out in parts_of_it]
        assert all(one.result() >= 0 for one in begun)

    contenders = {
        "copied": partial(run, copied),
        "chosen": partial(run, chosen, columns),
        "checked": partial(run, checked, columns),
    }
    for one in contenders.values():
        one()  # compiled
    times = measuring.interleaved(contenders, 3 if quick else 15, lambda: None)
    return {
        "kept_share": float(np.mean(columns[x.indices] >= 0)),
        "copied_values_per_second": times.rate("copied", sum(sizes)),
        **{f"{name}_speed": times.speed(name, "copied") for name in ("chosen", "checked")},
        **{f"{name}_spread": times.spread(name, "copied") for name in ("chosen", "checked")},
    }


if __name__ == "__main__":
    measuring.main({case: case for case in CASES}, measure, __doc__)
