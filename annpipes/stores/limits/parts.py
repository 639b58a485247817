"""What one array has to do with the bare work: its pieces for each chunk, and the tasks that they come to."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from annpipes.plans.rows import RowArray
from annpipes.stores.bytes.local import FileBytes
from annpipes.stores.bytes.mapping import Mapping, can_map
from annpipes.stores.bytes.protocol import OpenBytes
from annpipes.stores.containers.base import Container
from annpipes.stores.containers.layout import Layout
from annpipes.stores.engine.cached import Cached
from annpipes.stores.engine.elements import Direct
from annpipes.stores.engine.fallback import ThroughLibrary
from annpipes.stores.engine.pieces import Pieces
from annpipes.stores.limits.distant import Ranges, Request, held
from annpipes.stores.limits.threads import Task, Threads, gather, read_ranges

__all__ = ["DirectPart", "LibraryPart", "direct_part"]

_PAGE = 4096
_RANGES = 64  # of a file, read by one task


class DirectPart:
    """An array whose bytes are at known places, and its pieces, in bytes, for each chunk."""

    def __init__(self, layout: Layout, pieces: Sequence[Pieces]) -> None:
        self.layout: Layout = layout
        self.pieces: Sequence[Pieces] = pieces
        # For each chunk (storage chunks,).
        self.needed: list[NDArray[np.int64]] = [np.unique(part.chunks) for part in pieces]
        self.row_bytes: int = sum(int(part.lengths.sum()) for part in pieces)
        self.decoded_bytes: int = self.row_bytes if layout.plain else layout.chunk_bytes * sum(map(len, self.needed))

    @property
    def stored_bytes(self) -> int:
        """The rows' bytes as they are stored, or those of all storage chunks that hold some of them."""
        return sum(int(ranges.lengths.sum()) for number in range(len(self.pieces)) for ranges in self._ranges(number))

    def decoding(self) -> list[list[Task]]:
        """From the page cache, or what is remote from memory, where it is put now."""
        layout = held(self.layout, self._every) if self.layout.distant else self.layout
        return [[partial(_decode, layout, int(number)) for number in numbers] for numbers in self.needed]

    @property
    def _every(self) -> RowArray:
        """All storage chunks that are needed."""
        return np.unique(np.concatenate([*self.needed, np.zeros(0, np.int64)]))

    @property
    def at_once(self) -> int:
        """How many requests are under way at once; 0 where none is needed."""
        cost = self.layout.opened(self._every).requesting
        return cost.at_once if cost else 0

    def requests(self) -> list[list[Request]]:
        """Those for what each chunk needs."""
        chunks = range(len(self.pieces))
        return [[one for ranges in self._ranges(number) for one in ranges.requests()] for number in chunks]

    def gathering(self, threads: Threads) -> list[list[Task]]:
        """From the mapped file, or from one decoded storage chunk that stands for all, or from what answers brought."""
        most = max((int(part.lengths.sum()) for part in self.pieces), default=0)
        out, froms = np.ones(most, np.uint8), [part.froms for part in self.pieces]  # touched: no page fault is left
        if (file := self._file) is not None:
            source = _whole(file)
            froms = [part.froms + self.layout.offsets[part.chunks] for part in self.pieces]
        elif self.layout.distant and self.layout.plain:
            source, froms = np.ones(most, np.uint8), [np.cumsum(part.lengths) - part.lengths for part in self.pieces]
        else:
            source = np.ones(self.layout.chunk_bytes, np.uint8)
        return [
            [
                partial(gather, source, begins[some], part.tos[some], part.lengths[some], out)
                for some in threads.split(len(part))
            ]
            for part, begins in zip(self.pieces, froms, strict=True)
        ]

    @property
    def _file(self) -> FileBytes | None:
        """The one file in which bytes lie as they are in memory, if it is so."""
        opened = [source.opened() for source in self.layout.sources]
        return opened[0] if self.layout.plain and len(opened) == 1 and isinstance(opened[0], FileBytes) else None

    def reading(self) -> list[list[Task]]:
        nothing, file = np.zeros(0, np.int64), self.layout.sources[0].opened()
        if file.descriptor is not None:
            read_ranges(file.descriptor, nothing, nothing, np.zeros(0, np.uint8))  # compiles, which is not to be timed
        return [
            [
                partial(_read, ranges.source, ranges.froms[first:last], ranges.lengths[first:last])
                for ranges in self._ranges(number)
                for first, last in pairwise([*range(0, len(ranges.froms), _RANGES), len(ranges.froms)])
            ]
            for number in range(len(self.pieces))
        ]

    def _ranges(self, number: int) -> list[Ranges]:
        """Where that which a chunk needs lies in each source."""
        layout, pieces = self.layout, self.pieces[number]
        if layout.plain:
            chunks, froms, lengths = pieces.chunks, layout.offsets[pieces.chunks] + pieces.froms, pieces.lengths
        else:
            chunks = self.needed[number]
            froms, lengths = layout.offsets[chunks], layout.sizes[chunks]
        return [Ranges(source, froms[which], lengths[which]) for source, which in layout.opened(chunks).each()]


