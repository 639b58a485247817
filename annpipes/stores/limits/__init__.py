"""The bare work that reading X cannot do without: what rates are compared with.

Everything that can be known before is worked out before, so that only reading, decoding or
copying is timed. The loops are those of `bare`, and not those of the readers, whose changes must
not move the limit; decoding is what the file's codecs say of bare decoding.

`threads`  loops and threads of their own, which no change of the readers moves
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import FormatError
from annpipes.plans.rows import RowArray
from annpipes.stores.bytes.local import FileBytes
from annpipes.stores.bytes.mapping import Mapping, can_map
from annpipes.stores.bytes.protocol import ByteSource
from annpipes.stores.codecs.pipelines import work_of
from annpipes.stores.containers.base import Container
from annpipes.stores.containers.layout import Layout
from annpipes.stores.engine.cached import Cached
from annpipes.stores.engine.elements import Direct
from annpipes.stores.engine.fallback import ThroughLibrary
from annpipes.stores.engine.pieces import Pieces, row_pieces, span_pieces
from annpipes.stores.limits.threads import BareWork, Task, Threads, gather, overwrite_rows, read_ranges
from annpipes.stores.matrices import CsrRows, DenseRows, places_of
from annpipes.stores.opening import open_one
from annpipes.types import Chunk, SparseRows

__all__ = ["BareReading", "densifying"]

_BY_LIBRARY = {"h5py": ("hdf5", "HDF5's own reading"), "zarr": ("zarr", "zarr's own reading")}
_PAGE = 4096
_RANGES = 64  # of a file, read by one task


class BareReading:
    """What reading the X of some chunks of rows comes down to; of what lies in a cache, to reading it there.

    Parameters
    ----------
    data
        The path or store of an ``.h5ad`` file with X as CSR or dense.
    chunks
        The rows of each read, ascending, and their order in memory.
    """

    def __init__(self, data: Any, chunks: Sequence[Chunk]) -> None:
        matrix = open_one(data).matrix("X")
        container = matrix.container if isinstance(matrix, CsrRows | DenseRows) else None
        if not isinstance(matrix, CsrRows | DenseRows) or container is None:
            raise FormatError(f"X of {data} is read whole into memory, so there is nothing to measure")
        self.sparse = matrix.sparse
        parts = [matrix.data, matrix.indices] if isinstance(matrix, CsrRows) else [matrix.values]
        spans = [_spans(matrix, chunk) for chunk in chunks]
        self._direct = [
            _direct_part(part, [_pieces(part.layout, *span) for span in spans])
            for part in parts
            if isinstance(part, Direct)
        ]
        self._through = [
            _LibraryPart(part, [(firsts, lengths) for firsts, lengths, _ in spans])
            for part in parts
            if isinstance(part, ThroughLibrary)
        ]
        self._n_chunks, self._library = len(chunks), container.library

    @property
    def row_bytes(self) -> int:
        """The rows' bytes."""
        return sum(part.row_bytes for part in self._direct) + sum(part.row_bytes for part in self._through)

    @property
    def decoded_bytes(self) -> int:
        """The rows' bytes, or those of all storage chunks that hold some of them."""
        return sum(part.decoded_bytes for part in self._direct) + sum(part.decoded_bytes for part in self._through)

    def works(self, threads: Threads) -> list[BareWork]:
        """What has to be done for these rows, the most expensive first: reading by HDF5, decoding, copying."""
        encoded = [part for part in self._direct if not part.layout.plain]
        what = work_of(codec for part in encoded for codec in part.layout.pipeline.codecs)
        quick = all(part.layout.pipeline.quick for part in encoded)
        through, decode = [part.tasks() for part in self._through], [part.decoding() for part in encoded]
        copy = [part.gathering(threads) for part in self._direct]
        works = [
            BareWork(
                *_BY_LIBRARY[self._library], self._joined(through), sum(part.decoded_bytes for part in self._through)
            ),
            BareWork("decode", what, self._joined(decode), sum(part.decoded_bytes for part in encoded), quick),
            BareWork("copy", "copying", self._joined(copy), sum(part.row_bytes for part in self._direct)),
        ]
        return [work for work in works if work.n_bytes]

    def disk(self) -> BareWork | None:
        """Reading what has to come from the disk; None where only HDF5 knows where it lies, or nothing reads there."""
        if self._through or not hasattr(os, "pread"):
            return None
        ranges = [part.reading() for part in self._direct]
        return BareWork("disk", "the disk", self._joined(ranges), sum(part.stored_bytes for part in self._direct))

    def _joined(self, parts: Sequence[Sequence[Sequence[Task]]]) -> list[list[Task]]:
        """The tasks of all parts for each chunk."""
        return [[task for part in parts for task in part[number]] for number in range(self._n_chunks)]


