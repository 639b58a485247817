"""What a plan answers, whatever order it draws."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

from annpipes.plans.permutation import Key
from annpipes.plans.rows import RowArray, Rows

__all__ = ["Epoch", "Plan"]

_PROBES = 64


class Epoch(Protocol):
    """One epoch's order."""

    def rows(self, start: int, stop: int) -> RowArray:
        """The rows at positions ``start … stop-1``; shape ``(stop - start,)``, int64."""


class Plan(ABC):
    """The orders of all epochs, as a pure function of their keys. Derive from it for an order of your own.

    >>> class Backwards(Plan):
    ...     def __init__(self, n_rows):
    ...         self.n_rows = n_rows
    ...     def epoch(self, key):
    ...         return self
    ...     def rows(self, start, stop):
    ...         return self.n_rows - 1 - np.arange(start, stop)
    >>> [block.tolist() for block in Backwards(3).blocks((0,))]
    [[2, 1, 0]]

    A plan says how many rows an epoch has and, given the epoch's key, which rows are at given positions of the
    epoch. It holds no file and no state; ranks, workers and resuming are arithmetic on positions.
    A subclass must define ``n_rows`` and ``epoch``. The other methods have defaults that suit most plans.
    """

    n_rows: int
    """How many rows an epoch visits."""

    shuffled: bool = False
    """Whether rows of one chunk may be permuted, and an epoch may begin anywhere."""

    set_rows: int = 1
    """How many rows, counted from the beginning of an epoch, must stay together in one batch."""

    block_size: int = 4096
    """How many rows `blocks` yields at once."""

    row_set: Rows | None = None
    """The rows that epochs may visit; None where any row may be."""

    @abstractmethod
    def epoch(self, key: Key) -> Epoch:
        """The order drawn with this key, a tuple of integers; with an empty key, rows in stored order."""

    def blocks(self, key: Key) -> Iterator[RowArray]:
        """All rows of an epoch, block by block."""
        order = self.epoch(key)
        for start in range(0, self.n_rows, self.block_size):
            yield order.rows(start, min(start + self.block_size, self.n_rows))

    def fingerprint(self) -> Mapping[str, str | int]:
        """What distinguishes this plan from others, in a few short values, which a saved state records.

        By default these are its class, its length, and some rows of one epoch.
        """
        places = np.unique(np.linspace(0, self.n_rows - 1, _PROBES).astype(np.int64)) if self.n_rows else ()
        order = self.epoch((0, 0))
        rows = np.concatenate([np.zeros(0, np.int64), *(order.rows(int(at), int(at) + 1) for at in places)])
        kind = f"{type(self).__module__}.{type(self).__qualname__}"
        return {"order": f"{kind}, {self.n_rows} rows, crc {zlib.crc32(rows.astype('<i8').tobytes()):08x}"}
