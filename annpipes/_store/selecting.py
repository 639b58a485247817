"""Some genes of sparse rows: what is not kept is never copied.

Copying whole rows and dropping values afterwards takes longer than copying alone, so a subset of genes
would be slower than all of them. Here values and columns are looked at where they were decoded (or
in the mapped file), and only those that are kept are written.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes._meters import count, measured
from annpipes._rows import RowArray
from annpipes._store.choosing import count_pieces, select_inflated, select_pieces
from annpipes._store.elements import FEW, Dataset, Direct, shares
from annpipes._store.genes import Genes
from annpipes._store.inflating import Functions, Scratch, isal_functions
from annpipes._store.kernels import Bytes, Offsets, copy_pieces
from annpipes._store.pieces import Pieces, Spans
from annpipes._store.pools import Work, empty, run
from annpipes._store.targets import word_limit
from annpipes.types import SparseRows

__all__ = ["select_rows"]


def select_rows(
    data: Dataset, indices: Dataset, spans: Spans, indptr: RowArray, n_vars: int, genes: Genes
) -> SparseRows | None:
    """The kept genes of the rows that ``spans`` are, or None where they must be copied whole first.

    Parameters
    ----------
    data, indices
        Those of the sparse matrix.
    spans
        Its rows in ascending order, and where they would go if they were whole.
    indptr
        Where they would begin, in the drawn order; shape ``(n + 1,)``.
    n_vars
        Width of the matrix.
    """
    if not (isinstance(data, Direct) and isinstance(indices, Direct)):
        return None
    pieces = spans.pieces(data.layout.chunk_shape[0])
    if data.layout.chunk_shape != indices.layout.chunk_shape or data.layout.plain != indices.layout.plain:
        return None
    selection = _Selection(data, indices, pieces, n_vars, genes)
    rows = selection.from_file(indptr) if data.layout.plain else selection.from_storage_chunks(indptr)
    if rows is not None:
        count("copied", int(indptr[-1]) * (data.dtype.itemsize + indices.dtype.itemsize))
    return rows


class _Selection:
    """Kept values on their way.

    Out of a mapped file they are counted first and then go to their places. Storage chunks are decoded once, so
    what is kept of them goes wherever the thread has put the last ones, and is copied to its place afterwards.
    """

    def __init__(self, data: Direct, indices: Direct, pieces: Pieces, n_vars: int, genes: Genes) -> None:
        self.data, self.indices, self.pieces, self.genes, self.below = data, indices, pieces, genes, n_vars
        self.longest = int(pieces.lengths.max(initial=0)) + 1  # a value that is not kept may be written behind the last
        self.room = np.concatenate([[0], np.cumsum(pieces.lengths)])  # where the first piece of a share may be put
        self.begins, self.numbers = np.empty(len(pieces), np.int64), np.empty(len(pieces), np.int64)  # of what is kept
        self.limit = word_limit(np.empty(0, indices.dtype), n_vars)
        self.order = np.argsort(pieces.tos)  # (pieces,), as they are drawn

    def from_file(self, indptr: RowArray) -> SparseRows | None:
        """Out of the mapped file, if it is mapped and its numbers stand where numbers may stand."""
        indices, data = self._in_file(self.indices), self._in_file(self.data)
        if indices is None or data is None:
            return None
        count("decoded", int(self.room[-1]) * (self.data.dtype.itemsize + self.indices.dtype.itemsize))
        parts = list(shares(len(self.pieces), len(self.pieces), 64))
        mask = (self.genes.columns >= 0).astype(np.uint8)  # (n_vars,)
        run(Work([partial(self._count, *indices, mask, *part) for part in parts]))
        kept = self._kept(indptr)
        self.begins[self.order] = np.cumsum(self.numbers[self.order]) - self.numbers[self.order]
        rows = self._rows(kept)
        select = partial(self._select, indices[0], data[0], indices[1], data[1], rows, True)
        run(Work([partial(select, *part) for part in parts]))
        return rows

    def _kept(self, indptr: RowArray) -> RowArray:
        """Where what is kept of each row begins, from where whole rows would; shape ``(n + 1,)``."""
        ends = np.concatenate([[0], np.cumsum(self.numbers[self.order])])
        kept: RowArray = ends[np.searchsorted(self.pieces.tos[self.order], indptr)]
        return kept

    def _rows(self, indptr: RowArray) -> SparseRows:
        """Room for values of so many rows."""
        data, indices = empty(indptr[-1], self.data.dtype), empty(indptr[-1], self.indices.dtype)
        return SparseRows(data, indices, indptr, len(self.genes))

    def _count(self, indices: NDArray[Any], froms: Offsets, mask: Bytes, start: int, stop: int) -> None:
        lengths = self.pieces.lengths
        self._refuse(count_pieces(indices, froms, lengths, start, stop, self.limit, mask, self.numbers))

    def _in_file(self, dataset: Direct) -> tuple[NDArray[Any], Offsets] | None:
        """The mapped file as numbers of a dataset's size, and where among them each piece begins."""
        source, size = dataset.file.bytes(), dataset.dtype.itemsize
        places = dataset.layout.offsets[self.pieces.chunks] + self.pieces.froms * size
        mapped = source.mapped()
        if mapped is None or (places % size).any() or not source.cached(places):
            return None
        return mapped[: len(mapped) // size * size].view(f"u{size}"), places // size

    def from_storage_chunks(self, indptr: RowArray) -> SparseRows:
        """Out of storage chunks, of which those of both datasets hold the same places."""
        edges = np.array(self.pieces.edges(), np.int64)
        numbers = self.pieces.chunks[edges[:-1]]
        count("decoded", (self.data.layout.chunk_bytes + self.indices.layout.chunk_bytes) * len(numbers))
        functions = isal_functions() if self.data.gzip_alone and self.indices.gzip_alone else None
        few = len(numbers) <= FEW
        found = self._rows(self.room)
        if few or functions is None:
            tasks = [partial(self._decode_and_select, found, few, *group) for group in pairwise(edges.tolist())]
        else:
            tables = [table[numbers] for part in (self.indices, self.data) for table in _tables(part)]
            parts = shares(len(numbers))
            tasks = [partial(self._inflate_and_select, functions, tables, edges, found, *part) for part in parts]
        run(Work(tasks, task_bytes=3 * max(self.data.layout.chunk_bytes, self.indices.layout.chunk_bytes)))
        rows = self._rows(self._kept(indptr))
        begins, lengths = self.begins[self.order], self.numbers[self.order]
        tos = np.cumsum(lengths) - lengths
        pairs = (found.data, rows.data), (found.indices, rows.indices)
        run(Work([partial(_copy, source, begins, tos, lengths, out) for source, out in pairs]))
        return rows

    def _out(self, rows: SparseRows) -> tuple[Any, ...]:
        """Room for one row, where what is kept goes, and what is noted of it: the kernels' last arguments."""
        buffers = np.empty(self.longest, _words(rows.indices).dtype), np.empty(self.longest, _words(rows.data).dtype)
        return (*buffers, self.genes.columns, _words(rows.indices), _words(rows.data), self.begins, self.numbers)

    def _refuse(self, wrong: int) -> None:
        if wrong >= 0:
            begin = int(self.pieces.chunks[wrong]) * self.indices.layout.chunk_shape[0] + int(self.pieces.froms[wrong])
            last = begin + int(self.pieces.lengths[wrong]) - 1
            raise self.indices.origin.damage(begin, last, f"a column is not in 0 … {self.below - 1}")

    def _select(
        self,
        indices: NDArray[Any],
        data: NDArray[Any],
        index_froms: Offsets,
        froms: Offsets,
        rows: SparseRows,
        counted: bool,
        start: int,
        stop: int,
    ) -> None:
        sources = (indices, data, index_froms, froms, self.pieces.lengths, start, stop, int(self.room[start]))
        wrong, _ = select_pieces(*sources, counted, self.limit, *self._out(rows))
        self._refuse(wrong)

    def _decode_and_select(self, rows: SparseRows, few: bool, start: int, stop: int) -> None:
        number, froms = int(self.pieces.chunks[start]), self.pieces.froms
        indices, data = (part.decode(number, few).view(f"u{part.dtype.itemsize}") for part in (self.indices, self.data))
        self._select(indices, data, froms, froms, rows, False, start, stop)

    def _inflate_and_select(
        self, functions: Functions, tables: list[Offsets], edges: Offsets, rows: SparseRows, first: int, last: int
    ) -> None:
        largest_encoded = max(int(tables[place][first:last].max()) for place in (1, 3))
        decoded_sizes = self.indices.layout.chunk_bytes, self.data.layout.chunk_bytes
        scratch, other = Scratch(largest_encoded, decoded_sizes[0]), np.empty(decoded_sizes[1], np.uint8)
        to, out = int(self.room[edges[first]]), self._out(rows)
        while first < last:
            with measured("decode"):
                first, to = select_inflated(
                    functions,
                    self.data.file.bytes().descriptor,
                    (tables[0], tables[1], tables[2], tables[3]),
                    edges,
                    first,
                    last,
                    scratch.state,
                    scratch.encoded,
                    scratch.decoded,
                    other,
                    scratch.decoded.view(f"u{self.indices.dtype.itemsize}"),
                    other.view(f"u{self.data.dtype.itemsize}"),
                    self.pieces.froms,
                    self.pieces.lengths,
                    to,
                    self.limit,
                    *out,
                )
            if first < last:
                self._decode_and_select(rows, False, *edges[first : first + 2].tolist())
                first += 1
                to = int(self.room[edges[first]])


def _tables(dataset: Direct) -> tuple[Offsets, Offsets]:
    return dataset.layout.offsets, dataset.layout.sizes


def _words(values: NDArray[Any]) -> NDArray[Any]:
    return values.view(f"u{values.itemsize}")


def _copy(source: NDArray[Any], froms: RowArray, tos: RowArray, lengths: RowArray, out: NDArray[Any]) -> None:
    size = out.itemsize
    offsets = (froms * size, tos * size, lengths * size)
    copy_pieces(source.view(np.uint8), *offsets, 0, len(lengths), out.view(np.uint8))
