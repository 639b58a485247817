"""Rows of dense and CSR matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from annpipes.errors import DamageError, FormatError
from annpipes.plans.rows import RowArray
from annpipes.stores.containers.hdf5 import Hdf5File
from annpipes.stores.engine.elements import open_dataset
from annpipes.stores.engine.fallback import need_filters
from annpipes.stores.engine.pieces import Spans
from annpipes.stores.engine.pools import Work, empty, run
from annpipes.stores.gene_subsets import select_rows
from annpipes.stores.genes import Genes, take_genes
from annpipes.stores.marks import is_mixed
from annpipes.stores.protocol import BlockAdvice
from annpipes.types import Chunk, SparseRows

__all__ = ["DenseFile", "DenseMemory", "Selected", "SparseFile", "SparseMemory", "places_of"]

_COMPRESSED = (sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix, sparse.csc_array)
_IN_MEMORY = BlockAdvice(1, "memory")
_LONGEST_VALUE = 16  # bytes of a float64 with an int64 column
_JUMP_BYTES = 64 << 10
_LARGEST_SMALL_BLOCK, _LARGEST_BLOCK = 64, 4096
_LONGER = 4  # a shuffled file's blocks: 15 % faster; see benchmarks/README.md


@dataclass(frozen=True, eq=False)
class DenseMemory:
    """A dense array ``(n_obs, n)`` in memory."""

    values: NDArray[Any]
    sparse: bool = False
    route: str = "memory"
    block_advice: BlockAdvice = _IN_MEMORY

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def row_bytes(self) -> float:
        return float(self.values.itemsize * self.values.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.values.dtype
        return dtype

    def read(self, chunk: Chunk, genes: Genes | None = None) -> NDArray[Any]:
        values: NDArray[Any] = self.values[chunk.drawn]
        return values if genes is None else take_genes(values, genes)


@dataclass(frozen=True, eq=False)
class SparseMemory:
    """A scipy sparse matrix in memory; only CSR is fast."""

    matrix: Any
    sparse: bool = True
    route: str = "memory"
    block_advice: BlockAdvice = _IN_MEMORY

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.matrix.shape)

    @property
    def row_bytes(self) -> float:
        return float(_LONGEST_VALUE * self.matrix.nnz / max(1, self.matrix.shape[0]))

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.matrix.dtype
        return dtype

    def read(self, chunk: Chunk, genes: Genes | None = None) -> SparseRows:
        rows = SparseRows.of(sparse.csr_matrix(_indexable(self.matrix)[chunk.drawn]))
        return rows if genes is None else take_genes(rows, genes)


def _indexable(matrix: Any) -> Any:
    """A matrix whose values scipy can take rows of: no float16, no foreign byte order.

    Made for each read and not kept, or it would not show what is changed in place.
    """
    native = matrix.dtype.newbyteorder("=")
    dtype = np.dtype(np.float32) if native == np.float16 else native
    if dtype == matrix.dtype or not isinstance(matrix, _COMPRESSED):
        return matrix
    return type(matrix)((matrix.data.astype(dtype), matrix.indices, matrix.indptr), matrix.shape)


@dataclass(frozen=True, eq=False)
class Selected:
    """Some rows, and perhaps some genes, of a matrix in memory: what a view of an AnnData shows.

    Parameters
    ----------
    whole
        The matrix.
    rows
        Which of its rows, ``(n_obs,)``.
    genes
        Which of its columns; all when None.
    """

    whole: DenseMemory | SparseMemory
    rows: RowArray  # (n_obs,)
    genes: Genes | None
    route: str = "memory (a view)"
    block_advice: BlockAdvice = _IN_MEMORY

    @property
    def sparse(self) -> bool:
        return self.whole.sparse

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.rows), self.whole.shape[1] if self.genes is None else len(self.genes)

    @property
    def row_bytes(self) -> float:
        return self.whole.row_bytes * self.shape[1] / max(1, self.whole.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.whole.dtype

    def read(self, chunk: Chunk, genes: Genes | None = None) -> NDArray[Any] | SparseRows:
        drawn = Chunk(self.rows[chunk.drawn], np.arange(len(chunk)))  # in memory, no order is faster than another
        return self.whole.read(drawn, genes if self.genes is None else self.genes.then(genes))


class DenseFile:
    """A dense dataset ``(n_obs, n)`` of an HDF5 file."""

    sparse = False

    def __init__(self, file: Hdf5File, path: str) -> None:
        self.file, self.path = file, path
        self.values = open_dataset(file, path)
        self.shape, self.route = self.values.shape, self.values.route
        self.dtype = self.values.dtype
        self.row_bytes = self.shape[1] * self.dtype.itemsize

    @property
    def block_advice(self) -> BlockAdvice:
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


class SparseFile:
    """A CSR group (``data``, ``indices``, ``indptr``) of an HDF5 file."""

    sparse = True

    def __init__(self, file: Hdf5File, path: str, shape: tuple[int, int]) -> None:
        self.file, self.path, self.shape = file, path, shape
        with file.reading(f"{path}/indptr") as opened:
            indptr = opened[path]["indptr"]
            if len(indptr.shape) != 1 or indptr.dtype.kind not in "iu":
                raise FormatError(f"{path}/indptr of {file.path} is no row of integers")
            need_filters(indptr, f"{path}/indptr of {file.path}")
            self.indptr: RowArray = indptr[:].astype(np.int64)  # (n_obs + 1,)
        self.data = open_dataset(file, f"{path}/data", self.indptr)
        self.indices = open_dataset(file, f"{path}/indices", self.indptr)
        routes = (self.data.route, self.indices.route)
        self.route = routes[0] if routes[0] == routes[1] else f"data: {routes[0]}; indices: {routes[1]}"
        for part in (self.data, self.indices):
            if len(part.shape) != 1 or part.dtype.kind not in "biuf":
                raise FormatError(f"{part.path} of {file.path} is no row of numbers")
        if self.indices.dtype.kind not in "iu":
            raise FormatError(f"{path}/indices of {file.path} holds {self.indices.dtype}, not integers")
        self.dtype, self.index_dtype = self.data.dtype, self.indices.dtype
        self._check()

    @property
    def row_bytes(self) -> float:
        return float(self.indptr[-1] / max(1, self.shape[0]) * (self.data.dtype.itemsize + self.indices.dtype.itemsize))

    @property
    def block_advice(self) -> BlockAdvice:
        per_row = max(1.0, self.indptr[-1] / max(1, self.shape[0]))
        if self.data.step == 1:
            return _longer(_small_blocks(per_row * self.data.dtype.itemsize, self.route), self.file)
        rows = self.data.step / per_row
        # A block touches one storage chunk more than it fills, so two of them bound the waste to a half.
        size = min(2 ** math.ceil(math.log2(max(1.0, 2 * rows))), _LARGEST_BLOCK)
        return _longer(BlockAdvice(size, f"two storage chunks of about {rows:.0f} rows, {self.route}"), self.file)

    def _check(self) -> None:
        """Refuse an indptr that no CSR matrix has, so that reading can rely on it."""
        where, lengths = f"{self.path}/indptr of {self.file.path}", (self.data.shape[0], self.indices.shape[0])
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
        return self.indptr[rows + 1] - self.indptr[rows]

    def copy(
        self, rows: RowArray, lengths: RowArray, tos: RowArray, data: NDArray[Any], indices: NDArray[Any]
    ) -> tuple[Work, Work]:
        """The work of copying ``rows``, ascending and of these lengths, to ``tos`` of ``data`` and ``indices``."""
        spans = Spans(self.indptr[rows], lengths, tos)
        return self.data.copy_spans(spans, data), self.indices.copy_spans(spans, indices, below=self.shape[1])

    def read(self, chunk: Chunk, genes: Genes | None = None) -> SparseRows:
        lengths = self.lengths(chunk.rows)
        indptr = np.concatenate([[0], np.cumsum(lengths[chunk.order])])  # (n + 1,), in the drawn order
        tos = indptr[places_of(chunk)]
        if genes is not None:
            spans = Spans(self.indptr[chunk.rows], lengths, tos)
            selected = select_rows(self.data, self.indices, spans, indptr, self.shape[1], genes)
            if selected is not None:
                return selected
        data, indices = empty(indptr[-1], self.dtype), empty(indptr[-1], self.index_dtype)
        run(*self.copy(chunk.rows, lengths, tos, data, indices))
        rows = SparseRows(data, indices, indptr, self.shape[1])
        return rows if genes is None else take_genes(rows, genes)


def _small_blocks(row_bytes: float, route: str) -> BlockAdvice:
    """Blocks where any row can be read alone: just long enough that a disk does not mind the jumps."""
    size = 2 ** max(0, round(math.log2(_JUMP_BYTES / max(1.0, row_bytes))))
    return BlockAdvice(min(size, _LARGEST_SMALL_BLOCK), f"about {_JUMP_BYTES >> 10} KiB at a time, {route}")


def _longer(advice: BlockAdvice, file: Hdf5File) -> BlockAdvice:
    """Longer blocks of rows that stand together by chance; these mix as well, and are read faster."""
    times = min(_LONGER, _LARGEST_BLOCK // advice.size)
    if times < 2 or not is_mixed(file):
        return advice
    return BlockAdvice(times * advice.size, f"{times} times {advice.reason}; the file is shuffled already")


def places_of(chunk: Chunk) -> RowArray:
    """Where each of the chunk's ascending rows is handed on; shape ``(n,)``."""
    places = np.empty_like(chunk.order)
    places[chunk.order] = np.arange(len(chunk))
    return places
