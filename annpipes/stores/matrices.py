"""Rows of dense and CSR matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import DamageError, FormatError
from annpipes.plans.rows import RowArray
from annpipes.stores.containers.hdf5 import Hdf5File
from annpipes.stores.engine.elements import Dataset, open_dataset
from annpipes.stores.engine.fallback import need_filters
from annpipes.stores.engine.pieces import Spans
from annpipes.stores.engine.pools import Work, empty, run
from annpipes.stores.gene_subsets import select_rows
from annpipes.stores.genes import Genes, take_genes
from annpipes.stores.marks import is_mixed
from annpipes.stores.protocol import BlockAdvice, MatrixKind
from annpipes.stores.routes import Route
from annpipes.types import Chunk, SparseRows

__all__ = ["CsrRows", "DenseRows", "open_csr", "open_dense", "places_of"]

_JUMP_BYTES = 64 << 10
_LARGEST_SMALL_BLOCK, _LARGEST_BLOCK = 64, 4096
_LONGER = 4  # a shuffled file's blocks: 15 % faster; see benchmarks/README.md


class DenseRows(MatrixKind):
    """A dense array ``(n_obs, n)``.

    Parameters
    ----------
    values
        The array.
    advice
        How many rows stand together in a shuffle; if None, what suits the storage.
    file
        Whose dataset it is; None in memory.
    route
        How it is read; if None, as ``values`` is.
    """

    sparse = False

    def __init__(
        self,
        values: Dataset,
        advice: BlockAdvice | None = None,
        *,
        file: Hdf5File | None = None,
        route: Route | None = None,
    ) -> None:
        self.values, self.advice, self.file = values, advice, file
        self.shape, self.route = values.shape, route or values.route
        self.dtype = values.dtype
        self.row_bytes = self.shape[1] * self.dtype.itemsize

    @property
    def block_advice(self) -> BlockAdvice:
        if self.advice is not None:
            return self.advice
        if self.values.step > 1:
            advice = BlockAdvice(self.values.step, f"storage chunks of {self.values.step} rows, {self.route}")
        else:
            advice = _small_blocks(self.row_bytes, self.route)
        return _longer(advice, self.file)

    def copy(self, rows: RowArray, places: RowArray, out: NDArray[Any]) -> Work:
        """The work of copying ``rows``, ascending, to rows ``places`` of ``out``."""
        return self.values.copy_rows(rows, places, out)

    def read(self, chunk: Chunk, genes: Genes | None = None) -> NDArray[Any]:
        values = empty((len(chunk), *self.shape[1:]), self.dtype)
        run(self.copy(chunk.rows, places_of(chunk), values))
        return values if genes is None else take_genes(values, genes)


class CsrRows(MatrixKind):
    """The rows of a CSR matrix.

    Parameters
    ----------
    data, indices, indptr
        Its parts; ``indptr`` in memory, ``(n_obs + 1,)``.
    shape
        ``(n_obs, n)``.
    where
        What ``indptr`` is called in messages.
    advice, file, route
        As of `DenseRows`.
    """

    sparse = True

    def __init__(
        self,
        data: Dataset,
        indices: Dataset,
        indptr: NDArray[Any],
        shape: tuple[int, int],
        where: str,
        advice: BlockAdvice | None = None,
        *,
        file: Hdf5File | None = None,
        route: Route | None = None,
    ) -> None:
        self.data, self.indices, self.indptr, self.shape = data, indices, indptr, shape
        self.where, self.advice, self.file = where, advice, file
        self.route = route or Route.of_parts({"data": data.route, "indices": indices.route})
        self.dtype, self.index_dtype = data.dtype, indices.dtype
        self._check()

    @property
    def row_bytes(self) -> float:
        return float(self.indptr[-1] / max(1, self.shape[0]) * (self.data.dtype.itemsize + self.indices.dtype.itemsize))

    @property
    def block_advice(self) -> BlockAdvice:
        if self.advice is not None:
            return self.advice
        per_row = max(1.0, self.indptr[-1] / max(1, self.shape[0]))
        if self.data.step == 1:
            return _longer(_small_blocks(per_row * self.data.dtype.itemsize, self.route), self.file)
        rows = self.data.step / per_row
        # A block touches one storage chunk more than it fills, so two of them bound the waste to a half.
        size = min(2 ** math.ceil(math.log2(max(1.0, 2 * rows))), _LARGEST_BLOCK)
        return _longer(BlockAdvice(size, f"two storage chunks of about {rows:.0f} rows, {self.route}"), self.file)

    def _check(self) -> None:
        """Refuse an indptr that no CSR matrix has, so that reading can rely on it."""
        where, lengths = self.where, (self.data.shape[0], self.indices.shape[0])
        if len(self.indptr) != self.shape[0] + 1:
            raise DamageError(f"{where} has {len(self.indptr)} entries, but {self.shape[0]} rows need one more")
        if len(wrong := np.flatnonzero(np.diff(self.indptr) < 0)):
            raise DamageError(f"{where} decreases after row {wrong[0]}")
        if self.indptr[0] != 0 or lengths != (self.indptr[-1], self.indptr[-1]):
            raise DamageError(
                f"{where} runs from {self.indptr[0]} to {self.indptr[-1]}, but there are {lengths[0]} values "
                f"and {lengths[1]} columns"
            )

    def lengths(self, rows: RowArray) -> RowArray:
        """How many values each of these rows stores; shape ``(n,)``."""
        lengths: RowArray = (self.indptr[rows + 1] - self.indptr[rows]).astype(np.int64, copy=False)
        return lengths

    def _spans(self, rows: RowArray, lengths: RowArray, tos: RowArray) -> Spans:
        return Spans(self.indptr[rows].astype(np.int64, copy=False), lengths, tos)

    def copy(
        self, rows: RowArray, lengths: RowArray, tos: RowArray, data: NDArray[Any], indices: NDArray[Any]
    ) -> tuple[Work, Work]:
        """The work of copying ``rows``, ascending and of these lengths, to ``tos`` of ``data`` and ``indices``."""
        spans = self._spans(rows, lengths, tos)
        return self.data.copy_spans(spans, data), self.indices.copy_spans(spans, indices, below=self.shape[1])

    def read(self, chunk: Chunk, genes: Genes | None = None) -> SparseRows:
        lengths = self.lengths(chunk.rows)
        indptr = np.concatenate([[0], np.cumsum(lengths[chunk.order])])  # (n + 1,), in the drawn order
        tos = indptr[places_of(chunk)]
        if genes is not None:
            spans = self._spans(chunk.rows, lengths, tos)
            selected = select_rows(self.data, self.indices, spans, indptr, self.shape[1], genes)
            if selected is not None:
                return selected
        data, indices = empty(indptr[-1], self.dtype), empty(indptr[-1], self.index_dtype)
        run(*self.copy(chunk.rows, lengths, tos, data, indices))
        rows = SparseRows(data, indices, indptr, self.shape[1])
        return rows if genes is None else take_genes(rows, genes)


def open_dense(file: Hdf5File, path: str) -> DenseRows:
    """The rows of a dense dataset."""
    return DenseRows(open_dataset(file, path), file=file)


def open_csr(file: Hdf5File, path: str, shape: tuple[int, int]) -> CsrRows:
    """The rows of a CSR group (``data``, ``indices``, ``indptr``).

    Raises
    ------
    FormatError
        Its parts are no rows of numbers.
    DamageError
        ``indptr`` is one that no CSR matrix has.
    """
    where = f"{path}/indptr of {file.path}"
    with file.reading(f"{path}/indptr") as opened:
        stored = opened[path]["indptr"]
        if len(stored.shape) != 1 or stored.dtype.kind not in "iu":
            raise FormatError(f"{where} is no row of integers")
        need_filters(stored, where)
        indptr: RowArray = stored[:].astype(np.int64)  # (n_obs + 1,)
    data, indices = (open_dataset(file, f"{path}/{part}", indptr) for part in ("data", "indices"))
    for part in (data, indices):
        if len(part.shape) != 1 or part.dtype.kind not in "biuf":
            raise FormatError(f"{part.path} of {file.path} is no row of numbers")
    if indices.dtype.kind not in "iu":
        raise FormatError(f"{path}/indices of {file.path} holds {indices.dtype}, not integers")
    return CsrRows(data, indices, indptr, shape, where, file=file)


def _small_blocks(row_bytes: float, route: Route) -> BlockAdvice:
    """Blocks where any row can be read alone: just long enough that a disk does not mind the jumps."""
    size = 2 ** max(0, round(math.log2(_JUMP_BYTES / max(1.0, row_bytes))))
    return BlockAdvice(min(size, _LARGEST_SMALL_BLOCK), f"about {_JUMP_BYTES >> 10} KiB at a time, {route}")


def _longer(advice: BlockAdvice, file: Hdf5File | None) -> BlockAdvice:
    """Longer blocks of rows that stand together by chance; these mix as well, and are read faster."""
    times = min(_LONGER, _LARGEST_BLOCK // advice.size)
    if times < 2 or file is None or not is_mixed(file):
        return advice
    return BlockAdvice(times * advice.size, f"{times} times {advice.reason}; the file is shuffled already")


def places_of(chunk: Chunk) -> RowArray:
    """Where each of the chunk's ascending rows is handed on; shape ``(n,)``."""
    places = np.empty_like(chunk.order)
    places[chunk.order] = np.arange(len(chunk))
    return places
