"""Sparse rows made dense, by all threads and in memory that was used before."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import DamageError, FormatError
from annpipes.stores.compiled.kernels import add_rows
from annpipes.stores.engine.pools import Work, empty, run
from annpipes.types import SparseRows

__all__ = ["densifiable", "densify"]

_PART_BYTES = 4 << 20
_WIDEST = np.iinfo(np.int32).max


def densify(rows: SparseRows) -> NDArray[np.float32]:
    """A float32 array ``(n, n_vars)``: what `SparseRows.to_dense` gives, several times faster."""
    _refuse_wide(rows)
    out: NDArray[np.float32] = empty(rows.shape, np.float32)
    step, data = max(1, _PART_BYTES // (4 * rows.n_vars or 1)), rows.data.astype(np.float32, copy=False)
    if len(rows) <= step:
        _fill(rows, data, out, 0, len(rows))
    else:
        parts = pairwise([*range(0, len(rows), step), len(rows)])
        run(Work([partial(_fill, rows, data, out, *part) for part in parts]))
    return np.minimum(out, 1, out=out) if rows.data.dtype == bool else out  # True and True is True


def densifiable(rows: SparseRows) -> SparseRows:
    """The rows as any device can make them dense by adding values: all columns are there, and booleans stand once."""
    _refuse_wide(rows)
    columns = rows.indices
    if len(columns) and not 0 <= int(columns.min()) <= int(columns.max()) < rows.n_vars:
        raise DamageError(f"a batch has a column outside of 0 … {rows.n_vars - 1}")
    return rows.without_duplicates() if rows.data.dtype == bool else rows


def _refuse_wide(rows: SparseRows) -> None:
    if rows.n_vars > _WIDEST:
        raise FormatError(
            f"rows of {rows.n_vars:,} columns are too wide to be made dense ({4 * rows.n_vars:,} bytes each): "
            f"ask for form='csr'"
        )


def _fill(rows: SparseRows, data: NDArray[np.float32], out: NDArray[np.float32], start: int, stop: int) -> None:
    wrong = add_rows(data, rows.indices, rows.indptr, start, stop, out)
    if wrong >= 0:
        raise DamageError(f"row {wrong} of a batch has a column outside of 0 … {rows.n_vars - 1}")
