"""The rows of several stores, one store after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from annpipes.plans.rows import RowArray
from annpipes.types import Chunk

__all__ = ["RowSpace", "Share"]


class Share(NamedTuple):
    """What one store contributes to a chunk."""

    number: int
    """Which store."""
    where: slice
    """Its part of the chunk's ascending rows."""
    rows: RowArray
    """The same rows as the store counts them, ascending; shape ``(n,)``."""

    @property
    def chunk(self) -> Chunk:
        """The rows as a chunk that hands them on as they stand."""
        return Chunk(self.rows, np.arange(len(self.rows)))


class RowSpace:
    """Row numbers over stores of these lengths.

    >>> space = RowSpace([3, 0, 2])
    >>> [(share.number, share.rows.tolist()) for share in space.shares(np.array([1, 2, 4]))]
    [(0, [1, 2]), (2, [1])]
    >>> space.locate(np.array([4, 0]))
    (array([2, 0]), array([1, 0]))
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.bounds: RowArray = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])  # (stores + 1,)

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def shares(self, rows: RowArray) -> Iterator[Share]:
        """The stores that ascending ``rows`` lie in, each with its part of them."""
        edges = np.searchsorted(rows, self.bounds)  # (stores + 1,)
        for number in np.flatnonzero(np.diff(edges)).tolist():
            where = slice(int(edges[number]), int(edges[number + 1]))
            yield Share(number, where, rows[where] - self.bounds[number])

    def locate(self, rows: RowArray) -> tuple[RowArray, RowArray]:
        """The store of each row, and its number there; each ``(n,)``."""
        numbers = np.searchsorted(self.bounds, rows, side="right") - 1
        return numbers, rows - self.bounds[numbers]

    def slices(self) -> list[slice]:
        """The rows of each store."""
        return [slice(*edges) for edges in pairwise(self.bounds.tolist())]
