"""Fields of several stores as one: rows one after the other, in columns and a dtype that suit all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from scipy import sparse
from toolz import partition_all

from annpipes.errors import FormatError
from annpipes.stores.base import FieldStore
from annpipes.stores.begun import Begun, nothing
from annpipes.stores.blocks import BlockAdvice
from annpipes.stores.compiled.kernels import copy_values
from annpipes.stores.engine.pools import Work, begin, empty, run
from annpipes.stores.generics import AnyIndex
from annpipes.stores.genes import Genes, fill_columns, move_columns, take_genes
from annpipes.stores.matrices import CsrRows, DenseRows, places_of
from annpipes.stores.protocol import BegunMatrix, MatrixReader
from annpipes.stores.routes import Route
from annpipes.stores.row_space import RowSpace, Share
from annpipes.types import Chunk, SparseRows

__all__ = ["JoinedDense", "JoinedSparse", "Part", "common_width"]


WorksOf = Callable[[int, Share], tuple[Work, ...]]


class Part:
    """One store's share of a joined matrix.

    Parameters
    ----------
    store
        Whose it is.
    matrix
        The rows there, or None if the store has no such field.
    genes
        Which of its columns become which of the joined matrix; None if all stay where they are.
    """

    def __init__(self, store: FieldStore, matrix: MatrixReader | None, genes: Genes | None) -> None:
        self.store: FieldStore = store
        self.matrix: MatrixReader | None = matrix
        self.genes: Genes | None = genes
        self._chosen: WeakKeyDictionary[Genes, Genes] = WeakKeyDictionary()

    def kept(self, chosen: Genes | None) -> Genes | None:
        """`genes`, and of the joined columns only those chosen."""
        if self.genes is None or chosen is None:
            return chosen if self.genes is None else self.genes  # none at all are genes, too, and false
        if chosen not in self._chosen:
            self._chosen[chosen] = self.genes.then(chosen)
        return self._chosen[chosen]


class _Joined(BegunMatrix):
    """What joined matrices have in common."""

    def __init__(self, space: RowSpace, parts: Sequence[Part], n_columns: int, fill: float, at_once: int) -> None:
        self.space: RowSpace = space
        self.parts: Sequence[Part] = parts
        self.fill: float = fill
        self.at_once: int = at_once
        self.shape: tuple[int, int] = (len(space), n_columns)
        self.present: list[MatrixReader] = [part.matrix for part in parts if part.matrix is not None]
        self.dtype: np.dtype[Any] = np.result_type(*(matrix.dtype for matrix in self.present))
        filled = any(part.matrix is None or (part.genes is not None and len(part.genes.absent)) for part in parts)
        if filled and not _holds(self.dtype, fill):
            self.dtype = np.result_type(self.dtype, np.float32)

    @property
    def row_bytes(self) -> float:
        """Memory that an average row takes."""
        sizes = [part.matrix.row_bytes if part.matrix else 0 for part in self.parts]
        return float(np.dot(sizes, np.diff(self.space.bounds))) / max(1, len(self.space))

    @property
    def route(self) -> Route:
        """How it is read, and why so; by store if they differ."""
        return Route.of_parts(
            {part.store.files[0]: part.matrix.route for part in self.parts if part.matrix is not None}
        )

    @property
    def block_advice(self) -> BlockAdvice:
        """What the store that needs the largest blocks wants."""
        return max((matrix.block_advice for matrix in self.present), key=lambda advice: advice.size)

    def _run(self, shares: Sequence[tuple[int, Share]], works_of: WorksOf) -> None:
        """The work of each share, of only so many files at once."""
        for group in partition_all(self.at_once, shares):
            run(*(work for number, share in group for work in works_of(number, share)))
            self._close(number for number, _ in group)

    def _begin(self, shares: Sequence[tuple[int, Share]], works_of: WorksOf) -> Callable[[], None]:
        """As `_run`, when what is wanted first is done; call the result for the rest."""
        if len(self.parts) <= self.at_once:
            return begin(*(work for number, share in shares for work in works_of(number, share)))
        self._run(shares, works_of)  # all of each file, which is closed then
        return nothing

    def _close(self, numbers: Any) -> None:
        if len(self.parts) > self.at_once:
            for number in numbers:
                self.parts[number].store.close()


class JoinedSparse(_Joined):
    """Sparse rows of several stores; rows of a file that needs no conversion are copied once, to their final place."""

    sparse = True

    def __init__(self, space: RowSpace, parts: Sequence[Part], n_columns: int, fill: float, at_once: int) -> None:
        super().__init__(space, parts, n_columns, fill, at_once)
        files = [matrix for matrix in self.present if isinstance(matrix, CsrRows)]
        # 32 bits at least, as scipy has them: columns of the join may have larger numbers than those of a file.
        wide = n_columns > np.iinfo(np.int32).max + 1  # also of matrices in memory
        dtypes = [np.int64 if matrix.index_dtype == np.uint64 else matrix.index_dtype for matrix in files]
        self.index_dtype: np.dtype[Any] = np.result_type(np.int64 if wide else np.int32, *dtypes)

    def begin(self, chunk: Chunk, first: int, genes: Genes | None = None) -> Begun:
        width = self.shape[1] if genes is None else len(genes)
        lengths = np.zeros(len(chunk), np.int64)  # of the ascending rows
        direct: list[tuple[int, Share]] = []
        converted: list[tuple[Share, SparseRows]] = []
        for share in self.space.shares(chunk.rows):
            matrix, kept = self.parts[share.number].matrix, self.parts[share.number].kept(genes)
            if isinstance(matrix, CsrRows) and self._fits(matrix) and not (self.fill and kept and len(kept.absent)):
                lengths[share.where] = matrix.lengths(share.rows)
                direct.append((share.number, share))
            else:
                rows = self._converted(matrix, share, kept, width)
                lengths[share.where] = rows.lengths
                converted.append((share, rows))
        places = places_of(chunk)
        indptr = np.concatenate([[0], np.cumsum(lengths[chunk.order])])  # (n + 1,), in the drawn order
        tos = indptr[places]
        data, indices = empty(indptr[-1], self.dtype), empty(indptr[-1], self.index_dtype)

        def works_of(number: int, share: Share) -> tuple[Work, ...]:
            matrix = self.parts[number].matrix
            assert isinstance(matrix, CsrRows)
            return matrix.copy(share.rows, lengths[share.where], tos[share.where], data, indices, int(indptr[first]))

        finish = self._begin(direct, works_of)
        for share, rows in converted:
            for values, out in ((rows.data, data), (rows.indices, indices)):
                copy_values(values, rows.indptr[:-1], tos[share.where], rows.lengths, out)
        begun = Begun.of(SparseRows(data, indices, indptr, width), first, finish)
        moved = [(self.parts[number].kept(genes), places[share.where]) for number, share in direct]
        moves = [(kept, some) for kept, some in moved if kept is not None]
        if not moves:
            return begun

        def move(rows: SparseRows, start: int) -> SparseRows:
            those = [(kept, some[(some >= start) & (some < start + len(rows))] - start) for kept, some in moves]
            return move_columns(rows, those, width)

        return Begun(move(begun.first, 0), lambda: move(begun.rest(), first))

    def _fits(self, matrix: CsrRows) -> bool:
        return (matrix.dtype, matrix.index_dtype) == (self.dtype, self.index_dtype)

    def _converted(self, matrix: MatrixReader | None, share: Share, kept: Genes | None, width: int) -> SparseRows:
        """A share's rows in the dtypes and columns of all."""
        if matrix is None:
            none = np.zeros(0, self.dtype), np.zeros(0, self.index_dtype), np.zeros(len(share.rows) + 1, np.int64)
            rows = SparseRows(*none, width)
            return fill_columns(rows, np.arange(width), self.fill) if self.fill else rows
        found = matrix.read(share.chunk)
        self._close([share.number])
        rows = found if isinstance(found, SparseRows) else SparseRows.of(sparse.csr_matrix(found))
        rows = SparseRows(rows.data.astype(self.dtype), rows.indices.astype(self.index_dtype), rows.indptr, rows.n_vars)
        return rows if kept is None else take_genes(rows, kept, self.fill)


