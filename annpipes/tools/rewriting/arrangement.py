"""Which rows stand where in a rewritten file, part by part."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.plans.order import BlockShuffled, InOrder
from annpipes.plans.permutation import Permutation
from annpipes.plans.rows import RowArray, Rows
from annpipes.types import Chunk

__all__ = ["Arrangement", "Piece", "pieces_of"]


@dataclass(frozen=True)
class Piece:
    """A part of an output file: so many rows that are read and written together.

    Parameters
    ----------
    number
        Of the part, over all files.
    file
        Of the output file.
    start, stop
        Its rows' positions in the new order, over all files.
    first
        The row of the output file at which it begins.
    """

    number: int
    file: int
    start: int
    stop: int
    first: int

    def __len__(self) -> int:
        return self.stop - self.start


def pieces_of(n_rows: int, rows_per_file: int, rows_per_piece: int) -> list[Piece]:
    """All rows in files of ``rows_per_file``, each in nearly equal parts of at most ``rows_per_piece``.

    >>> [(piece.file, piece.start, piece.stop, piece.first) for piece in pieces_of(7, 5, 3)]
    [(0, 0, 2, 0), (0, 2, 5, 2), (1, 5, 7, 0)]
    """
    pieces: list[Piece] = []
    for file, begin in enumerate(range(0, max(n_rows, 1), rows_per_file)):
        end = min(begin + rows_per_file, n_rows)
        edges = np.linspace(begin, end, max(1, -(-(end - begin) // rows_per_piece)) + 1).astype(int).tolist()
        pieces += [Piece(len(pieces) + i, file, *edge, edge[0] - begin) for i, edge in enumerate(pairwise(edges))]
    return pieces


class Arrangement:
    """The new order of all rows: blocks in random order, the rows of each part permuted.

    >>> arrangement = Arrangement(6, block_size=2, seed=0)
    >>> [arrangement.rows(piece).tolist() for piece in pieces_of(6, 6, 4)]
    [[4, 0, 5], [3, 1, 2]]

    Parameters
    ----------
    n_rows
        How many rows there are.
    block_size
        Rows that are read together.
    seed
        With the other parameters and the parts, all that the order depends on.
    labels
        The group of each row, ``(n_rows,)``, if rows of a group shall stand together, group after group; -1 comes last.
    """

    def __init__(self, n_rows: int, block_size: int, seed: int, labels: NDArray[Any] | None = None) -> None:
        self.seed: int = seed
        self.labels: NDArray[Any] | None = labels
        groups: list[Rows] = [range(n_rows)]
        if labels is not None:
            codes = _missing_last(labels)
            _, sizes = np.unique(codes, return_counts=True)
            groups = [*np.split(np.argsort(codes, kind="stable"), np.cumsum(sizes)[:-1])]
        self.bounds: NDArray[np.int64] = np.cumsum([0, *map(len, groups)])  # (groups + 1,), in the new order
        self._epochs = [
            BlockShuffled(InOrder(rows, block_size)).epoch((seed, _GROUP, number)) for number, rows in enumerate(groups)
        ]

    def rows(self, piece: Piece) -> RowArray:
        """The rows of a part in their new order; shape ``(n,)``."""
        rows = self._blocks(piece.start, piece.stop)
        rows = rows[Permutation(len(rows), (self.seed, _PIECE, piece.number))(np.arange(len(rows)))]
        return rows if self.labels is None else rows[np.argsort(_missing_last(self.labels[rows]), kind="stable")]

    def chunk(self, piece: Piece) -> Chunk:
        """The rows of a part as a chunk to read."""
        return Chunk.of(self.rows(piece))

    def _blocks(self, start: int, stop: int) -> RowArray:
        """The rows at these positions, block by block."""
        found = [np.zeros(0, np.int64)]
        for (begin, end), epoch in zip(pairwise(self.bounds.tolist()), self._epochs, strict=True):
            if begin < stop and start < end:
                found.append(epoch.rows(max(start, begin) - begin, min(stop, end) - begin))
        return np.concatenate(found)


_GROUP, _PIECE = 0, 1  # what a stream of random words is for


def _missing_last(labels: NDArray[Any]) -> NDArray[np.int64]:
    codes = labels.astype(np.int64)
    return np.where(codes < 0, np.iinfo(np.int64).max, codes)
