"""Slices of arrays that lie in memory as they are: for single rows, which are too small to be worth tasks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.meters import count
from annpipes.stores.bytes.memory import MemoryBytes
from annpipes.stores.compiled.kernels import Bytes
from annpipes.stores.containers.layout import Layout
from annpipes.stores.engine.elements import Dataset, Direct

__all__ = ["slices_of"]


def slices_of(datasets: Sequence[Dataset], first: int, last: int) -> list[NDArray[Any]] | None:
    """Copies of the elements ``first … last-1`` (of a two-dimensional array: rows) of each of these arrays.

    None if one of them does not lie in memory, uncompressed and row after row.
    """
    arrays = [array for array in map(_array, datasets) if array is not None]
    if len(arrays) == len(datasets):
        found = [array[first:last].copy() for array in arrays]
        _count(found)
        return found
    layouts = [layout for layout in map(_layout, datasets) if layout is not None]
    if len(layouts) < len(datasets):
        return None
    mapped = [_mapped(layout, first) if first < last else None for layout in layouts]
    found = []
    with ExitStack() as stack:
        for source in {id(layout.sources[0]): layout.sources[0] for layout in layouts}.values():
            stack.enter_context(source.steady())
        for layout, octets in zip(layouts, mapped, strict=True):
            if octets is None:
                return None
            found.append(np.concatenate(list(_parts(layout, octets, first, last))).view(layout.dtype))
    _count(found)
    return [values.reshape(-1, *layout.shape[1:]) for values, layout in zip(found, layouts, strict=True)]


def _count(found: Sequence[NDArray[Any]]) -> None:
    n_bytes = sum(values.nbytes for values in found)
    count("decoded", n_bytes)
    count("copied", n_bytes)


def _array(dataset: Dataset) -> NDArray[Any] | None:
    """The array itself, if it is one in memory."""
    source = dataset.layout.sources[0] if type(dataset) is Direct and len(dataset.layout.sources) == 1 else None
    values = source.values if isinstance(source, MemoryBytes) else None
    return values if values is not None and values.shape == dataset.shape else None


def _layout(dataset: Dataset) -> Layout | None:
    if type(dataset) is not Direct:  # a cache has its own
        return None
    layout = dataset.layout
    whole = layout.plain and len(layout.sources) == 1 and layout.chunk_shape[1:] == layout.shape[1:]
    return layout if whole else None


def _mapped(layout: Layout, first: int) -> Bytes | None:
    source, side = layout.sources[0].opened(), layout.chunk_shape[0]
    place = layout.offsets[first // side] + first % side * _size(layout)
    return source.mapped() if source.cached(np.array([place])) else None


def _parts(layout: Layout, octets: Bytes, first: int, last: int) -> Iterator[Bytes]:
    """The bytes of these elements, those in each storage chunk together."""
    side, size = layout.chunk_shape[0], _size(layout)
    for number in range(first // side, (last - 1) // side + 1):
        begin, end = max(first, number * side) - number * side, min(last, (number + 1) * side) - number * side
        offset = int(layout.offsets[number])
        yield octets[offset + begin * size : offset + end * size]


def _size(layout: Layout) -> int:
    return layout.dtype.itemsize * math.prod(layout.shape[1:])
