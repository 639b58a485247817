"""Orders that draw rows by their weights.

Like every plan these are pure functions of the epoch's key: what stands at a position is worked
out from the position, so ranks, workers and resuming need nothing else.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from annpipes.plans.base import Epoch, Plan
from annpipes.plans.order import InOrder
from annpipes.plans.permutation import Key, hashed_words
from annpipes.plans.rows import RowArray, Rows, join_ranges, take_rows
from annpipes.plans.streams import Stream

__all__ = ["Weighted"]

Weights = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Weighted(Plan):
    """Rows drawn with replacement, in blocks of ``block_size``, each as often as its weight says.

    Parameters
    ----------
    source
        The rows to draw from.
    weights
        One for each row of ``source``, or a function of the epoch that gives them.
    n_rows
        How many rows an epoch draws.
    block_size
        How many consecutive rows are drawn together; a block weighs what its rows weigh.
    name
        What a function is called.
    """

    source: InOrder
    weights: Weights | Callable[[int], Weights]
    n_rows: int
    block_size: int = 1
    name: str = "a function"
    shuffled: bool = True

    def fingerprint(self) -> Mapping[str, str | int]:
        order = f"{self.n_rows} rows drawn in blocks of {self.block_size} by weights ({self._known})"
        return {**self.source.fingerprint(), "block_size": self.block_size, "order": order}

    @cached_property
    def _known(self) -> str:
        """What the weights are recognised by; of a function only its name is known."""
        return self.name if callable(self.weights) else f"crc {zlib.crc32(self.weights.data):08x}"

    @cached_property
    def row_set(self) -> Rows:  # type: ignore[override] # computed
        return self.source.row_set

    def blocks(self, key: Key) -> Iterator[RowArray]:
        order, step = self.epoch(key), max(self.length, self.source.block_size)
        for start in range(0, self.n_rows, step):
            yield order.rows(start, min(start + step, self.n_rows))

    def epoch(self, key: Key) -> Epoch:
        key = key or (0,)
        ends = self._ends(key[1] if len(key) > 1 else 0) if callable(self.weights) else self._constant_ends
        return _WeightedEpoch(self, (*key, Stream.DRAW), ends)

    @cached_property
    def _constant_ends(self) -> Weights:
        assert not callable(self.weights)
        return self._cumulated(self.weights)

    def _ends(self, epoch: int) -> Weights:
        assert callable(self.weights)
        return self._cumulated(self.weights(epoch))

    def _cumulated(self, weights: Weights) -> Weights:
        """Where each block's share of the unit interval ends, times the sum of all weights; shape ``(blocks,)``."""
        if self.block_size == 1:
            return np.cumsum(weights)
        edges = np.stack([self._starts, self._starts + self.length], axis=1).ravel()  # the last two blocks overlap
        return np.cumsum(np.add.reduceat(np.append(weights, 0.0), edges)[::2])

    @cached_property
    def _starts(self) -> RowArray:
        """Where each block begins; the last one begins earlier, so that all have one length."""
        n = self.source.n_rows
        return np.minimum(np.arange(0, n, self.block_size), max(0, n - self.block_size))

    @cached_property
    def length(self) -> int:
        """How many rows a block has."""
        return min(self.block_size, self.source.n_rows)

    def blocks_at(self, ends: Weights, key: Key, draws: RowArray) -> RowArray:
        """The first row of the block of each draw."""
        uniform = (hashed_words(key, draws) >> np.uint64(11)) * 2.0**-53 * ends[-1]
        by_size = np.argsort(uniform)  # searching is several times faster for ascending numbers
        chosen = np.empty(len(draws), np.int64)
        chosen[by_size] = np.searchsorted(ends, uniform[by_size], side="right")
        last = np.searchsorted(ends, ends[-1])  # rounding must not reach a block of weight 0 at the end
        chosen = np.minimum(chosen, last)
        firsts: RowArray = chosen if self.block_size == 1 else self._starts[chosen]
        return firsts


@dataclass(frozen=True, eq=False)
class _WeightedEpoch:
    plan: Weighted
    key: Key
    ends: Weights

    def rows(self, start: int, stop: int) -> RowArray:
        if start >= stop:
            return np.zeros(0, np.int64)
        length = self.plan.length
        draws = np.arange(start // length, (stop - 1) // length + 1)
        firsts = self.plan.blocks_at(self.ends, self.key, draws)
        positions = firsts if length == 1 else join_ranges(firsts, np.full(len(firsts), length))
        inside = start - draws[0] * length
        return take_rows(self.plan.source.row_set, positions[inside : inside + stop - start])
