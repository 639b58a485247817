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
from annpipes.stores.compiled.kernels import Offsets, copy_values
from annpipes.stores.engine.column_loops import Kept, Room, Sources, select_decoded, select_pieces
from annpipes.stores.engine.decoding import Chunks, Decoder, decoder_of, scratch_for
from annpipes.stores.engine.elements import FEW, Dataset, Direct, shares
from annpipes.stores.engine.pieces import Pieces, Spans
from annpipes.stores.engine.pools import Work, empty, run
from annpipes.stores.engine.targets import word_limit
from annpipes.stores.genes import Genes
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
    tasks = selection.plain_tasks() if data.layout.plain else selection.decoded_tasks()
    if tasks is None:
        return None
    count("copied", int(indptr[-1]) * (data.dtype.itemsize + indices.dtype.itemsize))
    run(tasks)
    return selection.rows(indptr)


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

    def plain_tasks(self) -> Work | None:
        """Out of the mapped file, if it is mapped and its numbers stand where numbers may stand."""
        indices, data = self._in_file(self.indices), self._in_file(self.data)
        if indices is None or data is None:
            return None
        count("decoded", int(self.room[-1]) * (self.data.dtype.itemsize + self.indices.dtype.itemsize))
        parts = shares(len(self.pieces), len(self.pieces), 64)
        select = partial(self._select, indices[0], data[0], indices[1], data[1])
        return Work([partial(select, *part) for part in parts], guard=self.data.source.steady)

    def _in_file(self, dataset: Direct) -> tuple[NDArray[Any], Offsets] | None:
        """The mapped file as numbers of a dataset's size, and where among them each piece begins."""
        source, size = dataset.source.opened(), dataset.dtype.itemsize
        places = dataset.layout.offsets[self.pieces.chunks] + self.pieces.froms * size
        mapped = source.mapped()
        if mapped is None or (places % size).any() or not source.cached(places):
            return None
        return mapped[: len(mapped) // size * size].view(f"u{size}"), places // size

    def decoded_tasks(self) -> Work:
        """Out of storage chunks, of which those of both datasets hold the same places."""
        edges = np.array(self.pieces.edges(), np.int64)
        numbers = self.pieces.chunks[edges[:-1]]
        count("decoded", (self.data.layout.chunk_bytes + self.indices.layout.chunk_bytes) * len(numbers))
        few, decoders = len(numbers) <= FEW, (decoder_of(self.indices.layout), decoder_of(self.data.layout))
        if few or decoders[0] is None or decoders[1] is None or self.data.source.opened().descriptor is None:
            tasks = [partial(self._decode_and_select, few, *group) for group in pairwise(edges.tolist())]
        else:
            tables = [(part.layout.offsets[numbers], part.layout.sizes[numbers]) for part in (self.indices, self.data)]
            select = partial(self._select_decoded, (decoders[0], decoders[1]), tables, edges)
            tasks = [partial(select, *part) for part in shares(len(numbers))]
        sizes = self.data.layout.chunk_bytes, self.indices.layout.chunk_bytes
        return Work(tasks, task_bytes=3 * max(sizes), guard=self.data.source.steady)

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

    def _select_decoded(
        self,
        decoders: tuple[Decoder, Decoder],
        tables: list[tuple[Offsets, Offsets]],
        edges: Offsets,
        first: int,
        last: int,
    ) -> None:
        parts, descriptor = (self.indices, self.data), self.data.source.opened().descriptor
        assert descriptor is not None
        chunks = [
            Chunks(descriptor, offsets, sizes, edges, decoder.steps)
            for (offsets, sizes), decoder in zip(tables, decoders, strict=True)
        ]
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
                first, to = select_decoded((chunks[0], chunks[1]), first, last, to, scratch, sources, room, self.kept)
            if first < last:
                self._decode_and_select(False, *edges[first : first + 2].tolist())
                first += 1
                to = int(self.room[edges[first]])

    def _room(self) -> Room:
        return Room(np.empty(self.longest, f"u{self.indices.dtype.itemsize}"), np.empty(self.longest, np.int32))

    def rows(self, indptr: RowArray) -> SparseRows:
        """What was kept, in the drawn order; ``indptr`` is that of whole rows."""
        begins, numbers = self.found
        order = np.argsort(self.pieces.tos)  # (pieces,)
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


def _words(values: NDArray[Any]) -> NDArray[Any]:
    return values.view(f"u{values.itemsize}")
