"""A plan cut into chunks, of which any can be computed by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from annpipes.plans.base import Epoch, Plan
from annpipes.plans.permutation import Key, Permutation
from annpipes.plans.rows import RowArray
from annpipes.plans.streams import Stream
from annpipes.types import Chunk

__all__ = ["ChunkEpoch", "ChunkPlan", "drawn_rows"]


@dataclass(frozen=True, eq=False)
class ChunkPlan:
    """A plan cut into chunks; any chunk of any epoch can be computed by itself.

    >>> from annpipes.plans.order import BlockShuffled, InOrder
    >>> plan = ChunkPlan(BlockShuffled(InOrder(range(6), 2)), 4)
    >>> plan.n_chunks, plan.epoch((0,)).chunk(1).rows
    (2, array([2, 3]))
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

    @cached_property
    def known(self) -> Mapping[str, str | int]:
        """What these chunks are recognised by; worked out once, as a state is asked for after every batch."""
        return {**self.source.fingerprint(), "chunk_size": self.chunk_size}

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
        return Chunk.of(drawn_rows(rows, self.plan.source, self.key, number))


def drawn_rows(rows: RowArray, plan: Plan, key: Key, number: int) -> RowArray:
    """The rows of chunk ``number`` in the order to hand them on: permuted if the plan is shuffled."""
    if not plan.shuffled or not key:
        return rows
    return rows[Permutation(len(rows), (*key, Stream.CHUNK, number))(np.arange(len(rows)))]
