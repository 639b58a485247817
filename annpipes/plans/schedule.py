"""Which rows every rank gets in every batch of an epoch.

The order is drawn once for all ranks, and then striped. It is cut into *lanes*, one for each rank
that began the training: a step of the schedule gives every lane one chunk of consecutive
blocks, so that no rank reads what another one reads, and global batch j of the step is batch j
of all lanes side by side. Another number of ranks divides the same global batches otherwise;
so what a global batch holds does not depend on how many ranks there are now.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from annpipes.errors import ParameterError
from annpipes.plans.base import Epoch, Plan
from annpipes.plans.chunks import drawn_rows
from annpipes.plans.permutation import Key, random_words
from annpipes.plans.rows import RowArray
from annpipes.plans.streams import Stream
from annpipes.types import Chunk

__all__ = ["Schedule", "ScheduledEpoch", "Tail", "as_tail"]

Tail = Literal["keep", "drop", "fill", "repeat"]


def as_tail(tail: Tail | None, *, drop_last: bool, world_size: int) -> Tail:
    """What becomes of the tail, if it can be had; when None, what suits the pipe and the number of ranks.

    Raises
    ------
    ParameterError
        There is no such tail, or not with ``drop_last`` or several ranks.
    """
    if tail is None:
        return "drop" if drop_last else "keep" if world_size == 1 else "repeat"
    if tail not in get_args(Tail):
        raise ParameterError(f"tail must be one of {', '.join(get_args(Tail))}, got {tail!r}")
    if tail == "keep" and world_size > 1:
        raise ParameterError("tail='keep' makes a short last batch, which cannot be shared by several ranks")
    if tail == "keep" and drop_last:
        raise ParameterError("tail='keep' makes a short last batch, which the pipe's drop_last leaves out")
    return tail


@dataclass(frozen=True, eq=False)
class Schedule:
    """The batches of all epochs.

    Parameters
    ----------
    plan
        The order of rows.
    batch_size
        Rows of one lane in each global batch.
    chunk_size
        Rows of one lane in each step, at most; a multiple of ``batch_size``. The numbers of batches in steps
        differ by at most one, because a small last chunk would mix worse than the others.
    lanes
        How many chunks a step has.
    tail
        What happens to rows that fill no whole global batch: a short batch (``keep``, for
        one lane only), left out (``drop``), or filled up by repeating the epoch's last row
        (``fill``) or its first ones (``repeat``).
    """

    plan: Plan
    batch_size: int
    chunk_size: int
    lanes: int = 1
    tail: Tail = "keep"

    @property
    def global_batch(self) -> int:
        """Rows of a batch over all ranks."""
        return self.batch_size * self.lanes

    @property
    def n_rows(self) -> int:
        """Rows of an epoch over all ranks, repeated ones included."""
        whole, rest = divmod(self.plan.n_rows, self.global_batch)
        if self.tail == "keep":
            return self.plan.n_rows
        return (whole + (rest > 0 and self.tail != "drop")) * self.global_batch

    @property
    def n_batches(self) -> int:
        """Batches of an epoch, the same for every rank."""
        return -(-self.n_rows // self.global_batch)

    @property
    def n_steps(self) -> int:
        """Chunks of an epoch for each lane."""
        return -(-self.n_rows // (self.chunk_size * self.lanes))

    def first_batch(self, step: int) -> int:
        """The batch that a step begins with.

        >>> from annpipes.plans.order import InOrder
        >>> schedule = Schedule(InOrder(range(1000), 1), 100, 400)
        >>> [schedule.first_batch(step) for step in range(schedule.n_steps + 1)]
        [0, 3, 6, 10]
        """
        return step * self.n_batches // max(1, self.n_steps)

    def place_of(self, batch: int) -> tuple[int, int]:
        """The step of a batch, and how many of the step's come before it."""
        step = ((batch + 1) * self.n_steps - 1) // max(1, self.n_batches)
        return step, batch - self.first_batch(step)

    def epoch(self, key: Key) -> ScheduledEpoch:
        """The batches of the epoch with this key."""
        order, n_rows = self.plan.epoch(key), self.plan.n_rows
        if not self.plan.shuffled or n_rows == 0:
            return ScheduledEpoch(self, key, order)
        turn = int(random_words((*key, Stream.TURN), 1)[0]) % n_rows
        return ScheduledEpoch(self, key, _Turned(order, n_rows, turn))


