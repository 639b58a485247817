"""Elements and rows of an array copied to their places, directly or through its container's library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from annpipes.meters import count, measured
from annpipes.plans.rows import RowArray
from annpipes.stores.bytes.memory import MemoryBytes
from annpipes.stores.bytes.merging import merged
from annpipes.stores.bytes.protocol import OpenBytes
from annpipes.stores.caching.loops import Shelf, no_shelf
from annpipes.stores.compiled.kernels import Bytes, Offsets
from annpipes.stores.containers.base import Container
from annpipes.stores.containers.layout import Layout, plain_layout
from annpipes.stores.damage import Origin
from annpipes.stores.engine.decoding import loop_of
from annpipes.stores.engine.fallback import ThroughLibrary
from annpipes.stores.engine.fetching import Fetching
from annpipes.stores.engine.pieces import Pieces, Spans, row_pieces
from annpipes.stores.engine.pools import DISK_REQUESTS, Guard, Work, thread_count
from annpipes.stores.engine.targets import Decoding, Target
from annpipes.stores.indptr import Indptr
from annpipes.stores.routes import Route

__all__ = ["FEW", "Dataset", "Direct", "InMemory", "decode", "open_array", "open_dataset", "plain_from", "shares"]

_CACHED_BYTES = 8 << 20
FEW = 4  # a read of so few storage chunks is one of single rows, and its neighbours will be asked for next
_PART_BYTES = 1 << 20
_QUICK_BYTES = 256 << 10  # copied in the time that it takes to wake a thread
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

    def copy_rows(self, rows: RowArray, places: RowArray, out: NDArray[Any], before: int = 0) -> Work:
        """Copy ``rows``, ascending, of a two-dimensional dataset to rows ``places`` of ``out``.

        Rows of ``out`` below ``before`` are wanted before the others; all at once when 0.
        """


def open_dataset(container: Container, path: str, indptr: Indptr | None = None) -> Dataset:
    """The array at ``path``, read directly if it has a layout; ``indptr`` says where its rows begin."""
    origin, found = Origin(container.path, path, indptr), container.array(path)
    if isinstance(found.layout, Layout):
        return Direct(origin, found.layout)
    return ThroughLibrary(container, origin, found, found.layout)


def open_array(values: NDArray[Any], origin: Origin) -> Direct:
    """An array in memory, contiguous and in this machine's byte order, as one plain storage chunk."""
    return Direct(origin, plain_layout(values.dtype, values.shape, MemoryBytes(values, origin.file)))


class InMemory(NamedTuple):
    """Pieces of an array that lie in memory as they are.

    Parameters
    ----------
    source
        Where they lie.
    froms
        Where each begins there; shape ``(pieces,)``.
    guards, around
        As for `Work`.
    """

    source: Bytes
    froms: Offsets
    guards: Sequence[Guard]
    around: Sequence[Guard] = ()


