"""Stretches of a pipe as functions that a worker can call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from toolz import compose_left
from torch.utils.data import IterDataPipe
from torch.utils.data.datapipes.iter import IterableWrapper, Mapper

from annpipes._meters import Meter, measured, metering
from annpipes._stages import graft
from annpipes.errors import PipelineError
from annpipes.types import Batch, Chunk

__all__ = ["One", "Part", "ReadChunk", "defined_by"]


class Part:
    """The stages after ``first`` up to ``last`` as a function of one item."""

    def __init__(self, last: IterDataPipe[Any], first: IterDataPipe[Any]) -> None:
        self.inlet: IterDataPipe[Any] = IterableWrapper([])
        self.last = graft(last, first, self.inlet)
        self.each = _composed(self.last, self.inlet)

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
        function = getattr(last, "each", None) if defined_by(last, "each") is defined_by(last, "__iter__") else None
        if isinstance(last, Mapper) and last.input_col is None and last.output_col is None:
            function = last.fn
        source = getattr(last, "source_datapipe", getattr(last, "datapipe", None))
        if function is None or source is None:
            return None
        functions.append(function)
        last = source
    return compose_left(*functions[::-1]) if functions else None


def defined_by(stage: object, name: str) -> type | None:
    """The class a method comes from: a stage derived from ours may iterate in its own way."""
    return next((kind for kind in type(stage).__mro__ if name in vars(kind)), None)


class ReadChunk:
    """The rows of a chunk as batches."""

    def __init__(self, read: Part, cut: Callable[[Batch], Iterable[Batch]], meter: Meter) -> None:
        self.read, self.cut, self.meter = read, cut, meter

    def __call__(self, chunk: Chunk) -> Iterable[Batch]:
        with metering(self.meter), measured("read"):
            parts = self.read(chunk)
            found = sum(map(len, parts))
            if found == len(chunk):
                return self.cut(Batch.concat(parts)) if parts else []
            raise PipelineError(
                f"stages up to batch_rows made {found} rows of {len(chunk)}; a Loader, whose length is exact, "
                f"needs all of them (choose rows with IndexSource(rows=…))"
            )


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