@dataclass(frozen=True, eq=False)
class _Turned:
    """An order that begins at a random position, so that any row may come last, wherever in its block it stands."""

    order: Epoch
    n_rows: int
    turn: int

    def rows(self, start: int, stop: int) -> RowArray:
        start, stop = start + self.turn, stop + self.turn
        before = self.order.rows(min(start, self.n_rows), min(stop, self.n_rows))
        after = self.order.rows(max(start - self.n_rows, 0), max(stop - self.n_rows, 0))
        return np.concatenate([before, after])  # (stop - start,)


@dataclass(frozen=True, eq=False)
class ScheduledEpoch:
    """The batches of one epoch."""

    schedule: Schedule
    key: Key
    order: Epoch

    def chunk(self, step: int, rank: int = 0, world_size: int = 1, skip: int = 0) -> Chunk:
        """What a rank reads in a step, without the step's first ``skip`` batches.

        Batches of the rank are consecutive in the drawn order, each ``global_batch / world_size`` rows.
        """
        schedule = self.schedule
        share = schedule.global_batch // world_size
        begin, end = rank * share, (rank + 1) * share  # this rank's part of every global batch
        columns = []
        for lane in range(begin // schedule.batch_size, -(-end // schedule.batch_size)):
            offset = lane * schedule.batch_size
            part = slice(max(begin - offset, 0), min(end - offset, schedule.batch_size))
            columns.append(_batches(self._lane(step, lane), schedule.batch_size)[skip:, part])
        drawn = np.concatenate(columns, axis=1).ravel()
        return Chunk.of(drawn[drawn >= 0])

    def chunks_from(self, batch: int, rank: int = 0, world_size: int = 1) -> Iterator[Chunk]:
        """What a rank reads from a batch on, step by step."""
        step, skip = self.schedule.place_of(batch)
        for number in range(step, self.schedule.n_steps):
            yield self.chunk(number, rank, world_size, skip if number == step else 0)

    def tail_rows(self) -> RowArray:
        """The rows that this epoch leaves out, or visits twice."""
        rest = self.schedule.n_rows - self.schedule.plan.n_rows
        if rest < 0:
            return self.order.rows(self.schedule.n_rows, self.schedule.plan.n_rows)
        return self._rows(self.schedule.plan.n_rows, self.schedule.n_rows)

    def _lane(self, step: int, lane: int) -> RowArray:
        """The rows of a lane's chunk in the drawn order."""
        schedule = self.schedule
        first, end = (schedule.first_batch(number) * schedule.global_batch for number in (step, step + 1))
        length = (min(end, schedule.n_rows) - first) // schedule.lanes
        start = first + lane * length
        return drawn_rows(self._rows(start, start + length), schedule.plan, self.key, step * schedule.lanes + lane)

    def _rows(self, start: int, stop: int) -> RowArray:
        """The rows at these positions, of which those beyond the last repeat others."""
        n_rows = self.schedule.plan.n_rows
        present = self.order.rows(min(start, n_rows), min(stop, n_rows))
        if stop <= n_rows:
            return present
        beyond = np.arange(max(start, n_rows), stop)
        unit = self.schedule.plan.set_rows  # a set is repeated whole
        repeated = n_rows - unit + (beyond - n_rows) % unit if self.schedule.tail == "fill" else beyond % n_rows
        needed = np.concatenate([self.order.rows(int(place), int(place) + 1) for place in repeated])
        return np.concatenate([present, needed])


def _batches(rows: RowArray, batch_size: int) -> RowArray:
    """Rows as ``(batches, batch_size)``; a short last batch is filled up with -1."""
    missing = -len(rows) % batch_size
    return np.pad(rows, (0, missing), constant_values=-1).reshape(-1, batch_size)
