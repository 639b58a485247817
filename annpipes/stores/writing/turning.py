"""Matrices stored by columns, written by rows in bounded memory.

The first pass counts the values of each row, the second puts them in their places; if the values of all rows do not
fit in memory, the second pass is repeated for one share of the rows after the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import h5py
import numba
import numpy as np
from numpy.typing import NDArray

from annpipes.errors import FormatError
from annpipes.plans.rows import RowArray
from annpipes.stores.base import FieldStore
from annpipes.stores.containers.base import Container
from annpipes.stores.containers.hdf5 import Hdf5File
from annpipes.stores.engine.elements import Dataset, open_dataset
from annpipes.stores.engine.pieces import Spans
from annpipes.stores.engine.pools import Work, run
from annpipes.stores.h5ad import H5adStore
from annpipes.stores.indptr import CompactIndptr, PlainIndptr
from annpipes.stores.matrices import CsrRows, refuse_lost
from annpipes.stores.protocol import is_matrix_field
from annpipes.stores.routes import Route
from annpipes.stores.surveying import SPARSE
from annpipes.stores.writing.parts import finish
from annpipes.stores.zarr import ZarrStore

__all__ = ["TurnedRows", "turn_columns"]

_STRETCH = 4 << 20  # values that are looked at together


def turn_columns(store: FieldStore, folder: str, number: int, without: Any) -> list[TurnedRows]:
    """Let a store read matrices that it holds by columns, unless left out, from files in ``folder`` with their rows."""
    assert isinstance(store, H5adStore | ZarrStore)
    turned = list[TurnedRows]()
    for field in store.fields:
        if is_matrix_field(field) and not without(field):
            path = store.path_of(field)
            element = store.described(path)
            if SPARSE.get(element.encoding) == "csc" and element.shape is not None:
                name = os.path.join(folder, f"by-rows-{number}-{len(turned)}.h5")
                rows = TurnedRows(store.container, field, path, (int(element.shape[0]), int(element.shape[1])), name)
                store.read_by(field, rows)
                turned.append(rows)
    return turned


class TurnedRows(CsrRows):
    """The rows of a CSC matrix, once `make` has written them.

    Parameters
    ----------
    container, field, path, shape
        Where the matrix is, what it is called, and its sides.
    file
        What is written.
    """

    def __init__(self, container: Container, field: str, path: str, shape: tuple[int, int], file: str) -> None:
        self.field: str = field
        self.file: str = file
        where = f"{path} of {container.path}"
        pieces = list(container.numbers(f"{path}/indptr"))
        begins = np.concatenate(pieces or [np.zeros(0, np.int64)])
        self.columns: NDArray[np.int64] = begins.astype(np.int64)  # (n_vars + 1,)
        indptr = CompactIndptr(pieces, shape[1], f"{path}/indptr of {container.path}")
        data, indices = (open_dataset(container, f"{path}/{part}", indptr) for part in ("data", "indices"))
        if len(data.shape) != 1 or data.shape != indices.shape or indices.dtype.kind not in "iu":
            raise FormatError(f"{where} has values and rows that do not fit together")
        by_columns = CsrRows(data, indices, indptr, shape[::-1], f"{path}/indptr of {container.path}")
        refuse_lost(container, path, by_columns)
        self.source: tuple[Dataset, Dataset] = by_columns.data, by_columns.indices
        self.bounds: NDArray[np.int64] = np.concatenate([[0], np.cumsum(self._counts(shape[0]))])  # (n_obs + 1,)
        kind = np.dtype(np.int32) if shape[1] < 2**31 else np.dtype(np.int64)
        later = [_Later(self, part, dtype) for part, dtype in (("data", data.dtype), ("indices", kind))]
        super().__init__(later[0], later[1], PlainIndptr(self.bounds), shape, where, container=container)

    @property
    def bytes(self) -> int:
        """What the written file takes."""
        return int(self.bounds[-1]) * (self.dtype.itemsize + self.index_dtype.itemsize)

    @cached_property
    def written(self) -> Hdf5File:
        """The file, once it is there."""
        return Hdf5File(self.file)

    def make(self, memory: int) -> None:
        """Write the file within ``memory`` bytes, unless that was done before."""
        if os.path.exists(self.file):
            return
        with h5py.File(f"{self.file}.new", "w") as file:
            for name, dtype in (("data", self.dtype), ("indices", self.index_dtype)):
                file.create_dataset(name, (int(self.bounds[-1]),), dtype)
            for first, last in self._shares(memory // 2 // (self.dtype.itemsize + self.index_dtype.itemsize)):
                data, indices = self._rows(first, last)
                begin, end = self.bounds[[first, last]].tolist()
                file["data"][begin:end], file["indices"][begin:end] = data, indices
        finish(f"{self.file}.new", self.file)

    def _shares(self, most: int) -> Iterator[tuple[int, int]]:
        """Rows that together have at most so many values; at least one."""
        first = 0
        while first < self.shape[0]:
            last = int(np.searchsorted(self.bounds, self.bounds[first] + max(1, most), side="right")) - 1
            last = min(max(last, first + 1), self.shape[0])
            yield first, last
            first = last

    def _counts(self, n_rows: int) -> RowArray:
        counts = np.zeros(n_rows, np.int64)
        for first, last in self._stretches():
            counts += np.bincount(_values(self.source[1], first, last, below=n_rows), minlength=n_rows)
        return counts

    def _stretches(self) -> Iterator[tuple[int, int]]:
        n_values = int(self.columns[-1])
        for first in range(0, n_values, _STRETCH):
            yield first, min(first + _STRETCH, n_values)

    def _rows(self, first: int, last: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Values and columns of some rows, one row after the other, the columns of each ascending."""
        n_values = int(self.bounds[last] - self.bounds[first])
        data, indices = np.empty(n_values, self.dtype), np.empty(n_values, self.index_dtype)
        places = self.bounds[first:last] - self.bounds[first]  # (rows,), where the next value of each goes
        words = f"u{self.dtype.itemsize}"
        for begin, end in self._stretches():
            rows = _values(self.source[1], begin, end, below=self.shape[0])
            values = _values(self.source[0], begin, end).view(words)
            column = int(np.searchsorted(self.columns, begin, side="right")) - 1
            _deal(rows, values, self.columns - begin, column, first, places, data.view(words), indices)
        return data, indices


