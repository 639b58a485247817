"""Stretches of a pipe as functions that a worker can call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Event
from typing import Any

from toolz import compose_left

from annpipes.errors import PipelineError
from annpipes.meters import Meter, count, measured, metering
from annpipes.running.workers import Early
from annpipes.stages.base import EachStage
from annpipes.stages.chunking import ChunkSorter
from annpipes.stages.datapipes import IterableWrapper, IterDataPipe, Mapper
from annpipes.stages.graph import graft
from annpipes.stages.reading import RowBatcher, RowReader
from annpipes.stores import Begun, reading
from annpipes.types import Batch, Chunk

__all__ = ["One", "ReadChunk", "Stretch", "in_turn", "need_cut"]


class Stretch:
    """The stages after ``first`` up to ``last`` as a function of one item."""

    def __init__(self, last: IterDataPipe[Any], first: IterDataPipe[Any]) -> None:
        self.inlet: IterDataPipe[Any] = IterableWrapper([])
        self.last: IterDataPipe[Any] = graft(last, first, self.inlet)
        self.each: Callable[[Any], Any] | None = _composed(self.last, self.inlet)

    def __call__(self, item: Chunk | Batch) -> list[Any]:
        if self.each is not None:
            return [self.each(item)]
        return list(graft(self.last, self.inlet, IterableWrapper([item], deepcopy=False)))


def _composed(last: IterDataPipe[Any], first: IterDataPipe[Any]) -> Callable[[Any], Any] | None:
    """The stages after ``first`` as one function, if each makes one item of one.

    torch's iterators cost 20 µs an item, which is a tenth of reading a batch of uncompressed rows.
    """
    functions: list[Callable[[Any], Any]] = []
    while last is not first:
        if isinstance(last, EachStage) and not _iterates_in_its_own_way(last, last.each):
            functions.append(last.each)
            last = last.source_datapipe
        elif isinstance(last, Mapper) and last.input_col is None and last.output_col is None:
            functions.append(last.fn)
            last = last.datapipe
        else:
            return None
    return compose_left(*functions[::-1]) if functions else None


def need_cut(batcher: IterDataPipe[Any], cut: Callable[..., Any]) -> None:
    """Refuse a batcher whose ``__iter__`` may do something other than its method ``cut``.

    Raises
    ------
    PipelineError
        It says what is missing.
    """
    if _iterates_in_its_own_way(batcher, cut):
        raise PipelineError(
            f"{type(batcher).__name__} makes batches in its own way: a Loader cuts each chunk separately, "
            f"so the class needs a method `cut` that does the same for one chunk"
        )


def _iterates_in_its_own_way(stage: IterDataPipe[Any], method: Callable[..., Any]) -> bool:
    """Whether a class derived from ours has an ``__iter__`` that may do something other than this method."""
    kinds = type(stage).__mro__
    iterated = next(place for place, kind in enumerate(kinds) if "__iter__" in vars(kind))
    made = next(place for place, kind in enumerate(kinds) if method.__name__ in vars(kind))
    return iterated < made


def in_turn(batcher: RowBatcher, sorter: ChunkSorter) -> Callable[[Chunk, int], Begun] | None:
    """What reads a chunk's first rows before the others, if nothing but our own reading makes batches of chunks."""
    reader = batcher.source_datapipe
    if not isinstance(reader, RowReader) or reader.source_datapipe is not sorter:
        return None
    ours = type(reader).each is RowReader.each and type(batcher).cut is RowBatcher.cut
    return reader.begin if ours and not _iterates_in_its_own_way(reader, reader.each) else None


class ReadChunk:
    """The rows of a chunk as batches.

    Parameters
    ----------
    read
        From chunk to batch.
    begin
        The same, when so many rows of it are there; needed for `Early` chunks alone.
    batcher
        What cuts batches.
    meter
        What is told how long it takes.
    num_threads
        How many threads decode; what suits the machine when None.
    left
        Set once nobody wants the batches any more.
    """

    def __init__(
        self,
        read: Stretch,
        begin: Callable[[Chunk, int], Begun] | None,
        batcher: RowBatcher,
        meter: Meter,
        num_threads: int | None,
        left: Event,
    ) -> None:
        self.read: Stretch = read
        self.begin: Callable[[Chunk, int], Begun] | None = begin
        self.batcher: RowBatcher = batcher
        self.meter: Meter = meter
        self.num_threads: int | None = num_threads
        self.left: Event = left

    def __call__(self, chunk: Chunk | Early) -> Iterable[Batch]:
        with metering(self.meter), reading(self.num_threads, self.left), measured("read"):
            count("chunks", 1)
            if isinstance(chunk, Early):
                return self._in_turn(chunk)
            parts = self.read(chunk)
            found = sum(map(len, parts))
            if found == len(chunk):
                return self.batcher.cut(Batch.concat(parts)) if parts else []
            raise PipelineError(
                f"stages up to batch_rows turned {len(chunk)} rows into {found}; a Loader, whose length is exact, "
                f"needs all of them (choose rows with IndexSource(rows=…))"
            )

    def _in_turn(self, early: Early) -> Iterable[Batch]:
        assert self.begin is not None
        with early.handing_on() as hand_on:
            begun = self.begin(early.item, self.batcher.batch_size)
            hand_on(begun.first)
        return self.batcher.cut(begun.rest())


class One:
    """The one result of a stretch."""

    def __init__(self, stretch: Stretch, meter: Meter | None) -> None:
        self.stretch: Stretch = stretch
        self.meter: Meter | None = meter

    def __call__(self, batch: Batch) -> Any:
        with metering(self.meter):
            if self.stretch.each is not None:
                return self.stretch.each(batch)
            results = self.stretch(batch)
        if len(results) != 1:
            raise PipelineError(
                f"stages after batch_rows made {len(results)} items from one batch; a Loader, whose length is "
                f"exact, needs one for each (iterate over the pipe itself, or move the stage before batch_rows)"
            )
        return results[0]
