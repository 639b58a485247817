"""Orders of sets: rows that share a group, and controls that match it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from annpipes.plans.base import Epoch, Plan
from annpipes.plans.permutation import Key, Permutation, hashed_words, permuted_within, scaled
from annpipes.plans.rows import RowArray
from annpipes.plans.streams import Stream

__all__ = ["Pools", "Sets"]


@dataclass(frozen=True, eq=False)
class Pools:
    """Rows by the group they belong to.

    Parameters
    ----------
    rows
        All rows, those of one group next to each other; shape ``(n,)``.
    bounds
        Where each group begins, and the end of the last; shape ``(groups + 1,)``.
    """

    rows: RowArray
    bounds: RowArray

    @classmethod
    def of(cls, rows: RowArray, groups: RowArray, n_groups: int) -> Pools:
        """Rows with the group of each; groups below 0 are left out."""
        kept = groups >= 0
        rows, groups = rows[kept], groups[kept]
        bounds = np.concatenate([[0], np.cumsum(np.bincount(groups, minlength=n_groups))])
        return cls(rows[np.argsort(groups, kind="stable")], bounds)

    @property
    def sizes(self) -> RowArray:
        """How many rows each group has; shape ``(groups,)``."""
        sizes: RowArray = np.diff(self.bounds)
        return sizes

    def take(self, groups: RowArray, places: RowArray) -> RowArray:
        """The rows at these places of these groups."""
        taken: RowArray = self.rows[self.bounds[groups] + places]
        return taken

    @cached_property
    def fingerprint(self) -> str:
        """A few characters that differ for other rows or groups."""
        crc = zlib.crc32(self.bounds.tobytes(), zlib.crc32(self.rows.tobytes()))
        return f"{len(self.rows)} rows in {len(self.bounds) - 1} groups, crc {crc:08x}"


@dataclass(frozen=True, eq=False)
class Sets(Plan):
    """Sets of rows that share a group, each followed by as many controls if there are any.

    Without replacement each group's rows are permuted and cut into sets, and all groups' sets are permuted.
    With replacement each set draws a group, and each of its rows from that group.

    Parameters
    ----------
    pools
        The groups.
    set_size
        Rows of each set.
    n_sets
        How many sets an epoch has, if they are drawn with replacement; otherwise None.
    repeat
        Whether a group's last rows make a set, too, filled up with others of the group.
    controls, pool_of
        Rows that groups are compared with, in pools, and the pool that suits each group; shape ``(groups,)``.
    """

    pools: Pools
    set_size: int
    n_sets: int | None = None
    repeat: bool = False
    controls: Pools | None = None
    pool_of: RowArray | None = None
    shuffled: bool = False  # rows of a chunk stay where they are, or sets would fall apart

    @cached_property
    def set_rows(self) -> int:  # type: ignore[override] # computed
        """Rows of a set with its controls."""
        return self.set_size * (2 if self.controls is not None else 1)

    @cached_property
    def ends(self) -> RowArray:
        """After how many sets, group by group, those of each group are over; shape ``(groups,)``."""
        sizes = self.pools.sizes
        return np.cumsum(-(-sizes // self.set_size) if self.repeat else sizes // self.set_size)

    @property
    def total(self) -> int:
        """How many sets an epoch has."""
        return int(self.ends[-1]) if self.n_sets is None else self.n_sets

    @cached_property
    def n_rows(self) -> int:  # type: ignore[override] # computed
        return self.total * self.set_rows

    @cached_property
    def block_size(self) -> int:  # type: ignore[override] # computed
        return self.set_rows

    def fingerprint(self) -> Mapping[str, str | int]:
        controls = ""
        if self.controls is not None and self.pool_of is not None:
            controls = (
                f", controls {self.controls.fingerprint}, matched by crc {zlib.crc32(self.pool_of.tobytes()):08x}"
            )
        how = "with replacement" if self.n_sets is not None else "repeating" if self.repeat else "whole sets"
        return {"rows": self.pools.fingerprint, "order": f"{self.total} sets of {self.set_size}, {how}{controls}"}

    def epoch(self, key: Key) -> Epoch:
        return _SetsEpoch(self, key or (0,))


class _SetsEpoch:
    def __init__(self, plan: Sets, key: Key) -> None:
        self.plan, self.key = plan, key
        self.order = Permutation(plan.total, (*key, Stream.SETS))

    def rows(self, start: int, stop: int) -> RowArray:
        plan = self.plan
        numbers, members = np.divmod(np.arange(start, stop), plan.set_rows)  # (rows,)
        target = members < plan.set_size
        rows = np.empty(stop - start, np.int64)
        groups = self._groups(numbers)
        rows[target] = self._members(numbers[target], groups[target], members[target])
        if plan.controls is not None and plan.pool_of is not None:
            pools = plan.pool_of[groups[~target]]
            sizes = plan.controls.sizes[pools]
            wanted = (members[~target] - plan.set_size) % sizes
            places = permuted_within((*self.key, Stream.CONTROLS), wanted, sizes, numbers[~target])
            rows[~target] = plan.controls.take(pools, places)
        return rows

    def _groups(self, numbers: RowArray) -> RowArray:
        """The group of each set."""
        if self.plan.n_sets is None:
            return np.searchsorted(self.plan.ends, self.order(numbers), side="right").astype(np.int64)
        present = np.flatnonzero(self.plan.pools.sizes)
        words = hashed_words((*self.key, Stream.CHOICE), numbers)
        chosen: RowArray = present[scaled(words, np.uint64(len(present)))]
        return chosen

    def _members(self, numbers: RowArray, groups: RowArray, members: RowArray) -> RowArray:
        pools = self.plan.pools
        sizes = pools.sizes[groups]
        if self.plan.n_sets is not None:
            words = hashed_words((*self.key, Stream.MEMBERS), numbers * self.plan.set_size + members)
            places = scaled(words, sizes.astype(np.uint64)).astype(np.int64)
            return pools.take(groups, places)
        before = np.concatenate([[0], self.plan.ends])[groups]
        wanted = ((self.order(numbers) - before) * self.plan.set_size + members) % sizes
        return pools.take(groups, permuted_within((*self.key, Stream.MEMBERS), wanted, sizes, groups))