class _Later:
    """A part of turned rows, which is there when it is read."""

    def __init__(self, rows: TurnedRows, path: str, dtype: np.dtype[Any]) -> None:
        self.rows, self.path, self.dtype = rows, path, dtype
        self.shape: tuple[int, ...] = (int(rows.columns[-1]),)
        self.step, self.route = 1, Route("direct", "uncompressed")

    @cached_property
    def _opened(self) -> Dataset:
        return open_dataset(self.rows.written, self.path, self.rows.indptr)

    def copy_spans(self, spans: Spans, out: NDArray[Any], below: int | None = None) -> Work:
        return self._opened.copy_spans(spans, out, below)

    def copy_rows(self, rows: RowArray, places: RowArray, out: NDArray[Any], before: int = 0) -> Work:
        return self._opened.copy_rows(rows, places, out, before)


def _values(part: Dataset, first: int, last: int, below: int | None = None) -> NDArray[Any]:
    """The elements ``first … last-1``."""
    values = np.empty(last - first, part.dtype)
    run(part.copy_spans(Spans(*np.array([[first], [last - first], [0]], np.int64)), values, below))
    return values


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _deal(
    rows: NDArray[Any],
    values: NDArray[Any],
    begins: RowArray,
    column: int,
    first: int,
    places: RowArray,
    data: NDArray[Any],
    indices: NDArray[Any],
) -> None:
    """Put values of columns, which begin at ``begins``, to the next places of those of their rows that are wanted."""
    for i in range(len(rows)):
        while begins[column + 1] <= i:
            column += 1
        row = rows[i] - first
        if 0 <= row < len(places):
            place = places[row]
            data[place], indices[place] = values[i], column
            places[row] = place + 1