def direct_part(part: Direct, pieces: Sequence[Pieces]) -> DirectPart:
    needed = np.concatenate([one.chunks for one in pieces] or [np.zeros(0, np.int64)])
    kept = part.kept(needed) if isinstance(part, Cached) else None
    return DirectPart(part.layout if kept is None else kept, pieces)


class LibraryPart:
    """An array that only its library can decode, and what to read of it for each chunk: each storage chunk once."""

    def __init__(self, dataset: ThroughLibrary, spans: Sequence[tuple[RowArray, RowArray]]) -> None:
        self.dataset = dataset
        self.stretches: list[list[tuple[int, int]]] = [
            _stretches(firsts, firsts + lengths, dataset.step) for firsts, lengths in spans
        ]
        size = int(np.prod(dataset.shape[1:], dtype=np.int64)) * dataset.dtype.itemsize
        self.row_bytes: int = size * sum(int(lengths.sum()) for _, lengths in spans)
        read = (min(end, dataset.shape[0]) - first for part in self.stretches for first, end in part)
        self.decoded_bytes: int = size * sum(read)

    def tasks(self) -> list[list[Task]]:
        return [[partial(_read_by_library, self.dataset.container, self.dataset.path, part)] for part in self.stretches]


def _whole(file: FileBytes) -> NDArray[np.uint8]:
    """A file of any size, mapped; without the guard where there is none, as this is a benchmark's."""
    if can_map():
        return Mapping(file.descriptor).bytes()
    return np.frombuffer(mmap.mmap(file.descriptor, 0, access=mmap.ACCESS_READ), np.uint8)


def _stretches(firsts: RowArray, ends: RowArray, step: int) -> list[tuple[int, int]]:
    """Ascending ranges widened to whole storage chunks of ``step``, those that touch joined."""
    filled = ends > firsts
    first, end = firsts[filled] // step, -(-ends[filled] // step)  # (ranges,)
    cuts = np.flatnonzero(first[1:] > end[:-1]) + 1
    bounds = [0, *cuts.tolist(), len(first)]
    return [(int(first[a]) * step, int(end[b - 1]) * step) for a, b in pairwise(bounds) if b > a]


def _decode(layout: Layout, number: int) -> None:
    layout.pipeline.decode_bare(layout.encoded(number), int(layout.masks[number]), layout.chunk_bytes)


def _read(opened: OpenBytes, froms: RowArray, lengths: RowArray) -> int:
    """These ranges of a source read, of a file with the whole pages; how many bytes of them were wanted."""
    wanted = int(lengths.sum())
    if opened.descriptor is None:
        came = sum(len(opened.read(*place)) for place in zip(froms.tolist(), lengths.tolist(), strict=True))
    else:
        firsts, ends = froms // _PAGE * _PAGE, -(-(froms + lengths) // _PAGE) * _PAGE
        came = read_ranges(opened.descriptor, firsts, ends - firsts, np.empty(int((ends - firsts).max()), np.uint8))
    if came < wanted:
        raise OSError(f"only {came} of {wanted} bytes could be read")
    return wanted


def _read_by_library(container: Container, path: str, stretches: Sequence[tuple[int, int]]) -> None:
    for first, last in stretches:
        container.read(path, first, last)
