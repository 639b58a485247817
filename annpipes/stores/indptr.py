"""Where the rows of a CSR matrix begin: in the array that a matrix has in memory, or in few bytes for each row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numba
import numpy as np
from numpy.typing import NDArray

from annpipes.errors import DamageError
from annpipes.plans.rows import RowArray

__all__ = ["CompactIndptr", "Indptr", "PlainIndptr"]

_TOGETHER = 64  # rows, of which only where the first begins is kept


class Indptr(Protocol):
    """Where rows begin among the values of all."""

    @property
    def n_rows(self) -> int:
        """How many rows there are."""

    @property
    def first(self) -> int:
        """Where the first row begins."""

    @property
    def last(self) -> int:
        """Where the last row ends."""

    def begins(self, rows: RowArray) -> RowArray:
        """Where each of these rows begins; int64 ``(n,)``."""

    def lengths(self, rows: RowArray) -> RowArray:
        """How many values each of these rows has; int64 ``(n,)``."""

    def all_lengths(self) -> NDArray[Any]:
        """How many values each row has; integers ``(n_rows,)``."""

    def rows_at(self, places: Any) -> RowArray:
        """The rows that the values at these places belong to."""


class PlainIndptr:
    """An array ``(n_rows + 1,)`` as it is: what is changed in it shows."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values: NDArray[Any] = values
        self.n_rows: int = len(values) - 1

    @property
    def first(self) -> int:
        return int(self.values[0])

    @property
    def last(self) -> int:
        return int(self.values[-1])

    def begins(self, rows: RowArray) -> RowArray:
        begins: RowArray = self.values[rows].astype(np.int64, copy=False)
        return begins

    def lengths(self, rows: RowArray) -> RowArray:
        lengths: RowArray = (self.values[rows + 1] - self.values[rows]).astype(np.int64, copy=False)
        return lengths

    def all_lengths(self) -> NDArray[Any]:
        return np.diff(self.values)

    def rows_at(self, places: Any) -> RowArray:
        rows: RowArray = np.searchsorted(self.values, places, side="right") - 1
        return rows


class CompactIndptr:
    """The lengths of rows in the smallest type that holds them all, and where every 64th row begins.

    Of a matrix of cells and genes that is 2.13 bytes for each row, in place of 8.

    Parameters
    ----------
    pieces
        The array ``(n_rows + 1,)`` of integers, piece by piece.
    n_rows
        How many rows there should be.
    where
        What the array is called in messages.

    Raises
    ------
    DamageError
        It has another length, or decreases.
    """

    def __init__(self, pieces: Iterable[NDArray[Any]], n_rows: int, where: str) -> None:
        lengths, bases = [np.zeros(0, np.uint8)], [np.zeros(0, np.int64)]
        self.n_rows: int = 0
        self.first: int = 0
        self.last: int = 0
        entries = 0  # of what was read so far: a file may promise more
        for values in filter(len, pieces):
            piece = values.astype(np.int64)
            if not entries:
                self.first = self.last = int(piece[0])
            bounds = piece if not entries else np.concatenate([[self.last], piece])
            found = np.diff(bounds)
            if len(wrong := np.flatnonzero(bounds[1:] < bounds[:-1])):  # differences may overflow
                raise DamageError(f"{where} decreases after row {self.n_rows + wrong[0]}")
            lengths.append(found.astype(np.min_scalar_type(found.max(initial=0))))
            bases.append(bounds[-self.n_rows % _TOGETHER : -1 : _TOGETHER].copy())  # a view would keep all of it
            entries, self.n_rows, self.last = entries + len(piece), self.n_rows + len(found), int(piece[-1])
        if entries != n_rows + 1:
            raise DamageError(f"{where} has {entries} entries, but {n_rows} rows need one more")
        self._lengths, self._bases = np.concatenate(lengths), np.concatenate(bases)

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return self._lengths.nbytes + self._bases.nbytes

    def begins(self, rows: RowArray) -> RowArray:
        begins: RowArray = _begins(self._bases, self._lengths, np.ascontiguousarray(rows, np.int64))
        return begins

    def lengths(self, rows: RowArray) -> RowArray:
        lengths: RowArray = self._lengths[rows].astype(np.int64)
        return lengths

    def all_lengths(self) -> NDArray[Any]:
        return self._lengths

    def rows_at(self, places: Any) -> RowArray:
        wanted = np.atleast_1d(np.asarray(places, np.int64))
        return np.array([self._row_at(place) for place in wanted.tolist()], np.int64).reshape(np.shape(places))

    def _row_at(self, place: int) -> int:
        """The last row that begins at or before ``place``; rows without values begin where the next does."""
        if place >= self.last:
            return self.n_rows
        first = max(0, int(np.searchsorted(self._bases, place, side="right")) - 1) * _TOGETHER
        lengths = self._lengths[first : first + _TOGETHER].astype(np.int64)
        begins = self._bases[first // _TOGETHER] + np.cumsum(lengths) - lengths
        return first + int(np.searchsorted(begins, place, side="right")) - 1


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _begins(bases: RowArray, lengths: NDArray[Any], rows: RowArray) -> RowArray:
    begins = np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        row = rows[i]
        begin = bases[row // _TOGETHER]
        for j in range(row // _TOGETHER * _TOGETHER, row):
            begin += np.int64(lengths[j])
        begins[i] = begin
    return begins
