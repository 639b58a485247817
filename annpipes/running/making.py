"""Batches made of chunks: read ahead by threads, cut, and finished by workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Event
from typing import Any

from annpipes.meters import Meter
from annpipes.plans.rows import as_count, as_natural
from annpipes.running.pool import ProcessPool
from annpipes.running.steps import One, ReadChunk, Stretch, in_turn
from annpipes.running.workers import Early, Workers, flatten_ahead, map_ahead, start_method_of
from annpipes.stages.chunking import ChunkSorter
from annpipes.stages.datapipes import IterDataPipe
from annpipes.stages.graph import upstream
from annpipes.stages.origins import Source
from annpipes.stages.reading import RowBatcher
from annpipes.types import Chunk

__all__ = ["BatchMaker"]

_READ_AHEAD = {False: 1, True: 3}  # chunks, by whether reading waits for a network


class BatchMaker:
    """The data side of a pipe, run by threads and processes.

    Parameters
    ----------
    pipe, batcher, sorter
        A pipe, its stage that cuts batches, and the one that makes chunks.
    num_workers, method, multiprocessing_context, prefetch, num_threads
        As for `Loader`.

    Raises
    ------
    ParameterError
        One of them has a value that cannot work.
    """

    def __init__(
        self,
        pipe: IterDataPipe[Any],
        batcher: RowBatcher,
        sorter: ChunkSorter,
        num_workers: int,
        method: str,
        multiprocessing_context: str | None,
        prefetch: int | None,
        num_threads: int | None,
    ) -> None:
        self.pipe: IterDataPipe[Any] = pipe
        self.batcher: RowBatcher = batcher
        self.sorter: ChunkSorter = sorter
        self.num_workers: int = as_natural(num_workers, "num_workers")
        self.start_method: str | None = start_method_of(method, multiprocessing_context)
        distant = upstream(sorter, Source, "Loader").store.distant
        self.prefetch: int = as_natural(_READ_AHEAD[distant] if prefetch is None else prefetch, "prefetch")
        self.num_threads: int | None = None if num_threads is None else as_count(num_threads, "num_threads")
        self._processes = ProcessPool()

    @contextmanager
    def open(self, chunks: Iterable[Chunk], meter: Meter) -> Iterator[Iterator[Any]]:
        """The batches of some chunks, in order, until the block ends, which waits for what cannot be left half done."""
        left = Event()
        begin = in_turn(self.batcher, self.sorter) if self.prefetch else None
        stretch = Stretch(self.batcher.source_datapipe, self.sorter)
        read = ReadChunk(stretch, begin, self.batcher, meter, self.num_threads, left)
        finish = One(Stretch(self.pipe, self.batcher), meter if self.start_method is None else None)
        with ExitStack() as stack:
            if self.start_method is not None and self.num_workers:
                finishers = stack.enter_context(self._processes.open(finish, self.num_workers, self.start_method))
            else:
                finishers = stack.enter_context(Workers(finish, self.num_workers).open())
            readers = stack.enter_context(Workers(read, self.prefetch).open())
            stack.callback(left.set)  # before readers are waited for
            items = chunks if begin is None else _first_early(chunks, self.batcher.batch_size)
            batches = flatten_ahead(readers, items, self.prefetch)
            yield map_ahead(finishers, batches, 2 * self.num_workers)


def _first_early(chunks: Iterable[Chunk], batch_size: int) -> Iterator[Chunk | Early]:
    """Chunks of which the first, for which the consumer waits, hands on its first batch before the others are read."""
    for number, chunk in enumerate(chunks):
        yield chunk if number or len(chunk) <= batch_size else Early(chunk)
