"""Rows of matrices in memory, and of what a view of an AnnData shows of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from annpipes.errors import ChangedError
from annpipes.plans.rows import RowArray
from annpipes.stores.begun import Begun
from annpipes.stores.blocks import BlockAdvice
from annpipes.stores.damage import Origin
from annpipes.stores.engine.elements import open_array
from annpipes.stores.engine.pieces import Spans
from annpipes.stores.genes import Genes, take_genes
from annpipes.stores.indptr import PlainIndptr
from annpipes.stores.matrices import CsrRows, DenseRows
from annpipes.stores.protocol import BegunMatrix, MatrixKind, MatrixReader
from annpipes.stores.routes import Route
from annpipes.stores.witness import COMPRESSED
from annpipes.types import Chunk, SparseRows

__all__ = ["DenseByNumpy", "Selected", "dense_rows", "sparse_rows"]

_IN_MEMORY = BlockAdvice(1, "memory")
_MEMORY, _VIEW = Route("memory"), Route("memory", "a view")
_LONGEST_VALUE = 16  # bytes of a float64 with an int64 column
_LONG_ROW = 4096  # bytes in both arrays; reading neighbours one after the other gains nothing for longer rows


def dense_rows(values: NDArray[Any], field: str, name: str) -> MatrixReader:
    """The rows of a dense array: by the engine that reads files, where elements stand one after the other."""
    if not _plain(values) or values.ndim != 2:
        return DenseByNumpy(values)
    return DenseRows(open_array(values, Origin(name, field)), _IN_MEMORY, route=_MEMORY)


def sparse_rows(matrix: Any, field: str, name: str) -> MatrixReader:
    """The rows of a sparse matrix: by the engine that reads files, if it is an ordinary CSR matrix."""
    if not isinstance(matrix, sparse.csr_matrix | sparse.csr_array) or matrix.ndim != 2:
        return SparseByScipy(matrix)
    if not (_plain(matrix.data) and _plain(matrix.indices)) or matrix.data.dtype == np.float16:
        return SparseByScipy(matrix)
    return CsrMemory(matrix, field, name)


def _plain(values: NDArray[Any]) -> bool:
    kind = values.dtype.kind in "biuf" and values.dtype.isnative and values.itemsize <= 8
    return kind and bool(values.flags.c_contiguous) and values.size > 0


class CsrMemory(CsrRows):
    """A CSR matrix in memory.

    Its ``indptr`` is not copied, so changes in place show. Each read checks that rows lie within the arrays, for
    no such change must lead outside of them.
    """

    def __init__(self, matrix: Any, field: str, name: str) -> None:
        self.name = name
        indptr = PlainIndptr(matrix.indptr)
        data = open_array(matrix.data, Origin(name, f"{field}/data", indptr))
        indices = open_array(matrix.indices, Origin(name, f"{field}/indices", indptr))
        super().__init__(data, indices, indptr, matrix.shape, f"{field}/indptr of {name}", _IN_MEMORY, route=_MEMORY)

    def begin(self, chunk: Chunk, first: int, genes: Genes | None = None) -> Begun:
        """Long rows are copied in the order in which they are handed on: one place after the other is written.

        They need not ascend, as in other containers, where neighbours are decoded together.
        """
        if len(chunk) > 1 and self.row_bytes >= _LONG_ROW:
            chunk = Chunk(chunk.drawn, np.arange(len(chunk)))
        return super().begin(chunk, first, genes)

    def _check(self) -> None:
        """Each read checks its rows."""

    def lengths(self, rows: RowArray) -> RowArray:
        lengths = super().lengths(rows)
        self._inside(self.indptr.begins(rows), lengths)  # before memory is taken for so many values
        return lengths

    def _spans(self, rows: RowArray, lengths: RowArray, tos: RowArray, before: int = 0) -> Spans:
        spans = super()._spans(rows, lengths, tos, before)
        self._inside(spans.firsts, lengths)  # of what is copied, whatever happened since
        return spans

    def _inside(self, firsts: NDArray[Any], lengths: RowArray) -> None:
        room = min(self.data.shape[0], self.indices.shape[0])
        # A sum could overflow and seem small; where lengths are not negative, this difference cannot.
        if len(firsts) and (firsts.min() < 0 or lengths.min() < 0 or (firsts > room - lengths).any()):
            raise ChangedError(f"{self.where} points outside the stored values: the matrix was changed")


@dataclass(frozen=True, eq=False)
class DenseByNumpy(MatrixKind):
    """A dense array ``(n_obs, n)`` in memory that numpy takes rows of: of any type, order and strides."""

    values: NDArray[Any]
    sparse: bool = False
    route: Route = _MEMORY
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
class SparseByScipy(MatrixKind):
    """A sparse matrix in memory that scipy takes rows of: of any kind and type."""

    matrix: Any
    sparse: bool = True
    route: Route = _MEMORY
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

    Made anew for each read, so that changes in place show.
    """
    native = matrix.dtype.newbyteorder("=")
    dtype = np.dtype(np.float32) if native == np.float16 else native
    if dtype == matrix.dtype or not isinstance(matrix, COMPRESSED):
        return matrix
    return type(matrix)((matrix.data.astype(dtype), matrix.indices, matrix.indptr), matrix.shape)


@dataclass(frozen=True, eq=False)
class Selected(BegunMatrix):
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

    whole: MatrixReader
    rows: RowArray  # (n_obs,)
    genes: Genes | None
    route: Route = _VIEW
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

    def begin(self, chunk: Chunk, first: int, genes: Genes | None = None) -> Begun:
        drawn = Chunk.of(self.rows[chunk.drawn])
        return self.whole.begin(drawn, first, genes if self.genes is None else self.genes.then(genes))
