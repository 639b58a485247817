"""A dataset read from end to end in pieces, around what is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from annpipes.errors import DamageError
from annpipes.stores.containers.base import Container
from annpipes.stores.damage import NO_DAMAGE
from annpipes.stores.engine.elements import Direct, open_dataset
from annpipes.stores.engine.pieces import Spans
from annpipes.stores.engine.pools import Work, empty, run

__all__ = ["STRETCH_BYTES", "Bad", "Stretches"]

STRETCH_BYTES = 64 << 20
_OBJECT_BYTES = 256  # about what a string takes in Python
_MOST_HALVED = 256  # storage chunks that are looked at one by one through h5py; the rest is reported as a whole


@dataclass(frozen=True)
class Bad:
    """Elements (of more dimensions: places along the first) that cannot be read, and why."""

    first: int
    last: int
    reason: str


class Stretches:
    """An array of at least one dimension, open in its container's library and read directly where that is possible.

    Parameters
    ----------
    container
        What holds it.
    dataset
        The array as h5py or zarr has it, which must stay open.
    path
        Its path there.
    """

    def __init__(self, container: Container, dataset: Any, path: str) -> None:
        self.container: Container = container
        self.dataset: Any = dataset
        self.shape: tuple[int, ...] = tuple(dataset.shape)
        self.dtype: np.dtype[Any] = np.dtype(dataset.dtype)
        self.row_bytes: int = int(np.prod(self.shape[1:], dtype=np.int64)) * max(1, self.dtype.itemsize)
        self.step = dataset.chunks[0] if dataset.chunks else 1
        self.bad: list[Bad] = []
        self.table: str = ""  # what is wrong with the table of storage chunks
        self._text = h5py.check_string_dtype(self.dtype) if isinstance(dataset, h5py.Dataset) else None
        self._direct: Direct | None = None
        self._halved = 0
        if len(self.shape) in (1, 2) and self.dtype.kind in "biuf":
            try:
                opened = open_dataset(container, path)
                self._direct = opened if isinstance(opened, Direct) else None
            except DamageError as error:  # HDF5 may still read most of it
                self.table = error.reason or str(error)

    def __len__(self) -> int:
        return int(self.shape[0])

    def edges(self) -> Iterator[tuple[int, int]]:
        """First element and end of each stretch: whole storage chunks, together about `STRETCH_BYTES`."""
        size = self.row_bytes if self.dtype.kind != "O" else self.row_bytes // 8 * _OBJECT_BYTES
        length = max(1, STRETCH_BYTES // max(1, size * self.step)) * self.step
        for first in range(0, len(self), length):
            yield first, min(first + length, len(self))

    def intact(self, first: int, last: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """What can be read of ``first … last-1``, in pieces with their first elements; the rest is added to ``bad``."""
        try:
            yield first, self._read(first, last)
        except NO_DAMAGE:
            raise
        except Exception as error:  # whatever damage leads the decoders to
            found = self._search(first, last) or [Bad(first, last - 1, _reason(error))]
        else:
            return
        self.bad += found
        for begin, end in _between(found, first, last):
            try:
                values = self._read(begin, end)
            except NO_DAMAGE:
                raise
            except Exception as error:
                self.bad.append(Bad(begin, end - 1, _reason(error)))
            else:
                yield begin, values

    def _read(self, first: int, last: int) -> NDArray[Any]:
        if self._direct is None:
            source = self.dataset
            if self._text is not None:  # some writers call text ASCII, whatever letters it holds
                source = source.asstr("utf-8")
            values: NDArray[Any] = np.asarray(source[first:last])
            return values if self._text or values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
        values = empty((last - first, *self.shape[1:]), self.dtype)
        if values.ndim == 1:
            run(self._direct.copy_spans(Spans(*np.array([[first], [last - first], [0]], np.int64)), values))
        else:
            rows = np.arange(first, last)
            run(self._direct.copy_rows(rows, rows - first, values))
        return values

    def _search(self, first: int, last: int) -> list[Bad]:
        """The storage chunks among ``first … last-1`` that cannot be read."""
        return list(self._halve(first, last)) if self._direct is None else self._decode_each(self._direct, first, last)

    def _decode_each(self, direct: Direct, first: int, last: int) -> list[Bad]:
        side, found = direct.layout.chunk_shape[0], dict[int, Bad]()
        columns = -(-self.shape[1] // direct.layout.chunk_shape[1]) if len(self.shape) > 1 else 1

        def decode(number: int) -> None:
            layout = direct.layout
            encoded = layout.encoded(number)
            try:
                if len(encoded) < layout.sizes[number]:
                    raise ValueError("cannot be read")
                layout.pipeline.decode(encoded, int(layout.masks[number]), layout.chunk_bytes)
            except ValueError as error:
                begin, end = layout.extent(number)
                found[number] = Bad(max(first, begin), min(last - 1, end), f"a storage chunk {error}")

        numbers = range(first // side * columns, -(-last // side) * columns)
        run(Work([partial(decode, number) for number in numbers], task_bytes=2 * direct.layout.chunk_bytes))
        return [found[number] for number in sorted(found)]

    def _halve(self, first: int, last: int) -> Iterator[Bad]:
        """Halves, and halves of these, until a single storage chunk is left."""
        try:
            self._read(first, last)
        except NO_DAMAGE:
            raise
        except Exception as error:
            middle = max((first + last) // 2 // self.step, first // self.step + 1) * self.step
            if middle >= last or self._halved >= _MOST_HALVED:
                self._halved += 1
                yield Bad(first, last - 1, _reason(error))
            else:
                yield from self._halve(first, middle)
                yield from self._halve(middle, last)


def _between(bad: list[Bad], first: int, last: int) -> Iterator[tuple[int, int]]:
    """The gaps that ``bad``, ascending, leaves in ``first … last-1``."""
    for one in bad:
        if one.first > first:
            yield first, one.first
        first = max(first, one.last + 1)
    if first < last:
        yield first, last


def _reason(error: Exception) -> str:
    """What went wrong, in HDF5's words without their beginning."""
    text = str(error) or type(error).__name__
    with suppress(IndexError):
        text = text.split("(", 1)[1].removesuffix(")") if text.startswith("Can't") else text
    return f"cannot be read ({text})"
