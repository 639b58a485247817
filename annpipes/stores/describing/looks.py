"""A look at a few rows of a field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.messages.reporting import Report
from annpipes.plans.rows import RowArray
from annpipes.stores.engine.scanning import TWICE, UNSORTED, flags_of_columns
from annpipes.stores.protocol import MatrixReader
from annpipes.types import Chunk, SparseRows

__all__ = ["Sample", "sample_of", "sample_of_text", "sampled_rows"]

_STRETCHES, _STRETCH_ROWS = 16, 16
_TEXT_ROWS = 128
_MOST_BYTES = 128 << 20  # to be decoded for a look


@dataclass(frozen=True)
class Sample(Report):
    """What a few rows showed; the rest may be otherwise.

    Parameters
    ----------
    rows
        How many were looked at.
    zeros
        Share of the values that are zero, those not stored included.
    whole, largest
        Whether all values are whole numbers, and the largest magnitude.
    negative_row, nan_row, unsorted_row, twice_row
        The first row with a negative value, with NaN or an infinite one, with columns that do not ascend, with
        a column that is stored twice; None where there is none.
    different
        Of text: how many different values there are.
    text_bytes
        Of text: what a value takes on average.
    """

    rows: int
    zeros: float | None = None
    whole: bool | None = None
    largest: float | None = None
    negative_row: int | None = None
    nan_row: int | None = None
    unsorted_row: int | None = None
    twice_row: int | None = None
    different: int | None = None
    text_bytes: float | None = None


def sampled_rows(n_obs: int, stretches: int = _STRETCHES, length: int = _STRETCH_ROWS) -> RowArray:
    """Short stretches of rows all over the file, the first and the last rows among them; all rows if they are few.

    >>> sampled_rows(100, 3, 2).tolist(), sampled_rows(3, 3, 2).tolist()
    ([0, 1, 49, 50, 98, 99], [0, 1, 2])
    """
    if n_obs <= stretches * length:
        return np.arange(n_obs)
    firsts = np.linspace(0, n_obs - length, stretches).astype(np.int64)
    return np.unique((firsts[:, None] + np.arange(length)).ravel())


def sample_of(reader: MatrixReader, storage_chunk_bytes: int) -> Sample | None:
    """A look at a matrix, or None where even a few rows would need too much to be decoded."""
    most = _MOST_BYTES // max(1, 4 * storage_chunk_bytes)  # two of values, and as many of columns
    if not most or reader.row_bytes > _MOST_BYTES:
        return None
    length = int(min(_STRETCH_ROWS, max(1, _MOST_BYTES / _STRETCHES // max(1.0, reader.row_bytes))))
    rows = sampled_rows(reader.shape[0], max(1, min(_STRETCHES, most)), length)
    found = reader.read(Chunk(rows, np.arange(len(rows))))
    values = found.data if isinstance(found, SparseRows) else found
    known = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    size = len(rows) * reader.shape[1]
    place = _row_of(found, rows)
    columns = _column_flags(found) if isinstance(found, SparseRows) else None
    return Sample(
        rows=len(rows),
        zeros=float(1 - np.count_nonzero(values) / size) if size else None,
        whole=bool((known == np.rint(known)).all()) if known.dtype.kind == "f" else True,
        largest=float(np.abs(known.astype(np.float64)).max()) if known.size else None,
        negative_row=place(values < 0) if values.dtype.kind in "if" else None,
        nan_row=place(~np.isfinite(values)) if values.dtype.kind == "f" else None,
        unsorted_row=None if columns is None else _first(rows, columns & UNSORTED),
        twice_row=None if columns is None else _first(rows, columns & TWICE),
    )


def sample_of_text(length: int, read: Callable[[int, int], Sequence[str]]) -> Sample:
    """A look at a column of so many strings, of which ``read`` gives those from a first one up to an end."""
    rows = sampled_rows(length, _STRETCHES, _TEXT_ROWS)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(rows) != 1) + 1, [len(rows)]]).tolist()
    parts = [rows[first:last] for first, last in pairwise(edges) if last > first]
    values = [value for part in parts for value in read(int(part[0]), int(part[-1]) + 1)]
    size = sum(len(value.encode()) for value in values) / max(1, len(values))
    return Sample(rows=len(values), different=len(set(values)), text_bytes=size)


def _row_of(found: NDArray[Any] | SparseRows, rows: RowArray) -> Callable[[NDArray[np.bool_]], int | None]:
    """A function that gives the first row with a value for which something is true."""

    def place(true: NDArray[np.bool_]) -> int | None:
        if isinstance(found, SparseRows):
            wrong = np.flatnonzero(true)
            return int(rows[np.searchsorted(found.indptr, wrong[0], side="right") - 1]) if len(wrong) else None
        return _first(rows, np.any(true, axis=1))

    return place


def _column_flags(found: SparseRows) -> NDArray[np.uint8]:
    return flags_of_columns(found.indices, found.indptr, found.n_vars)


def _first(rows: RowArray, true: NDArray[Any]) -> int | None:
    wrong = np.flatnonzero(true)
    return int(rows[wrong[0]]) if len(wrong) else None
