"""Stretches of a pipe as functions that a worker can call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import IterDataPipe
from torch.utils.data.datapipes.iter import IterableWrapper

from annpipes._meters import Meter, measured, metering
from annpipes._schedules import ScheduledEpoch
from annpipes._stages import graft
from annpipes.errors import PipelineError
from annpipes.types import Batch, Chunk

__all__ = ["One", "Part", "ReadStep"]


class Part:
    """The stages after ``first`` up to ``last`` as a function of one item."""

    def __init__(self, last: IterDataPipe[Any], first: IterDataPipe[Any]) -> None:
        self.inlet: IterDataPipe[Any] = IterableWrapper([])
        self.last = graft(last, first, self.inlet)

    def __call__(self, item: Chunk | Batch) -> list[Any]:
        return list(graft(self.last, self.inlet, IterableWrapper([item], deepcopy=False)))


class ReadStep:
    """One step of a schedule as the batches of this rank."""

    def __init__(self, read: Part, order: ScheduledEpoch, rank: int, world_size: int, meter: Meter) -> None:
        self.read, self.order, self.rank, self.world_size, self.meter = read, order, rank, world_size, meter

    def __call__(self, task: tuple[int, int]) -> Sequence[Batch]:
        step, skip = task
        with metering(self.meter), measured("read"):
            chunk = self.order.chunk(step, self.rank, self.world_size, skip)
            batches = self.read(chunk)
        if (found := sum(map(len, batches))) != len(chunk):
            raise PipelineError(
                f"stages up to batch_rows made {found} rows of {len(chunk)}; a Loader, whose length is exact, "
                f"needs all of them (choose rows with IndexSource(rows=…))"
            )
        return batches


class One:
    """The one result of a part."""

    def __init__(self, part: Part, meter: Meter | None) -> None:
        self.part, self.meter = part, meter

    def __call__(self, batch: Batch) -> Any:
        with metering(self.meter):
            results = self.part(batch)
        if len(results) != 1:
            raise PipelineError(
                f"stages after batch_rows made {len(results)} items of one batch; a Loader, whose length is "
                f"exact, needs one for each (iterate the pipe itself, or move the stage before batch_rows)"
            )
        return results[0]
