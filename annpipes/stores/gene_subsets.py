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

from annpipes.meters import count, measured
from annpipes.plans.rows import RowArray
from annpipes.plans.sorting import sorting_order
from annpipes.stores.begun import Begun
from annpipes.stores.compiled.kernels import Offsets, copy_values
from annpipes.stores.engine.column_loops import Kept, Room, Sources, select_decoded, select_pieces
from annpipes.stores.engine.decoding import Loop, loop_of, scratch_for
from annpipes.stores.engine.elements import FEW, Dataset, Direct, InMemory, shares
from annpipes.stores.engine.pieces import Pieces, Spans
from annpipes.stores.engine.pools import Work, begin, empty, run
from annpipes.stores.engine.targets import word_limit
from annpipes.stores.genes import Genes
from annpipes.types import SparseRows

__all__ = ["begin_selected"]


def begin_selected(
    data: Dataset, indices: Dataset, spans: Spans, indptr: RowArray, n_vars: int, genes: Genes, first: int
) -> Begun | None:
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
    first
        How many rows in the drawn order are wanted before the others; all at once when 0.
    """
    if not (isinstance(data, Direct) and isinstance(indices, Direct)):
        return None
    pieces = spans.pieces(data.layout.chunk_shape[0])
    if data.layout.chunk_shape != indices.layout.chunk_shape or data.layout.plain != indices.layout.plain:
        return None
    if any(source.opened().requesting is not None for part in (data, indices) for source in part.layout.sources):
        return None  # whole rows, by few requests
    pieces, n_first = pieces.in_turn(spans.before) if first and not data.layout.plain else (pieces, len(pieces))
    selection = _Selection(data, indices, pieces, n_vars, genes)
    work = selection.plain_work()
    if work is None and data.layout.plain:
        return None
    count("copied", int(indptr[-1]) * (data.dtype.itemsize + indices.dtype.itemsize))
    if work is not None or n_first == len(pieces):
        run(work or selection.decoded_work(n_first))
        return Begun.of(selection.rows(indptr), first)
    finish = begin(selection.decoded_work(n_first))

    def rest() -> SparseRows:
        finish()
        return selection.rows(indptr[first:])

    return Begun(selection.rows(indptr[: first + 1]), rest)


class _Selection:
    """Kept values on their way: first where their threads put them, then to their places."""

    def __init__(self, data: Direct, indices: Direct, pieces: Pieces, n_vars: int, genes: Genes) -> None:
        self.data, self.indices, self.pieces, self.genes = data, indices, pieces, genes
        self.longest = int(pieces.lengths.max(initial=0))
        self.room = np.concatenate([[0], np.cumsum(pieces.lengths)])  # where the first piece of a share may be put
        self.found = np.empty(len(pieces), np.int64), np.empty(len(pieces), np.int64)  # begin and number
        self.out_data, self.out_indices = empty(self.room[-1], data.dtype), empty(self.room[-1], indices.dtype)
        self.below, limit = n_vars, word_limit(self.out_indices, n_vars)
        out = _words(self.out_indices), _words(self.out_data)
        self.kept = Kept((genes.columns >= 0).astype(np.uint8), genes.columns, limit, *out, *self.found)

    def plain_work(self) -> Work | None:
        """Out of mapped bytes, if they are mapped and numbers stand where numbers may stand."""
        indices, data = (part.in_memory(self.pieces.scaled(part.dtype.itemsize)) for part in (self.indices, self.data))
        if indices is None or data is None or not (_aligned(indices, self.indices) and _aligned(data, self.data)):
            return None
        n_bytes = int(self.room[-1]) * (self.data.dtype.itemsize + self.indices.dtype.itemsize)
        count("decoded", n_bytes)
        count("cached", n_bytes if data.around else 0)
        (index_words, index_froms), (data_words, data_froms) = (
            _in_words(indices, self.indices),
            _in_words(data, self.data),
        )
        select = partial(self._select, index_words, data_words, index_froms, data_froms)
        tasks = [partial(select, *share) for share in shares(len(self.pieces), len(self.pieces), 64)]
        return Work(tasks, guards=[*indices.guards, *data.guards], around=[*indices.around, *data.around])

    def decoded_work(self, n_first: int) -> Work:
        """Out of storage chunks, which hold the same places of both datasets; those of so many pieces first."""
        edges = np.array(self.pieces.edges(), np.int64)
        numbers = self.pieces.chunks[edges[:-1]]
        count("decoded", (self.data.layout.chunk_bytes + self.indices.layout.chunk_bytes) * len(numbers))
        parts, few = (self.indices, self.data), len(numbers) <= FEW
        count("cached", sum(part.kept_bytes(self.pieces) * part.dtype.itemsize for part in parts))
        opened = [part.layout.opened(numbers) for part in parts]
        index_loop, data_loop = (
            None if few else loop_of(part.layout, one, numbers, edges, part.shelf)
            for part, one in zip(parts, opened, strict=True)
        )
        turn = int(np.searchsorted(edges, n_first))  # how many storage chunks come first
        if index_loop is None or data_loop is None:
            tasks = [partial(self._decode_and_select, few, *group) for group in pairwise(edges.tolist())]
            first, rest = tasks[:turn], tasks[turn:]
        else:
            select = partial(self._select_decoded, (index_loop, data_loop))
            first = [partial(select, *share) for share in shares(turn)]
            rest = [partial(select, turn + start, turn + stop) for start, stop in shares(len(numbers) - turn)]
        guards = [guard for one in opened for guard in one.guards]
        around = [guard for part in parts for guard in part.around()]
        size = 3 * max(part.layout.chunk_bytes for part in parts)
        return Work([*first, *rest], size, guards=guards, around=around, n_first=len(first))

    def _select(
        self, indices: NDArray[Any], data: NDArray[Any], index_froms: Offsets, froms: Offsets, start: int, stop: int
    ) -> None:
        sources = Sources(indices, data, index_froms, froms, self.pieces.lengths)
        wrong, _ = select_pieces(sources, start, stop, int(self.room[start]), self._room(), self.kept)
        if wrong >= 0:
            begin = int(self.pieces.chunks[wrong]) * self.indices.layout.chunk_shape[0] + int(self.pieces.froms[wrong])
            last = begin + int(self.pieces.lengths[wrong]) - 1
            raise self.indices.origin.damage(begin, last, f"a column is not in 0 … {self.below - 1}")

    def _decode_and_select(self, few: bool, start: int, stop: int) -> None:
        number, froms = int(self.pieces.chunks[start]), self.pieces.froms
        indices, data = (part.decode(number, few).view(f"u{part.dtype.itemsize}") for part in (self.indices, self.data))
        self._select(indices, data, froms, froms, start, stop)

    def _select_decoded(self, loops: tuple[Loop, Loop], first: int, last: int) -> None:
        parts, chunks = (self.indices, self.data), (loops[0].chunks, loops[1].chunks)
        edges, decoders = chunks[0].edges, [loop.decoder for loop in loops]
        index_bytes, data_bytes = (part.layout.chunk_bytes for part in parts)
        largest_encoded = max(int(part.sizes[first:last].max()) for part in chunks)
        both = scratch_for(decoders, largest_encoded, max(index_bytes, data_bytes))
        scratch = (
            both._replace(decoded=both.decoded[:index_bytes]),
            both._replace(decoded=np.empty(data_bytes, np.uint8)),
        )
        index_words, data_words = (
            one.decoded.view(f"u{part.dtype.itemsize}") for one, part in zip(scratch, parts, strict=True)
        )
        sources = Sources(index_words, data_words, self.pieces.froms, self.pieces.froms, self.pieces.lengths)
        room, to = self._room(), int(self.room[edges[first]])
        while first < last:
            with measured("decode"):
                first, to = select_decoded(chunks, first, last, to, scratch, sources, room, self.kept)
            if first < last:
                self._decode_and_select(False, *edges[first : first + 2].tolist())
                first += 1
                to = int(self.room[edges[first]])

    def _room(self) -> Room:
        return Room(np.empty(self.longest, f"u{self.indices.dtype.itemsize}"), np.empty(self.longest, np.int32))

    def rows(self, indptr: RowArray) -> SparseRows:
        """What was kept of rows that follow each other in the drawn order; ``indptr`` says where whole ones begin."""
        begins, numbers = self.found
        order = sorting_order(self.pieces.tos)  # (pieces,)
        order = order[slice(*np.searchsorted(self.pieces.tos, indptr[[0, -1]], sorter=order))]
        tos, lengths = self.pieces.tos[order], numbers[order]
        ends = np.concatenate([[0], np.cumsum(lengths)])
        kept = ends[np.searchsorted(tos, indptr)]  # (n + 1,)
        data, indices = empty(kept[-1], self.data.dtype), empty(kept[-1], self.indices.dtype)
        tasks = [
            partial(copy_values, source, begins[order], ends[:-1], lengths, out)
            for source, out in ((self.out_data, data), (self.out_indices, indices))
        ]
        run(Work(tasks))
        return SparseRows(data, indices, kept, len(self.genes))


def _aligned(found: InMemory, dataset: Direct) -> bool:
    """Whether numbers stand where numbers of a dataset's size may stand."""
    return not (found.froms % dataset.dtype.itemsize).any()


def _in_words(found: InMemory, dataset: Direct) -> tuple[NDArray[Any], Offsets]:
    """A source as numbers of a dataset's size, and where among them each piece begins."""
    size, source = dataset.dtype.itemsize, found.source
    return source[: len(source) // size * size].view(f"u{size}"), found.froms // size


def _words(values: NDArray[Any]) -> NDArray[Any]:
    return values.view(f"u{values.itemsize}")
