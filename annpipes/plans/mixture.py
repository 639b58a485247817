"""Orders that take rows from several plans in fixed proportions."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np

from annpipes.plans.base import Epoch, Plan
from annpipes.plans.permutation import Key
from annpipes.plans.rows import RowArray

__all__ = ["Mixed"]

_ROUND_LENGTH = 4096


@dataclass(frozen=True, eq=False)
class Mixed(Plan):
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

    @cached_property
    def before(self) -> RowArray:
        """How many turns of the same plan came before each turn of a round."""
        before = np.empty(_ROUND_LENGTH, np.int64)
        for number in range(len(self.plans)):
            mine = self.whose == number
            before[mine] = np.arange(np.count_nonzero(mine))
        return before

    def length(self, number: int) -> int:
        """After how many rows plan ``number`` has been visited once, and has had its proportion."""
        n_rows = self.plans[number].n_rows
        rounds, last = divmod(n_rows - 1, int(self.turns[number]))
        visited = rounds * _ROUND_LENGTH + int(np.flatnonzero(self.whose == number)[last]) + 1
        return max(visited, math.ceil(n_rows / self.proportions[number]))


class _MixedEpoch:
    def __init__(self, plan: Mixed, key: Key) -> None:
        self.plan = plan
        # A key of one number belongs to a pass without epochs; the second number is the epoch, for weights by epoch.
        key = key if len(key) > 1 else (*key, 0)
        self._epoch_of = lru_cache(2 * len(plan.plans))(partial(_epoch_of, plan, key))

    def rows(self, start: int, stop: int) -> RowArray:
        rounds, turns = np.divmod(np.arange(start, stop), _ROUND_LENGTH)
        whose = self.plan.whose[turns]
        rows = np.empty(stop - start, np.int64)
        for number, plan in enumerate(self.plan.plans):
            mine = whose == number
            positions = rounds[mine] * self.plan.turns[number] + self.plan.before[turns[mine]]
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


def _epoch_of(plan: Mixed, key: Key, number: int, time: int) -> Epoch:
    """One plan's epoch in which it begins for the ``time``-th time, counted from 0."""
    return plan.plans[number].epoch((*key, number, time))
