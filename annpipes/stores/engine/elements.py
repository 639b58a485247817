"""Elements and rows of a dataset copied to their places, directly or through HDF5."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from annpipes.meters import count, measured
from annpipes.plans.rows import RowArray
from annpipes.stores.bytes.memory import MemoryBytes
from annpipes.stores.bytes.protocol import ByteSource, OpenBytes
from annpipes.stores.compiled.kernels import Bytes
from annpipes.stores.containers.hdf5 import Hdf5File
from annpipes.stores.containers.layout import Layout, check_extent, layout_of, plain_layout
from annpipes.stores.damage import Origin
from annpipes.stores.engine.decoding import decoder_of
from annpipes.stores.engine.fallback import ThroughHdf5
from annpipes.stores.engine.pieces import Pieces, Spans, row_pieces
from annpipes.stores.engine.pools import Work, thread_count
from annpipes.stores.engine.targets import Decoding, Target
from annpipes.stores.routes import Route

__all__ = ["FEW", "Dataset", "Direct", "open_array", "open_dataset", "shares"]

_Decode = Callable[[OpenBytes, int], Bytes]

_CACHED_BYTES = 8 << 20
FEW = 4  # a read of so few storage chunks is one of single rows, and its neighbours will be asked for next
_PART_BYTES = 1 << 20
_SHARES = 2  # of what is left, for each thread
_LARGEST_SHARE = 32


class Dataset(Protocol):
    """An array. Copying is work, to be run together with others'."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    route: Route
    """How it is read, and why so."""
    step: int
    """Elements (of a two-dimensional dataset: rows) that are decoded together."""

    def copy_spans(self, spans: Spans, out: NDArray[Any], below: int | None = None) -> Work:
        """Copy spans of a one-dimensional dataset; with ``below``, all numbers must be in 0 … below-1."""

    def copy_rows(self, rows: RowArray, places: RowArray, out: NDArray[Any]) -> Work:
        """Copy ``rows``, ascending, of a two-dimensional dataset to rows ``places`` of ``out``."""


def open_dataset(file: Hdf5File, path: str, indptr: RowArray | None = None) -> Dataset:
    """The dataset at ``path``, read directly if its layout is understood; ``indptr`` says where its rows begin."""
    origin = Origin(file.path, path, indptr)
    with file.reading(path) as opened:
        dataset = opened[path]
        elsewhere = not os.path.samefile(dataset.file.filename, file.absolute)
        layout = "linked from another file" if elsewhere else layout_of(dataset)
        if isinstance(layout, str):
            check_extent(dataset)
            return ThroughHdf5(file, origin, dataset, layout)
    return Direct(file.source, origin, layout)


def open_array(values: NDArray[Any], origin: Origin) -> Direct:
    """An array in memory, contiguous and in this machine's byte order, as one plain storage chunk."""
    return Direct(MemoryBytes(values, origin.file), origin, plain_layout(values.dtype, values.shape))


class Direct:
    """An array whose bytes are read and decoded here, in parallel and without its container's lock."""

    def __init__(self, source: ByteSource, origin: Origin, layout: Layout) -> None:
        self.source, self.origin, self.path, self.layout = source, origin, origin.path, layout
        self.shape, self.dtype = layout.shape, layout.dtype
        self.route = Route("direct", " + ".join(layout.pipeline.names) or "uncompressed")
        self.step = 1 if layout.plain else layout.chunk_shape[0]
        self._decode = partial(_decode, origin, layout)  # refers to no self: a cycle would outlive its users
        again = partial(_decode_anew, source, self._decode)  # knows no open file, which would stay open with it
        self._decode_again = lru_cache(max(1, _CACHED_BYTES // layout.chunk_bytes))(again)

    def copy_spans(self, spans: Spans, out: NDArray[Any], below: int | None = None) -> Work:
        pieces = spans.pieces(self.layout.chunk_shape[0]).scaled(self.dtype.itemsize)
        return self._tasks(pieces, out, below)

    def copy_rows(self, rows: RowArray, places: RowArray, out: NDArray[Any]) -> Work:
        pieces = row_pieces(rows, places, self.shape, self.layout.chunk_shape)
        return self._tasks(pieces.scaled(self.dtype.itemsize), out, None)

    def decode(self, number: int, again: bool) -> Bytes:
        """A storage chunk, decoded; kept for a while if it may be asked for ``again``."""
        return self._decode_again(number) if again else self._decode(self.source.opened(), number)

    def _tasks(self, pieces: Pieces, out: NDArray[Any], below: int | None) -> Work:
        target = Target(self.origin, self.layout, out, below)
        count("copied", out.nbytes)
        if self.layout.plain:
            return self._plain_work(pieces, target)
        source, edges = self.source.opened(), pieces.edges()
        count("decoded", self.layout.chunk_bytes * max(0, len(edges) - 1))
        few, decoder = len(edges) - 1 <= FEW, decoder_of(self.layout)
        if few or decoder is None or source.descriptor is None:
            tasks = [partial(self._copy_decoded, few, target, pieces, *group) for group in pairwise(edges)]
        else:
            decoding = Decoding(decoder, source, self.layout, pieces, np.array(edges), target)
            again = partial(self._copy_decoded, False, target, pieces)
            tasks = [partial(decoding.copy, again, *share) for share in shares(len(edges) - 1)]
        return Work(tasks, task_bytes=2 * self.layout.chunk_bytes, guard=self.source.steady)

    def _plain_work(self, pieces: Pieces, target: Target) -> Work:
        count("decoded", target.out.nbytes)
        source, places = self.source.opened(), self.layout.offsets[pieces.chunks] + pieces.froms
        smallest = len(pieces) * _PART_BYTES // max(_PART_BYTES, int(pieces.lengths.sum()))
        parts = list(shares(len(pieces), len(pieces), max(1, smallest)))
        cached, mapped = source.cached(places), source.mapped()
        if cached and mapped is not None:
            tasks = [partial(target.fill, mapped, places, pieces, *part) for part in parts]
            return Work(tasks, guard=self.source.steady)
        tasks = [partial(target.fill_from_disk, source, places, pieces, *part) for part in parts]
        return Work(tasks, waiting=not cached, guard=self.source.steady)

    def _copy_decoded(self, again: bool, target: Target, pieces: Pieces, start: int, stop: int) -> None:
        target.fill(self.decode(int(pieces.chunks[start]), again), pieces.froms, pieces, start, stop)


def _decode(origin: Origin, layout: Layout, source: OpenBytes, number: int) -> Bytes:
    encoded = source.read(int(layout.offsets[number]), int(layout.sizes[number]))
    try:
        with measured("decode"):
            decoded = layout.pipeline.decode(encoded, int(layout.masks[number]), layout.chunk_bytes)
        return np.frombuffer(decoded, np.uint8)
    except ValueError as error:
        raise origin.damage(*layout.extent(number), f"storage chunk {number} {error}") from None


def _decode_anew(source: ByteSource, decode: _Decode, number: int) -> Bytes:
    return decode(source.opened(), number)


def shares(count: int, largest: int = _LARGEST_SHARE, smallest: int = 1) -> Iterator[tuple[int, int]]:
    """Parts of ``count`` things for threads to take: large ones first, small ones so that all end together."""
    first = 0
    while first < count:
        share = min(max(smallest, (count - first) // (_SHARES * thread_count())), largest, count - first)
        yield first, first + share
        first += share
