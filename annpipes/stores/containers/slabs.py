"""Some rows of a dataset, read by HDF5 in slabs of bounded size."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from annpipes.plans.rows import RowArray

__all__ = ["row_bytes_of", "rows_in_slabs"]

_SLAB_BYTES = 64 << 20
_STRING_BYTES = 250  # of a Python string with its place in an array, generously


def row_bytes_of(shape: tuple[int, ...], dtype: np.dtype[Any], *, text: bool = False) -> int:
    """Memory that a row of this shape takes, at least 1."""
    return int(np.prod(shape, dtype=np.int64)) * (_STRING_BYTES if text else dtype.itemsize) + 1


def rows_in_slabs(
    dataset: h5py.Dataset, rows: RowArray, *, text: bool = False, dtype: DTypeLike | None = None
) -> NDArray[Any]:
    """Ascending ``rows`` of a dataset, ``(n, …)``; what is ``text`` as strings."""
    values = np.empty((len(rows), *dataset.shape[1:]), object if text else dtype or dataset.dtype)
    source = dataset.asstr() if text else dataset
    step = max(1, _SLAB_BYTES // row_bytes_of(dataset.shape[1:], values.dtype, text=text))
    slabs = [*range(0, len(dataset), step), len(dataset)]
    for (first, last), (start, stop) in zip(pairwise(slabs), pairwise(np.searchsorted(rows, slabs)), strict=True):
        if start < stop:
            values[start:stop] = source[first:last][rows[start:stop] - first]
    return values
