"""The order in which an epoch visits rows, as a pure function of its key.

A plan says how many rows an epoch has and, once it is given the epoch's key, which rows stand
at any positions of it. It holds no file and no state; ranks, workers and resuming are
arithmetic on positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from annpipes._permutations import Key, Permutation
from annpipes._rows import RowArray, Rows, join_ranges, restore_order, rows_fingerprint, take_rows
from annpipes.types import Chunk

__all__ = ["BlockShuffled", "ChunkPlan", "Epoch", "InOrder", "Plan", "drawn_rows"]

_BLOCKS, _CHUNK = 0, 1  # what a stream of random words is for: the last-but-one part of its key


class Epoch(Protocol):
    """One epoch's order."""

    def rows(self, start: int, stop: int) -> RowArray:
        """The rows at positions ``start … stop-1``; shape ``(stop - start,)``."""

    def blocks(self) -> Iterator[RowArray]:
        """All rows, block by block."""


class Plan(Protocol):
    """The orders of all epochs."""

    @property
    def n_rows(self) -> int:
        """How many rows an epoch visits."""

    @property
    def shuffled(self) -> bool:
        """Whether rows of one chunk may be permuted, too."""

    def epoch(self, key: Key) -> Epoch:
        """The order drawn with this key; with an empty one, rows as they stand."""

    def fingerprint(self) -> Mapping[str, str | int]:
        """What makes this plan another than others, in a few short values."""


@dataclass(frozen=True, eq=False)
class InOrder:
    """Rows as they stand, in blocks of ``block_size``.

    >>> InOrder(range(10), 4).epoch((0,)).rows(2, 5)
    array([2, 3, 4])
    """

    row_set: Rows
    block_size: int
    shuffled: bool = False

    @property
    def n_rows(self) -> int:
        return len(self.row_set)

    @property
    def n_blocks(self) -> int:
        """How many blocks; the last one may be short."""
        return -(-self.n_rows // self.block_size)

    def epoch(self, key: Key) -> InOrder:
        return self

    def fingerprint(self) -> Mapping[str, str | int]:
        return {"rows": self._known_rows, "block_size": self.block_size, "order": "as it stands"}

    @cached_property
    def _known_rows(self) -> str:
        return rows_fingerprint(self.row_set)

    def rows(self, start: int, stop: int) -> RowArray:
        return take_rows(self.row_set, np.arange(start, stop))

    def blocks(self) -> Iterator[RowArray]:
        for start in range(0, self.n_rows, self.block_size):
            yield self.rows(start, min(start + self.block_size, self.n_rows))


@dataclass(frozen=True, eq=False)
class BlockShuffled:
    """The blocks of ``source`` in random order.

    >>> BlockShuffled(InOrder(range(6), 2)).epoch((0,)).rows(0, 6)
    array([2, 3, 4, 5, 0, 1])
    """

    source: InOrder
    shuffled: bool = True

    @property
    def n_rows(self) -> int:
        return self.source.n_rows

    def fingerprint(self) -> Mapping[str, str | int]:
        return {**self.source.fingerprint(), "order": "shuffled blocks"}

    def epoch(self, key: Key) -> Epoch:
        if not key:
            return self.source.epoch(key)
        return _BlockEpoch(self.source, Permutation(self.source.n_blocks, (*key, _BLOCKS)))


class _BlockEpoch:
    """Positions to rows when whole blocks change places.

    All blocks have one size but perhaps the last, so a position is known from the place
    where that one ended up; nothing per block is kept.
    """

    def __init__(self, source: InOrder, permutation: Permutation) -> None:
        self.source = source
        self.permutation = permutation
        last = source.n_blocks - 1
        self.missing = source.n_blocks * source.block_size - source.n_rows  # rows the last block is short of
        self.short_slot = permutation.position_of(last) if self.missing else last

    def rows(self, start: int, stop: int) -> RowArray:
        if start >= stop:
            return np.zeros(0, np.int64)
        first, last = self._slot(start), self._slot(stop - 1)
        slots = np.arange(first, last + 1)
        starts = self.permutation(slots) * self.source.block_size  # (blocks,)
        ends = np.minimum(starts + self.source.block_size, self.source.n_rows)
        starts[0] += start - self._position(first)
        ends[-1] -= self._position(last + 1) - stop
        return take_rows(self.source.row_set, join_ranges(starts, ends - starts))

    def blocks(self) -> Iterator[RowArray]:
        for slot in range(self.source.n_blocks):
            yield self.rows(self._position(slot), self._position(slot + 1))

    def _position(self, slot: int) -> int:
        """The first position of the block in ``slot``."""
        return slot * self.source.block_size - (self.missing if slot > self.short_slot else 0)

    def _slot(self, position: int) -> int:
        """The slot of the block that holds ``position``."""
        if position >= self._position(self.short_slot + 1):
            position += self.missing
        return position // self.source.block_size


@dataclass(frozen=True, eq=False)
class ChunkPlan:
    """A plan cut into chunks; any chunk of any epoch can be computed by itself.

    >>> plan = ChunkPlan(BlockShuffled(InOrder(range(6), 2)), 4)
    >>> plan.n_chunks, plan.epoch((0,)).chunk(1).rows
    (2, array([0, 1]))
    """

    source: Plan
    chunk_size: int

    @property
    def n_rows(self) -> int:
        """How many rows an epoch visits."""
        return self.source.n_rows

    @property
    def n_chunks(self) -> int:
        """How many chunks; the last one may be short."""
        return -(-self.n_rows // self.chunk_size)

    def epoch(self, key: Key) -> ChunkEpoch:
        """The chunks of the epoch with this key."""
        return ChunkEpoch(self, key, self.source.epoch(key))


@dataclass(frozen=True, eq=False)
class ChunkEpoch:
    """The chunks of one epoch."""

    plan: ChunkPlan
    key: Key
    order: Epoch

    def chunk(self, number: int) -> Chunk:
        """Chunk ``number``, its rows ascending, permuted on the way out if the plan is shuffled."""
        start = number * self.plan.chunk_size
        rows = self.order.rows(start, min(start + self.plan.chunk_size, self.plan.n_rows))
        return Chunk(*restore_order(drawn_rows(rows, self.plan.source, self.key, number)))


def drawn_rows(rows: RowArray, plan: Plan, key: Key, number: int) -> RowArray:
    """The rows of chunk ``number`` in the order to hand them on: permuted if the plan is shuffled."""
    if not plan.shuffled or not key:
        return rows
    return rows[Permutation(len(rows), (*key, _CHUNK, number))(np.arange(len(rows)))]