class _DirectPart:
    """An array whose bytes are at known places, and its pieces, in bytes, for each chunk."""

    def __init__(self, layout: Layout, pieces: Sequence[Pieces]) -> None:
        self.layout, self.pieces = layout, pieces
        self.needed = [np.unique(part.chunks) for part in pieces]  # for each chunk (storage chunks,)
        self.row_bytes = sum(int(part.lengths.sum()) for part in pieces)
        self.decoded_bytes = self.row_bytes if layout.plain else layout.chunk_bytes * sum(map(len, self.needed))
        self.stored_bytes = sum(int(ranges.lengths.sum()) for one in range(len(pieces)) for ranges in self._ranges(one))

    def decoding(self) -> list[list[Task]]:
        return [[partial(_decode, self.layout, int(number)) for number in numbers] for numbers in self.needed]

    def gathering(self, threads: Threads) -> list[list[Task]]:
        """From the mapped file, or from one decoded storage chunk that stands for all."""
        file = self._file
        source = np.ones(self.layout.chunk_bytes, np.uint8) if file is None else _whole(file)
        most = max((int(part.lengths.sum()) for part in self.pieces), default=0)
        out = np.ones(most, np.uint8)  # touched, so that no page fault is left
        starts = [0 if file is None else self.layout.offsets[part.chunks] for part in self.pieces]
        return [
            [
                partial(gather, source, froms[some], part.tos[some], part.lengths[some], out)
                for some in threads.split(len(part))
            ]
            for part, froms in zip(
                self.pieces, [part.froms + start for part, start in zip(self.pieces, starts, strict=True)], strict=True
            )
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

    def _ranges(self, number: int) -> list[_Ranges]:
        """Where that which a chunk needs lies in each source."""
        layout, pieces = self.layout, self.pieces[number]
        if layout.plain:
            chunks, froms, lengths = pieces.chunks, layout.offsets[pieces.chunks] + pieces.froms, pieces.lengths
        else:
            chunks = self.needed[number]
            froms, lengths = layout.offsets[chunks], layout.sizes[chunks]
        owners = layout.owners[chunks]
        return [
            _Ranges(layout.sources[owner], froms[owners == owner], lengths[owners == owner])
            for owner in np.unique(owners).tolist()
        ]


def _direct_part(part: Direct, pieces: Sequence[Pieces]) -> _DirectPart:
    needed = np.concatenate([one.chunks for one in pieces] or [np.zeros(0, np.int64)])
    kept = part.kept(needed) if isinstance(part, Cached) else None
    return _DirectPart(part.layout if kept is None else kept, pieces)


class _Ranges(NamedTuple):
    """Ranges of one source, ``(ranges,)``."""

    source: ByteSource
    froms: RowArray
    lengths: RowArray


class _LibraryPart:
    """An array that only its library can decode, and what to read of it for each chunk: each storage chunk once."""

    def __init__(self, dataset: ThroughLibrary, spans: Sequence[tuple[RowArray, RowArray]]) -> None:
        self.dataset = dataset
        self.stretches = [_stretches(firsts, firsts + lengths, dataset.step) for firsts, lengths in spans]
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


def densifying(batches: Sequence[SparseRows], threads: Threads) -> BareWork:
    """Batches written densely into memory that was used before, two pieces in turn, as while one is in use."""
    most = max((rows.shape for rows in batches), default=(0, 0))
    outs = [np.ones(most, np.float32) for _ in range(2)]
    tasks = [
        [
            partial(overwrite_rows, data, rows.indices, rows.indptr, part.start, part.stop, outs[number % 2])
            for part in threads.split(len(rows))
        ]
        for number, rows in enumerate(batches)
        for data in [rows.data.astype(np.float32, copy=False)]
    ]
    return BareWork("densify", "making batches dense", tasks, sum(4 * len(rows) * rows.n_vars for rows in batches))


def _spans(matrix: CsrRows | DenseRows, chunk: Chunk) -> tuple[RowArray, RowArray, RowArray]:
    """First element (of a dense matrix: row), number of elements, and place in memory of each row; each ``(n,)``."""
    places = places_of(chunk)
    if isinstance(matrix, DenseRows):
        return chunk.rows, np.ones_like(chunk.rows), places
    lengths = matrix.indptr.lengths(chunk.rows)
    drawn = lengths[chunk.order]
    return matrix.indptr.begins(chunk.rows), lengths, (np.cumsum(drawn) - drawn)[places]


def _pieces(layout: Layout, firsts: RowArray, lengths: RowArray, tos: RowArray) -> Pieces:
    """In bytes: where rows lie in their storage chunks, and where they go in memory."""
    if len(layout.shape) > 1:
        return row_pieces(firsts, tos, layout.shape, layout.chunk_shape).scaled(layout.dtype.itemsize)
    return span_pieces(firsts, lengths, tos, layout.chunk_shape[0]).scaled(layout.dtype.itemsize)


def _stretches(firsts: RowArray, ends: RowArray, step: int) -> list[tuple[int, int]]:
    """Ascending ranges widened to whole storage chunks of ``step``, those that touch joined."""
    filled = ends > firsts
    first, end = firsts[filled] // step, -(-ends[filled] // step)  # (ranges,)
    cuts = np.flatnonzero(first[1:] > end[:-1]) + 1
    bounds = [0, *cuts.tolist(), len(first)]
    return [(int(first[a]) * step, int(end[b - 1]) * step) for a, b in pairwise(bounds) if b > a]


def _decode(layout: Layout, number: int) -> None:
    layout.pipeline.decode_bare(layout.encoded(number), int(layout.masks[number]), layout.chunk_bytes)


def _read(source: ByteSource, froms: RowArray, lengths: RowArray) -> int:
    """These ranges of a source read, of a file with the whole pages; how many bytes of them were wanted."""
    opened, wanted = source.opened(), int(lengths.sum())
    if opened.descriptor is None:
        came = sum(len(opened.read(*place)) for place in zip(froms.tolist(), lengths.tolist(), strict=True))
    else:
        firsts, ends = froms // _PAGE * _PAGE, -(-(froms + lengths) // _PAGE) * _PAGE
        came = read_ranges(opened.descriptor, firsts, ends - firsts, np.empty(int((ends - firsts).max()), np.uint8))
    if came < wanted:
        raise OSError(f"of {wanted} bytes only {came} could be read")
    return wanted


def _read_by_library(container: Container, path: str, stretches: Sequence[tuple[int, int]]) -> None:
    for first, last in stretches:
        container.read(path, first, last)