class Direct:
    """An array whose bytes are read and decoded here, in parallel and without its container's lock."""

    def __init__(self, origin: Origin, layout: Layout) -> None:
        self.origin: Origin = origin
        self.path: str = origin.path
        self.layout: Layout = layout
        self.shape: tuple[int, ...] = layout.shape
        self.dtype: np.dtype[Any] = layout.dtype
        self.route: Route = Route("direct", " + ".join(layout.pipeline.names) or "uncompressed")
        self.step: int = 1 if layout.plain else layout.chunk_shape[0]
        self.set_decoder(partial(decode, origin, layout))

    def set_decoder(self, decode: Callable[[int], Bytes]) -> None:
        """How storage chunks are decoded one by one; it refers to no self, as a cycle would outlive its users."""
        self._decode = decode
        self._decode_again = lru_cache(max(1, _CACHED_BYTES // self.layout.chunk_bytes))(decode)

    def copy_spans(self, spans: Spans, out: NDArray[Any], below: int | None = None) -> Work:
        return self._in_turn(spans.pieces(self.layout.chunk_shape[0]), spans.before, out, below)

    def copy_rows(self, rows: RowArray, places: RowArray, out: NDArray[Any], before: int = 0) -> Work:
        pieces = row_pieces(rows, places, self.shape, self.layout.chunk_shape)
        return self._in_turn(pieces, before * self.shape[1], out, None)

    def _in_turn(self, pieces: Pieces, before: int, out: NDArray[Any], below: int | None) -> Work:
        """The work of copying pieces in elements, those first that outputs below ``before`` need.

        All at once where nothing is decoded, as two turns would take longer, and from afar: requests span what lies
        between pieces, which would be fetched twice.
        """
        decoded, n_first = not self.layout.plain and not self.layout.distant, 0
        if before and decoded:
            pieces, n_first = pieces.in_turn(before)
        pieces = pieces.scaled(self.dtype.itemsize)
        if n_first in (0, len(pieces)):
            return self._tasks(pieces, out, below)
        parts = pieces.at(slice(n_first)), pieces.at(slice(n_first, None))
        return Work.in_turn(*(self._tasks(part, out, below) for part in parts))

    def decode(self, number: int, again: bool) -> Bytes:
        """A storage chunk, decoded; kept for a while if it may be asked for ``again``."""
        return self._decode_again(number) if again else self._decode(number)

    def shelf(self, numbers: RowArray) -> Shelf | None:
        """What becomes of these storage chunks in a cache, which there is none."""
        return no_shelf(numbers)

    def kept_bytes(self, pieces: Pieces) -> int:
        """How many bytes of these pieces come from a cache, if all is as it should be there."""
        return 0

    def around(self) -> Sequence[Guard]:
        """As for `Work`, where storage chunks are decoded."""
        return ()

    def in_memory(self, pieces: Pieces) -> InMemory | None:
        """Pieces in a mapped source, if its pages are in memory."""
        opened = self.layout.opened(pieces.chunks) if self.layout.plain else None
        mapped = None if opened is None else opened.mapped
        if opened is None or mapped is None:
            return None
        places = self.layout.offsets[pieces.chunks] + pieces.froms
        return InMemory(mapped, places, opened.guards) if opened.opened[0].cached(places) else None

    def _tasks(self, pieces: Pieces, out: NDArray[Any], below: int | None) -> Work:
        target = Target(self.origin, self.layout, out, below)
        count("copied", int(pieces.lengths.sum()))
        return self._plain_work(pieces, target) if self.layout.plain else self._decoded_work(pieces, target)

    def _decoded_work(self, pieces: Pieces, target: Target) -> Work:
        edges = np.array(pieces.edges(), np.int64)
        numbers = pieces.chunks[edges[:-1]]
        count("decoded", self.layout.chunk_bytes * len(numbers))
        count("cached", self.kept_bytes(pieces))
        opened, few = self.layout.opened(numbers), len(numbers) <= FEW
        cost = opened.requesting
        if cost is not None and not few:
            made = partial(decoded, self.origin, self.layout)
            fetching = Fetching(made, self.layout, opened, numbers, edges, pieces, target, self.shelf)
            size = 2 * self.layout.chunk_bytes + cost.largest
            at_once = 2 * cost.at_once  # as many wait for answers while others decode what has come
            return Work(fetching.tasks(), size, at_once, opened.guards, self.around())
        loop = None if few else loop_of(self.layout, opened, numbers, edges, self.shelf)
        if loop is None:
            tasks = [partial(self._copy_decoded, few, target, pieces, *group) for group in pairwise(edges.tolist())]
        else:
            decoding = Decoding(loop, pieces, target)
            again = partial(self._copy_decoded, False, target, pieces)
            tasks = [partial(decoding.copy, again, *share) for share in shares(len(numbers))]
        at_once = 0 if cost is None else cost.at_once
        return Work(tasks, 2 * self.layout.chunk_bytes, at_once, opened.guards, self.around())

    def _plain_work(self, pieces: Pieces, target: Target) -> Work:
        count("decoded", int(pieces.lengths.sum()))
        opened = self.layout.opened(pieces.chunks)
        places = self.layout.offsets[pieces.chunks] + pieces.froms
        if len(opened.opened) == 1:
            return replace(plain_from(opened.opened[0], places, pieces, target), guards=opened.guards)
        works = [plain_from(source, places[which], pieces.at(which), target) for source, which in opened.each()]
        return replace(Work.joined(works), guards=opened.guards)

    def _copy_decoded(self, again: bool, target: Target, pieces: Pieces, start: int, stop: int) -> None:
        target.fill(self.decode(int(pieces.chunks[start]), again), pieces.froms, pieces, start, stop)


def plain_from(source: OpenBytes, places: Offsets, pieces: Pieces, target: Target) -> Work:
    """Pieces that are in a source as they are in memory, from these places on."""
    if source.requesting is not None:
        order = np.argsort(places, kind="stable")
        pieces, places = pieces.at(order), places[order]
        parts = merged(places, pieces.lengths, source.requesting)
        fill = partial(target.fill_from_disk, source, places, pieces)
        return Work([partial(fill, *part) for part in parts], at_once=source.requesting.at_once)
    n_bytes = int(pieces.lengths.sum())
    smallest = len(pieces) * _PART_BYTES // max(_PART_BYTES, n_bytes)
    parts = list(shares(len(pieces), len(pieces), max(1, smallest)))
    cached, mapped = source.cached(places), source.mapped()
    if cached and mapped is not None:
        tasks = [partial(target.fill, mapped, places, pieces, *part) for part in parts]
        return Work(tasks, quick=n_bytes <= _QUICK_BYTES)
    tasks = [partial(target.fill_from_disk, source, places, pieces, *part) for part in parts]
    return Work(tasks, at_once=0 if cached else DISK_REQUESTS)


def decode(origin: Origin, layout: Layout, number: int) -> Bytes:
    """A storage chunk of a layout, decoded."""
    return decoded(origin, layout, number, layout.encoded(number))


def decoded(origin: Origin, layout: Layout, number: int, encoded: Any) -> Bytes:
    """What the bytes of a storage chunk decode to."""
    try:
        with measured("decode"):
            content = layout.pipeline.decode(encoded, int(layout.masks[number]), layout.chunk_bytes)
        return np.frombuffer(content, np.uint8)
    except ValueError as error:
        raise origin.damage(*layout.extent(number), f"storage chunk {number} {error}") from None


def shares(count: int, largest: int = _LARGEST_SHARE, smallest: int = 1) -> Iterator[tuple[int, int]]:
    """Parts of ``count`` things for threads to take: large ones first, small ones so that all end together."""
    first, parts = 0, _SHARES * thread_count()
    while first < count:
        share = min(max(smallest, (count - first) // parts), largest, count - first)
        yield first, first + share
        first += share
