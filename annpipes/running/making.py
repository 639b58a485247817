"""Batches made of chunks: read ahead by threads, cut, and finished by workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from annpipes.meters import Meter
from annpipes.running.pool import ProcessPool
from annpipes.running.steps import One, ReadChunk, Stretch
from annpipes.running.workers import Workers, flatten_ahead, map_ahead
from annpipes.stages.chunking import ChunkSorter
from annpipes.stages.datapipes import IterDataPipe
from annpipes.stages.reading import RowBatcher
from annpipes.types import Chunk

__all__ = ["BatchMaker"]


class BatchMaker:
    """The data side of a pipe, run by threads and processes.

    Parameters
    ----------
    pipe, batcher, sorter
        A pipe, its stage that cuts batches, and the one that makes chunks.
    num_workers, start_method, prefetch
        As of `Loader`; a start method of None means threads.
    """

    def __init__(
        self,
        pipe: IterDataPipe[Any],
        batcher: RowBatcher,
        sorter: ChunkSorter,
        num_workers: int,
        start_method: str | None,
        prefetch: int,
    ) -> None:
        self.pipe, self.batcher, self.sorter = pipe, batcher, sorter
        self.num_workers, self.start_method, self.prefetch = num_workers, start_method, prefetch
        self._processes = ProcessPool()

    @contextmanager
    def open(self, chunks: Iterable[Chunk], meter: Meter) -> Iterator[Iterator[Any]]:
        """The batches of some chunks, in order, until the block ends, which waits for what was begun."""
        read = ReadChunk(Stretch(self.batcher.source_datapipe, self.sorter), self.batcher.cut, meter)
        finish = One(Stretch(self.pipe, self.batcher), meter if self.start_method is None else None)
        with ExitStack() as stack:
            if self.start_method is not None and self.num_workers:
                finishers = stack.enter_context(self._processes.open(finish, self.num_workers, self.start_method))
            else:
                finishers = stack.enter_context(Workers(finish, self.num_workers).open())
            readers = stack.enter_context(Workers(read, self.prefetch).open())
            batches = flatten_ahead(readers, chunks, self.prefetch)
            yield map_ahead(finishers, batches, 2 * self.num_workers)
