"""Arrays written as the storage chunks of a dataset, encoded by all threads."""

from __future__ import annotations

from functools import partial
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil  # h5py's lock: `write_direct_chunk` takes none itself, in 3.11 to 3.14 at least
from numpy.typing import NDArray

from annpipes.stores.codecs.base import Encoding
from annpipes.stores.engine.pools import Work, run

__all__ = ["append", "create", "write_at"]

_SLAB_BYTES = 32 << 20


def create(
    group: h5py.Group, name: str, shape: tuple[int, ...], dtype: Any, side: int, encoding: Encoding
) -> h5py.Dataset:
    """An empty dataset whose storage chunks hold ``side`` elements, or rows if it is two-dimensional."""
    if encoding.encode is None or 0 in shape:
        return group.create_dataset(name, shape, dtype)
    return group.create_dataset(name, shape, dtype, chunks=(min(side, shape[0]), *shape[1:]), **encoding.options)


def write_at(dataset: h5py.Dataset, first: int, values: NDArray[Any], encoding: Encoding) -> None:
    """Write ``values`` from element (or row) ``first`` on, into storage chunks that hold nothing else yet."""
    if dataset.chunks is None or encoding.encode is None:
        dataset[first : first + len(values)] = values
        return
    side = dataset.chunks[0]

    def encode(number: int) -> None:
        start, stop = number * side - first, (number + 1) * side - first
        part = values[max(start, 0) : stop]
        if len(part) < side:  # padded to the storage chunk, as HDF5 has it
            before = max(-start, 0)
            part = np.pad(part, [(before, side - before - len(part)), *[(0, 0)] * (part.ndim - 1)])
        assert encoding.encode is not None
        encoded = encoding.encode(part)
        with phil:
            dataset.id.write_direct_chunk((number * side, *[0] * (values.ndim - 1)), encoded)

    numbers = range(first // side, -(-(first + len(values)) // side)) if len(values) else range(0)
    chunk_bytes = side * int(np.prod(values.shape[1:])) * values.itemsize
    run(Work([partial(encode, number) for number in numbers], task_bytes=2 * chunk_bytes))


def append(target: h5py.Dataset, first: int, source: h5py.Dataset, skip: int) -> int:
    """Copy ``source`` without its first ``skip`` elements (or rows) to ``first`` of ``target``; where the copy ends.

    Storage chunks that lie alike in both are copied as they are.
    """
    count = len(source) - skip
    alike = target.chunks is not None and target.chunks == source.chunks and (first - skip) % target.chunks[0] == 0
    place, end = first, first + count
    if alike:
        side = target.chunks[0]
        whole = range(-(-first // side), end // side)
        if len(whole):
            _copy(target, first, source, skip, whole[0] * side - first)
            for number in whole:
                corner = ((number * side - first + skip), *[0] * (target.ndim - 1))
                mask, encoded = source.id.read_direct_chunk(corner)
                with phil:
                    target.id.write_direct_chunk((number * side, *corner[1:]), encoded, mask)
            place = (whole[-1] + 1) * side
    _copy(target, place, source, skip + place - first, end - place)
    return end


def _copy(target: h5py.Dataset, to: int, source: h5py.Dataset, start: int, count: int) -> None:
    """Through HDF5, which decodes and encodes."""
    row_bytes = max(1, int(np.prod(source.shape[1:])) * source.dtype.itemsize)
    step = max(1, _SLAB_BYTES // row_bytes)
    for done in range(0, count, step):
        part = min(step, count - done)
        target[to + done : to + done + part] = source[start + done : start + done + part]
