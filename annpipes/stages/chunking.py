"""Blocks into chunks, sorted for the disk and dealt out whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any

from annpipes.plans.base import Plan
from annpipes.plans.chunks import ChunkPlan
from annpipes.plans.rows import as_count
from annpipes.stages.base import ChunkStage, PlanStage, plan_before
from annpipes.stages.chaining import chained_by
from annpipes.types import Chunk

__all__ = ["ChunkSorter"]


@chained_by("sort_within_chunks")
class ChunkSorter(ChunkStage):
    """Chunks of rows, each sorted for the disk, with the drawn order kept beside it.

    >>> pipe = IndexSource("pbmc.h5ad", rows=[9, 2, 5]).sort_within_chunks(3)
    >>> next(iter(pipe))
    Chunk(rows=array([2, 5, 9]), order=array([2, 0, 1]))

    Workers and ranks of a `DataLoader` receive whole chunks in turn.

    Parameters
    ----------
    source_datapipe
        The `IndexSource`, or the stage that orders or samples its rows.
    chunk_size
        How many rows one read fetches. Larger chunks mix better and read faster, but need more
        memory: a chunk of n rows with k non-zeros each takes about ``8 n k`` bytes. Sets of
        `GroupSampler` stay whole, so with them a chunk may have a few rows fewer.

    Raises
    ------
    PipelineError
        The stage before it has no plan.
    """

    def __init__(self, source_datapipe: PlanStage, chunk_size: int = 16_384) -> None:
        plan = plan_before(source_datapipe, "sort_within_chunks", Plan, "IndexSource or a stage that orders its rows")
        self.source_datapipe: PlanStage = source_datapipe
        self.chunk_size: int = as_count(chunk_size, "chunk_size")
        # Workers are dealt chunks, which must not cut sets apart.
        self.chunks: ChunkPlan = ChunkPlan(plan, max(self.chunk_size // plan.set_rows, 1) * plan.set_rows)
        self.first_row: int = 0
        self._skipped_rows = 0
        self._shards: dict[int, tuple[int, int]] = {}

    def apply_sharding(self, num_of_instances: int, instance_id: int, sharding_group: IntEnum | Any) -> None:
        """Keep every ``num_of_instances``-th chunk only (torch's `DataLoader` calls this).

        torch shards among ranks and among workers in separate groups; the third parameter must
        have exactly this name, or torch leaves it out.
        """
        self._shards[int(sharding_group)] = (num_of_instances, instance_id)

    def fingerprint(self) -> Mapping[str, Any]:
        """What the order of rows, and the chunks cut from it, depend on."""
        return self.chunks.known

    def skip_to(self, row: int) -> None:
        """Let the next pass leave out so many of the rows that this worker is dealt."""
        self.first_row = self._skipped_rows = row

    def __iter__(self) -> Iterator[Chunk]:
        self.first_row, skipped, self._skipped_rows = self._skipped_rows, self._skipped_rows, 0
        epoch = self.chunks.epoch(self.source_datapipe.pass_key())
        step, first = 1, 0
        for _, (instances, instance) in sorted(self._shards.items()):
            step, first = step * instances, first + step * instance
        whole, within = divmod(skipped, self.chunks.chunk_size)  # only the epoch's last chunk can be short
        for number in range(first + whole * step, self.chunks.n_chunks, step):
            chunk = epoch.chunk(number)
            yield chunk if not within else Chunk.of(chunk.drawn[within:])
            within = 0

    def __len__(self) -> int:
        """How many chunks, over all workers and ranks."""
        return self.chunks.n_chunks
