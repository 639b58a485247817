"""Storage chunks of remote sources: many are read by one request, then decoded from memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.stores.bytes.merging import merged
from annpipes.stores.bytes.protocol import OpenBytes
from annpipes.stores.caching.loops import RECALL, Shelf, no_shelf
from annpipes.stores.compiled.kernels import Bytes, Offsets
from annpipes.stores.containers.layout import Layout, OpenedChunks
from annpipes.stores.engine.decoding import Chunks, Loop, decoder_of
from annpipes.stores.engine.pieces import Pieces
from annpipes.stores.engine.targets import Decoding, Target

__all__ = ["Fetching"]

Task = Callable[[], None]
_RECALLED = 64  # storage chunks that one task takes out of a cache


class Fetching:
    """Pieces of encoded storage chunks on their way to a target, one request at a time.

    Parameters
    ----------
    decode
        Makes of a storage chunk's number and its bytes what it decodes to, or raises what is wrong with it.
    layout
        Of the array.
    opened
        The storage chunks, in the order of ``numbers``.
    numbers, edges
        Which storage chunks, and where the pieces of each begin, and the end of the last.
    pieces, target
        What is copied where.
    shelf_of
        What becomes of them in a cache, as for `loop_of`.
    """

    def __init__(
        self,
        decode: Callable[[int, Any], Bytes],
        layout: Layout,
        opened: OpenedChunks,
        numbers: Offsets,
        edges: Offsets,
        pieces: Pieces,
        target: Target,
        shelf_of: Callable[[Offsets], Shelf | None] = no_shelf,
    ) -> None:
        self.decode: Callable[[int, Any], Bytes] = decode
        self.opened: OpenedChunks = opened
        self.numbers: Offsets = numbers
        self.edges: Offsets = edges
        self.pieces: Pieces = pieces
        self.target: Target = target
        self.offsets: Offsets = layout.offsets[numbers]
        self.sizes: Offsets = layout.sizes[numbers]
        # Of what was read, each written by the task that decodes it.
        self.addresses: Offsets = np.zeros(len(numbers), np.int64)
        decoder = decoder_of(layout, numbers)
        self.decoding: Decoding | None = None
        # Those that need no request, unless they prove spoilt.
        self.recalled: NDArray[np.bool_] = np.zeros(len(numbers), np.bool_)
        if decoder is not None and (shelf := shelf_of(numbers)) is not None:
            in_memory = np.full(len(numbers), -1)
            chunks = Chunks(in_memory, self.addresses, self.sizes, edges, decoder.steps, shelf)
            self.decoding = Decoding(Loop(decoder, chunks, opened), pieces, target)
            if len(shelf.modes):
                self.recalled = shelf.modes == RECALL

    def tasks(self) -> Sequence[Task]:
        """One for each request, and for storage chunks in a row that a cache has."""
        return list(self._tasks())

    def _tasks(self) -> Iterator[Task]:
        for source, found in self.opened.each():
            which = np.arange(len(self.numbers))[found]
            if self.decoding is not None:
                for start, stop in _runs(which[self.recalled[which]], _RECALLED):
                    yield partial(self.decoding.copy, partial(self._request_at, source), start, stop)
            which = which[~self.recalled[which]]
            which = which[np.argsort(self.offsets[which], kind="stable")]
            cost = source.requesting
            if cost is None:  # what stands in memory for storage chunks that are not there
                yield from (partial(self._fetch, source, which[i : i + 1]) for i in range(len(which)))
                continue
            for start, stop in merged(self.offsets[which], self.sizes[which], cost):
                yield partial(self._fetch, source, np.sort(which[start:stop]))

    def _fetch(self, source: OpenBytes, which: NDArray[np.int64]) -> None:
        """Read these storage chunks at once; decode them, and copy what is wanted of each."""
        begin = int(self.offsets[which].min())
        end = int((self.offsets[which] + self.sizes[which]).max())
        content = np.frombuffer(source.read(begin, end - begin), np.uint8)
        if self.decoding is None or len(content) < end - begin:
            for place in which.tolist():
                self._decode(content, begin, place)
            return
        self.addresses[which] = content.ctypes.data + self.offsets[which] - begin
        for start, stop in _runs(which, len(which)):
            self.decoding.copy(partial(self._decode_at, content, begin), start, stop)

    def _request_at(self, source: OpenBytes, start: int, stop: int) -> None:
        """As `_decode_at`, of one that a cache had, but not as it should be."""
        place = int(np.searchsorted(self.edges, start))
        offset, size = int(self.offsets[place]), int(self.sizes[place])
        self._decode(np.frombuffer(source.read(offset, size), np.uint8), offset, place)

    def _decode_at(self, content: Bytes, begin: int, start: int, stop: int) -> None:
        """As `_decode`, of the storage chunk whose pieces are ``start … stop-1``."""
        self._decode(content, begin, int(np.searchsorted(self.edges, start)))

    def _decode(self, content: Bytes, begin: int, place: int) -> None:
        first = int(self.offsets[place]) - begin
        decoded = self.decode(int(self.numbers[place]), content[first : first + int(self.sizes[place])])
        start, stop = self.edges[place : place + 2].tolist()
        self.target.fill(decoded, self.pieces.froms, self.pieces, start, stop)


def _runs(which: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Ascending places as ranges ``start … stop-1`` of at most so many."""
    edges = [0, *(np.flatnonzero(np.diff(which) > 1) + 1).tolist(), len(which)]
    for first, last in pairwise(edges):
        for begin in range(first, last, most):
            end = min(begin + most, last)
            yield int(which[begin]), int(which[end - 1]) + 1