class JoinedDense(_Joined):
    """Dense rows of several stores."""

    sparse = False

    def begin(self, chunk: Chunk, first: int, genes: Genes | None = None) -> Begun:
        out = empty((len(chunk), self.shape[1] if genes is None else len(genes)), self.dtype)
        places = places_of(chunk)
        direct: list[tuple[int, Share]] = []
        for share in self.space.shares(chunk.rows):
            matrix, kept = self.parts[share.number].matrix, self.parts[share.number].kept(genes)
            if matrix is None:
                out[places[share.where]] = self.fill
            elif isinstance(matrix, DenseRows) and matrix.dtype == self.dtype and kept is None:
                direct.append((share.number, share))
            else:
                values = np.asarray(matrix.read(share.chunk, kept)).astype(self.dtype, copy=False)
                if kept is not None:
                    values[:, kept.absent] = self.fill
                out[places[share.where]] = values
                self._close([share.number])

        def works_of(number: int, share: Share) -> tuple[Work, ...]:
            matrix = self.parts[number].matrix
            assert isinstance(matrix, DenseRows)
            return (matrix.copy(share.rows, places[share.where], out, first),)

        return Begun.of(out, first, self._begin(direct, works_of))


def common_width(stores: Sequence[FieldStore], field: str) -> int:
    """The width of a field whose columns are no genes; they must be the same in every store that has it."""
    owners = [store for store in stores if field in store.fields]
    first, width = owners[0], owners[0].matrix(field).shape[1]
    named: tuple[str, AnyIndex] | None = None  # the first one whose columns have names
    for other in owners:
        theirs, their_width = other.column_names(field), other.matrix(field).shape[1]
        if width != their_width:
            raise FormatError(
                f"{field} has {width} columns in {first.name} and {their_width} in {other.name}: leave it out"
            )
        if named is not None and theirs is not None and not named[1].equals(theirs):
            raise FormatError(f"{field} has other columns in {other.name} than in {named[0]}: leave it out")
        if named is None and theirs is not None:
            named = other.name, theirs
    return int(width)


def _holds(dtype: np.dtype[Any], fill: float) -> bool:
    with np.errstate(invalid="ignore"):
        return dtype.kind == "f" or bool(np.asarray(fill).astype(dtype) == fill)
