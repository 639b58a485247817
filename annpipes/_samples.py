"""Orders that draw rows by their weights, or from several plans in proportion.

Like every plan these are pure functions of the epoch's key: what stands at a position is worked
out from the position, so ranks, workers and resuming need nothing else.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from annpipes._permutations import Key, hashed_words
from annpipes._plans import Epoch, InOrder, Plan
from annpipes._rows import RowArray, join_ranges, take_rows

__all__ = ["Mixed", "Weighted"]

_DRAW = 3  # what a stream of random words is for; `_plans` has 0 and 1, `_schedules` 2
_ROUND_LENGTH = 4096

Weights = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Weighted:
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

    def epoch(self, key: Key) -> Epoch:
        key = key or (0,)
        ends = self._ends(key[1] if len(key) > 1 else 0) if callable(self.weights) else self._constant_ends
        return _WeightedEpoch(self, (*key, _DRAW), ends)

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

    def blocks(self) -> Iterator[RowArray]:
        step = max(self.plan.length, self.plan.source.block_size)
        for start in range(0, self.plan.n_rows, step):
            yield self.rows(start, min(start + step, self.plan.n_rows))


@dataclass(frozen=True, eq=False)
class Mixed:
    """Several plans in fixed proportions; one that ends before the epoch does begins its own next epoch.

    Parameters
    ----------
    plans
        What is mixed.
    first_rows
        What is added to the rows of each.
    proportions
        How often each has its turn, adding up to 1; kept to 1 in 4,096.
    n_rows
        How many rows an epoch draws from all.
    """

    plans: Sequence[Plan]
    first_rows: Sequence[int]
    proportions: Sequence[float]
    n_rows: int = 0
    shuffled: bool = True

    def fingerprint(self) -> Mapping[str, str | int]:
        parts = [sorted(plan.fingerprint().items()) for plan in self.plans]
        crc = zlib.crc32(repr([parts, list(self.first_rows), self.turns.tolist()]).encode())
        order = f"{self.n_rows} rows mixed {' : '.join(f'{p:.4g}' for p in self.proportions)}, crc {crc:08x}"
        return {"order": order}

    def epoch(self, key: Key) -> Epoch:
        return _MixedEpoch(self, key or (0,))

    @cached_property
    def turns(self) -> RowArray:
        """How many turns each has in a round of 4,096."""
        exact = np.asarray(self.proportions) * _ROUND_LENGTH
        turns = np.floor(exact).astype(np.int64)
        missing = _ROUND_LENGTH - int(turns.sum())
        turns[np.argsort(turns - exact, kind="stable")[:missing]] += 1
        counted: RowArray = turns
        return counted

    @cached_property
    def whose(self) -> RowArray:
        """The plan of each turn of a round; those of one plan stand at equal distances, the same in every epoch.

        So how long it takes until a plan has been visited once is known; chunks are permuted later.
        """
        owners = np.repeat(np.arange(len(self.plans)), self.turns)
        places = np.concatenate([(np.arange(turns) + 0.5) / turns for turns in self.turns])
        return owners[np.argsort(places, kind="stable")]

    def length(self, number: int) -> int:
        """After how many rows plan ``number`` has been visited once, and has had its proportion."""
        n_rows = self.plans[number].n_rows
        rounds, last = divmod(n_rows - 1, int(self.turns[number]))
        visited = rounds * _ROUND_LENGTH + int(np.flatnonzero(self.whose == number)[last]) + 1
        return max(visited, math.ceil(n_rows / self.proportions[number]))


class _MixedEpoch:
    def __init__(self, plan: Mixed, key: Key) -> None:
        self.plan, self.whose = plan, plan.whose
        self.before = np.empty(_ROUND_LENGTH, np.int64)  # how many turns of the same plan came before in the round
        for number in range(len(plan.plans)):
            mine = self.whose == number
            self.before[mine] = np.arange(np.count_nonzero(mine))
        # A key of one number is of a pass without epochs; the second is what weights by epoch are asked for.
        key = key if len(key) > 1 else (*key, 0)
        self._epoch_of = lru_cache(2 * len(plan.plans))(partial(_epoch_of, plan, key))

    def rows(self, start: int, stop: int) -> RowArray:
        rounds, turns = np.divmod(np.arange(start, stop), _ROUND_LENGTH)
        whose = self.whose[turns]
        rows = np.empty(stop - start, np.int64)
        for number, plan in enumerate(self.plan.plans):
            mine = whose == number
            positions = rounds[mine] * self.plan.turns[number] + self.before[turns[mine]]
            rows[mine] = self._rows_of(number, plan.n_rows, positions) + self.plan.first_rows[number]
        return rows

    def _rows_of(self, number: int, n_rows: int, positions: RowArray) -> RowArray:
        """The rows at ascending, consecutive positions of a plan that is repeated, each time in another order."""
        if not len(positions):
            return positions
        first, last = int(positions[0]), int(positions[-1]) + 1
        parts = []
        while first < last:
            time, begin = divmod(first, n_rows)
            end = min(n_rows, begin + last - first)
            parts.append(self._epoch_of(number, time).rows(begin, end))
            first += end - begin
        return np.concatenate(parts)

    def blocks(self) -> Iterator[RowArray]:
        for start in range(0, self.plan.n_rows, _ROUND_LENGTH):
            yield self.rows(start, min(start + _ROUND_LENGTH, self.plan.n_rows))


def _epoch_of(plan: Mixed, key: Key, number: int, time: int) -> Epoch:
    """One plan's epoch in which it begins for the so-manieth time."""
    return plan.plans[number].epoch((*key, number, time))
