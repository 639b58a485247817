"""Which bytes of which storage chunk go where: arithmetic before anything is read."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from annpipes.plans.rows import RowArray, join_ranges
from annpipes.plans.sorting import sorting_order

__all__ = ["Pieces", "Spans", "row_pieces", "span_pieces"]


@dataclass(frozen=True, eq=False)
class Pieces:
    """Copies out of storage chunks, grouped by storage chunk in ascending order.

    Parameters
    ----------
    chunks
        The storage chunk of each piece, ascending; shape ``(pieces,)``.
    froms, tos, lengths
        Where it begins in the decoded storage chunk, where it goes in the output, and how
        long it is, in elements (or bytes, after `scaled`); shape ``(pieces,)``.
    """

    chunks: RowArray
    froms: RowArray
    tos: RowArray
    lengths: RowArray

    def __len__(self) -> int:
        return len(self.chunks)

    def at(self, which: RowArray | slice) -> Pieces:
        """Some of them."""
        return Pieces(self.chunks[which], self.froms[which], self.tos[which], self.lengths[which])

    def scaled(self, item_size: int) -> Pieces:
        """The same in units of ``1 / item_size``."""
        return Pieces(self.chunks, self.froms * item_size, self.tos * item_size, self.lengths * item_size)

    def in_turn(self, before: int) -> tuple[Pieces, int]:
        """First those of storage chunks that outputs below ``before`` need, then the others; and how many are first."""
        wanted, edges = self.tos < before, np.array(self.edges())
        if wanted.all() or not wanted.any():
            return self, int(wanted.sum())
        needed = np.repeat(np.logical_or.reduceat(wanted, edges[:-1]), np.diff(edges))  # (pieces,)
        return self.at(np.concatenate([np.flatnonzero(needed), np.flatnonzero(~needed)])), int(needed.sum())

    def edges(self) -> list[int]:
        """Where the pieces of each storage chunk begin, and the end of the last."""
        inner = np.flatnonzero(np.diff(self.chunks)) + 1
        return [0, *inner.tolist(), len(self)] if len(self) else []


@dataclass(frozen=True, eq=False)
class Spans:
    """Stretches of a one-dimensional dataset and where they go; several datasets may share them.

    Parameters
    ----------
    firsts, lengths, tos
        First element, number of elements and place in the output of each; shape ``(spans,)``.
    before
        Outputs below this are wanted before the others; all at once when 0.
    """

    firsts: RowArray
    lengths: RowArray
    tos: RowArray
    before: int = 0
    _pieces: dict[int, Pieces] = field(default_factory=dict)

    def pieces(self, side: int) -> Pieces:
        """The spans cut into storage chunks of ``side`` elements; worked out once."""
        if side not in self._pieces:
            self._pieces[side] = span_pieces(self.firsts, self.lengths, self.tos, side)
        return self._pieces[side]


def span_pieces(firsts: RowArray, lengths: RowArray, tos: RowArray, side: int) -> Pieces:
    """Spans of a one-dimensional dataset, cut where storage chunks of ``side`` elements end.

    >>> span_pieces(np.array([2, 7]), np.array([6, 1]), np.array([0, 6]), 5)
    Pieces(chunks=array([0, 1, 1]), froms=array([2, 0, 2]), tos=array([0, 3, 6]), lengths=array([3, 3, 1]))
    """
    filled = lengths > 0
    if not filled.all():
        firsts, lengths, tos = firsts[filled], lengths[filled], tos[filled]
    lasts = firsts + lengths - 1  # (spans,)
    if lasts.max(initial=-1) < side:  # as in every contiguous dataset
        return Pieces(np.zeros_like(firsts), firsts, tos, lengths)
    first_chunks = firsts // side
    counts = lasts // side - first_chunks + 1
    if counts.sum() == len(firsts):  # no span crosses an edge
        return _grouped(Pieces(first_chunks, firsts - first_chunks * side, tos, lengths))
    chunks = join_ranges(first_chunks, counts)  # (pieces,)
    span = np.repeat(np.arange(len(firsts)), counts)
    begins = np.maximum(firsts[span], chunks * side)
    ends = np.minimum(lasts[span] + 1, (chunks + 1) * side)
    return _grouped(Pieces(chunks, begins - chunks * side, tos[span] + begins - firsts[span], ends - begins))


def row_pieces(rows: RowArray, places: RowArray, shape: tuple[int, ...], chunk_shape: tuple[int, ...]) -> Pieces:
    """Rows of a two-dimensional dataset, cut where its storage chunks end.

    >>> row_pieces(np.array([3]), np.array([0]), (4, 5), (2, 3))
    Pieces(chunks=array([2, 3]), froms=array([3, 3]), tos=array([0, 3]), lengths=array([3, 2]))
    """
    (height, width), columns = chunk_shape, -(-shape[1] // chunk_shape[1])
    column = np.arange(columns)[:, None]  # (columns, 1)
    chunks = rows // height * columns + column  # (columns, rows)
    froms = np.broadcast_to(rows % height * width, chunks.shape)
    tos = places * shape[1] + column * width
    lengths = np.broadcast_to(np.minimum(width, shape[1] - column * width), chunks.shape)
    return _grouped(Pieces(chunks.ravel(), froms.ravel(), tos.ravel(), lengths.ravel()))


def _grouped(pieces: Pieces) -> Pieces:
    if (pieces.chunks[1:] >= pieces.chunks[:-1]).all():
        return pieces
    return pieces.at(sorting_order(pieces.chunks))
