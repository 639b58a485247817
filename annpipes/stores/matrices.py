"""Rows of dense and CSR matrices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import DamageError, FormatError
from annpipes.messages.warning import warn
from annpipes.plans.rows import RowArray
from annpipes.stores.begun import Begun
from annpipes.stores.blocks import BlockAdvice, longer, small_blocks, two_storage_chunks
from annpipes.stores.caching.settings import SourceCache
from annpipes.stores.containers.base import Container
from annpipes.stores.damage import Origin
from annpipes.stores.engine.cached import cached_in
from annpipes.stores.engine.elements import Dataset, open_dataset
from annpipes.stores.engine.pieces import Spans
from annpipes.stores.engine.pools import Work, begin, empty, run
from annpipes.stores.engine.slices import slices_of
from annpipes.stores.gene_subsets import begin_selected
from annpipes.stores.genes import Genes, take_genes
from annpipes.stores.indptr import CompactIndptr, Indptr
from annpipes.stores.narrowing import narrowed
from annpipes.stores.protocol import BegunMatrix
from annpipes.stores.routes import Route
from annpipes.types import Chunk, SparseRows

__all__ = ["CsrRows", "DenseRows", "open_csr", "open_dense", "places_of", "refuse_lost"]


class DenseRows(BegunMatrix):
    """A dense array ``(n_obs, n)``.

    Parameters
    ----------
    values
        The array.
    advice
        How many rows stand together in a shuffle; if None, what suits the storage.
    container
        Whose array it is; None in memory.
    route
        How it is read; if None, as ``values`` is.
    """

    sparse = False

    def __init__(
        self,
        values: Dataset,
        advice: BlockAdvice | None = None,
        *,
        container: Container | None = None,
        route: Route | None = None,
    ) -> None:
        self.values: Dataset = values
        self.advice: BlockAdvice | None = advice
        self.container: Container | None = container
        self.shape: tuple[int, ...] = values.shape
        self.route: Route = route or values.route
        self.dtype: np.dtype[Any] = values.dtype
        self.row_bytes: int = self.shape[1] * self.dtype.itemsize
        self._narrowed: WeakKeyDictionary[Genes, tuple[Dataset, Genes] | None] = WeakKeyDictionary()

    @property
    def block_advice(self) -> BlockAdvice:
        if self.advice is not None:
            return self.advice
        if self.values.step > 1:
            advice = BlockAdvice(self.values.step, f"storage chunks of {self.values.step} rows, {self.route}")
        else:
            advice = small_blocks(self.row_bytes, self.route)
        return longer(advice, self.container)

    def keep_decoded(self, cache: SourceCache) -> None:
        self.values = cached_in(self.values, cache)
        self._narrowed = WeakKeyDictionary()
        self.route = self.values.route

    def copy(self, rows: RowArray, places: RowArray, out: NDArray[Any], before: int = 0) -> Work:
        """The work of copying ``rows``, ascending, to rows ``places`` of ``out``, those ``before`` a place first."""
        return self.values.copy_rows(rows, places, out, before)

    def begin(self, chunk: Chunk, first: int, genes: Genes | None = None) -> Begun:
        if len(chunk) == 1 and genes is None:
            row = int(chunk.rows[0])
            found = slices_of([self.values], row, row + 1)
            if found is not None:
                return Begun.of(found[0], first)
        if genes is None:
            values = empty((len(chunk), *self.shape[1:]), self.dtype)
            return Begun.of(values, first, begin(self.copy(chunk.rows, places_of(chunk), values, first)))
        if genes not in self._narrowed:
            self._narrowed[genes] = narrowed(self.values, genes)
        dataset, some = self._narrowed[genes] or (self.values, genes)
        values = empty((len(chunk), *dataset.shape[1:]), self.dtype)
        finish = begin(dataset.copy_rows(chunk.rows, places_of(chunk), values, first))
        return Begun.of(values, first, finish).then(lambda some_rows: take_genes(some_rows, some))


class CsrRows(BegunMatrix):
    """The rows of a CSR matrix.

    Parameters
    ----------
    data, indices, indptr
        Its parts; ``indptr`` in memory.
    shape
        ``(n_obs, n)``.
    where
        What ``indptr`` is called in messages.
    advice, container, route
        As for `DenseRows`.
    """

    sparse = True

    def __init__(
        self,
        data: Dataset,
        indices: Dataset,
        indptr: Indptr,
        shape: tuple[int, int],
        where: str,
        advice: BlockAdvice | None = None,
        *,
        container: Container | None = None,
        route: Route | None = None,
    ) -> None:
        self.data: Dataset = data
        self.indices: Dataset = indices
        self.indptr: Indptr = indptr
        self.shape: tuple[int, int] = shape
        self.where: str = where
        self.advice: BlockAdvice | None = advice
        self.container: Container | None = container
        self.route: Route = route or Route.of_parts({"data": data.route, "indices": indices.route})
        self.dtype: np.dtype[Any] = data.dtype
        self.index_dtype: np.dtype[Any] = indices.dtype
        self._check()

    @property
    def row_bytes(self) -> float:
        return float(
            self.indptr.last / max(1, self.shape[0]) * (self.data.dtype.itemsize + self.indices.dtype.itemsize)
        )

    @property
    def block_advice(self) -> BlockAdvice:
        if self.advice is not None:
            return self.advice
        per_row = max(1.0, self.indptr.last / max(1, self.shape[0]))
        if self.data.step == 1:
            return longer(small_blocks(per_row * self.data.dtype.itemsize, self.route), self.container)
        return longer(two_storage_chunks(self.data.step / per_row, self.route), self.container)

    def _check(self) -> None:
        """Refuse an indptr that no CSR matrix has, so that reading can rely on it."""
        (first, last), lengths = (self.indptr.first, self.indptr.last), (self.data.shape[0], self.indices.shape[0])
        if first != 0 or lengths != (last, last):
            raise DamageError(
                f"{self.where} runs from {first} to {last}, but there are {lengths[0]} values and {lengths[1]} columns"
            )

    def keep_decoded(self, cache: SourceCache) -> None:
        self.data, self.indices = cached_in(self.data, cache), cached_in(self.indices, cache)
        self.route = Route.of_parts({"data": self.data.route, "indices": self.indices.route})

    def lengths(self, rows: RowArray) -> RowArray:
        """How many values each of these rows stores; shape ``(n,)``."""
        return self.indptr.lengths(rows)

    def _spans(self, rows: RowArray, lengths: RowArray, tos: RowArray, before: int = 0) -> Spans:
        return Spans(self.indptr.begins(rows), lengths, tos, before)

    def copy(
        self,
        rows: RowArray,
        lengths: RowArray,
        tos: RowArray,
        data: NDArray[Any],
        indices: NDArray[Any],
        before: int = 0,
    ) -> tuple[Work, Work]:
        """The work of copying ``rows``, ascending and of these lengths, to ``tos`` of ``data`` and ``indices``.

        What goes to places ``before`` one comes first.
        """
        spans = self._spans(rows, lengths, tos, before)
        return self.data.copy_spans(spans, data), self.indices.copy_spans(spans, indices, below=self.shape[1])

    def _row(self, rows: RowArray) -> SparseRows | None:
        """A single row that lies in memory as it is; None if it does not, or has a column that it cannot have."""
        begin, length = int(self.indptr.begins(rows)[0]), int(self.indptr.lengths(rows)[0])
        if begin < 0 or length < 0:  # of a matrix in memory, which anybody may change
            return None
        found = slices_of([self.data, self.indices], begin, begin + length)
        if found is None:
            return None
        data, indices = found
        if len(data) < length or len(indices) < length:
            return None
        if length and not 0 <= int(indices.min()) <= int(indices.max()) < self.shape[1]:
            return None
        return SparseRows(data, indices, np.array([0, length]), self.shape[1])

    def begin(self, chunk: Chunk, first: int, genes: Genes | None = None) -> Begun:
        if len(chunk) == 1 and genes is None and (row := self._row(chunk.rows)) is not None:
            return Begun.of(row, first)
        lengths = self.lengths(chunk.rows)
        indptr = np.concatenate([[0], np.cumsum(lengths[chunk.order])])  # (n + 1,), in the drawn order
        tos = indptr[places_of(chunk)]
        if genes is not None:
            spans = self._spans(chunk.rows, lengths, tos, int(indptr[first]))
            begun = begin_selected(self.data, self.indices, spans, indptr, self.shape[1], genes, first)
            if begun is not None:
                return begun
        data, indices = empty(indptr[-1], self.dtype), empty(indptr[-1], self.index_dtype)
        works = self.copy(chunk.rows, lengths, tos, data, indices, int(indptr[first]))
        begun = Begun.of(SparseRows(data, indices, indptr, self.shape[1]), first, begin(*works))
        return begun if genes is None else begun.then(lambda rows: take_genes(rows, genes))


def open_dense(container: Container, path: str) -> DenseRows:
    """The rows of a dense array."""
    return DenseRows(open_dataset(container, path), container=container)


def open_csr(container: Container, path: str, shape: tuple[int, int]) -> CsrRows:
    """The rows of a CSR group (``data``, ``indices``, ``indptr``).

    Raises
    ------
    FormatError
        Its parts are no rows of numbers.
    DamageError
        ``indptr`` is one that no CSR matrix has.
    """
    where = f"{path}/indptr of {container.path}"
    indptr = CompactIndptr(_offsets(container, f"{path}/indptr"), shape[0], where)
    data, indices = (open_dataset(container, f"{path}/{part}", indptr) for part in ("data", "indices"))
    for part in (data, indices):
        if len(part.shape) != 1 or part.dtype.kind not in "biuf":
            raise FormatError(f"{part.path} of {container.path} is not a one-dimensional array of numbers")
    if indices.dtype.kind not in "iu":
        raise FormatError(f"{path}/indices of {container.path} holds {indices.dtype}, not integers")
    matrix = CsrRows(data, indices, indptr, shape, where, container=container)
    refuse_lost(container, path, matrix)
    return matrix


def refuse_lost(container: Container, path: str, matrix: CsrRows) -> None:
    """Report missing storage chunks of a CSR matrix, or of a CSC matrix that is read as one.

    Zarr leaves out storage chunks of zeros, and reads lost ones as zeros. Where a row has two values, their columns
    cannot both be zero, so a missing storage chunk of columns is damage; values may be zero.

    Raises
    ------
    DamageError
        Some are not there that cannot be zeros.
    """
    for number, first, last in container.absent(f"{path}/indices").extents(matrix.indices.shape[0]):
        rows = matrix.indptr.rows_at([first, last])
        if last - first > rows[1] - rows[0]:
            origin = Origin(container.path, f"{path}/indices", matrix.indptr)
            raise origin.damage(first, last, f"storage chunk {number} is missing")
    if lost := len(container.absent(f"{path}/data").numbers):
        warn(
            f"{path}/data of {container.path} lacks {lost:,} storage chunks, which are read as zeros: that is right "
            f"if all their values were zero, and wrong if files were lost when the store was copied"
        )


def _offsets(container: Container, path: str) -> Iterator[NDArray[Any]]:
    """An array of integers in pieces; from afar by the engine, which makes few requests, if it can."""
    dataset = open_dataset(container, path) if container.remote else None
    if dataset is None or dataset.route.kind != "direct" or len(dataset.shape) != 1 or dataset.dtype.kind not in "iu":
        yield from container.numbers(path)
        return
    values, begin = empty(dataset.shape, dataset.dtype), np.zeros(1, np.int64)
    run(dataset.copy_spans(Spans(begin, np.array(dataset.shape), begin), values))
    yield values


def places_of(chunk: Chunk) -> RowArray:
    """Where each of the chunk's ascending rows is handed on; shape ``(n,)``."""
    places = np.empty_like(chunk.order)
    places[chunk.order] = np.arange(len(chunk))
    return places
