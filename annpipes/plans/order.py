"""Rows as they stand, and blocks of them in random order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from annpipes.plans.base import Plan
from annpipes.plans.permutation import Key, Permutation
from annpipes.plans.rows import RowArray, Rows, join_ranges, rows_fingerprint, take_rows
from annpipes.plans.streams import Stream

__all__ = ["BlockShuffled", "InOrder"]


@dataclass(frozen=True, eq=False)
class InOrder(Plan):
    """Rows as they stand, in blocks of ``block_size``.

    >>> InOrder(range(10), 4).epoch((0,)).rows(2, 5)
    array([2, 3, 4])
    """

    row_set: Rows
    block_size: int
    shuffled: bool = False

    @cached_property
    def n_rows(self) -> int:  # type: ignore[override] # computed
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


@dataclass(frozen=True, eq=False)
class BlockShuffled(Plan):
    """The blocks of ``source`` in random order.

    >>> BlockShuffled(InOrder(range(6), 2)).epoch((0,)).rows(0, 6)
    array([4, 5, 0, 1, 2, 3])
    """

    source: InOrder
    shuffled: bool = True

    @cached_property
    def n_rows(self) -> int:  # type: ignore[override] # computed
        return self.source.n_rows

    @cached_property
    def block_size(self) -> int:  # type: ignore[override] # computed
        return self.source.block_size

    @cached_property
    def row_set(self) -> Rows:  # type: ignore[override] # computed
        return self.source.row_set

    def fingerprint(self) -> Mapping[str, str | int]:
        return {**self.source.fingerprint(), "order": "shuffled blocks"}

    def epoch(self, key: Key) -> InOrder | _BlockEpoch:
        if not key:
            return self.source.epoch(key)
        return _BlockEpoch(self.source, Permutation(self.source.n_blocks, (*key, Stream.BLOCKS)))

    def blocks(self, key: Key) -> Iterator[RowArray]:
        order = self.epoch(key)
        if isinstance(order, InOrder):
            return self.source.blocks(key)
        return map(order.block, range(self.source.n_blocks))


class _BlockEpoch:
    """Positions to rows when whole blocks change places.

    All blocks have one size but perhaps the last, so a position is known from the place
    where that one ended up; nothing per block is kept.
    """

    def __init__(self, source: InOrder, permutation: Permutation) -> None:
        self.source = source
        self.permutation = permutation
        last = source.n_blocks - 1
        self.missing: int = source.n_blocks * source.block_size - source.n_rows  # rows the last block is short of
        self.short_slot: int = permutation.position_of(last) if self.missing else last

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

    def block(self, slot: int) -> RowArray:
        """The rows of the block in ``slot``."""
        return self.rows(self._position(slot), self._position(slot + 1))

    def _position(self, slot: int) -> int:
        """The first position of the block in ``slot``."""
        return slot * self.source.block_size - (self.missing if slot > self.short_slot else 0)

    def _slot(self, position: int) -> int:
        """The slot of the block that holds ``position``."""
        if position >= self._position(self.short_slot + 1):
            position += self.missing
        return position // self.source.block_size
