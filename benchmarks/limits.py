"""The bare work that reading cannot do without: what the rates are compared with.

Everything that can be known before is worked out before, so that only decoding or copying is timed.
The loops are our own and not annpipes', whose changes must not move the limit.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numba
import numpy as np
from isal import isal_zlib
from numba import types
from numpy.typing import NDArray

from annpipes import Chunk
from annpipes._store.layout import layout_of
from annpipes._store.pieces import Pieces, row_pieces, span_pieces

Task = Callable[[], Any]

_PAGE = 4096
_PARTS = 4  # per thread: enough that none waits long for the last one

_memcpy = types.ExternalFunction("memcpy", types.uintp(types.uintp, types.uintp, types.uintp))
_pread = types.ExternalFunction("pread", types.intp(types.intc, types.uintp, types.uintp, types.int64))


@numba.njit(nogil=True, cache=True)
def gather(source: Any, froms: Any, tos: Any, lengths: Any, out: Any) -> None:
    """Bytes of a mapped file copied to their places."""
    for i in range(len(froms)):
        _memcpy(out.ctypes.data + tos[i], source.ctypes.data + froms[i], lengths[i])


@numba.njit(nogil=True, cache=True)
def read_ranges(descriptor: int, froms: Any, lengths: Any, out: Any) -> None:
    """Ranges of a file read one after the other, all into the same memory."""
    for i in range(len(froms)):
        _pread(descriptor, out.ctypes.data, lengths[i], froms[i])


@numba.njit(nogil=True, cache=True)
def write_rows(data: Any, indices: Any, indptr: Any, start: int, stop: int, out: Any) -> None:
    """CSR rows ``start … stop-1`` written into a zeroed dense array."""
    for i in range(start, stop):
        for j in range(indptr[i], indptr[i + 1]):
            out[i, indices[j]] = data[j]


def inflate(descriptor: int, offset: int, size: int, decoded_size: int) -> None:
    """One storage chunk read and inflated by ISA-L, the result thrown away."""
    isal_zlib.decompress(os.pread(descriptor, size, offset), bufsize=decoded_size)


class Threads:
    """So many threads that share tasks."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count)

    def run(self, tasks: Sequence[Task]) -> None:
        """All tasks done, each by whichever thread is free."""
        todo = iter(tasks)  # advancing a list's iterator is atomic

        def work() -> None:
            for task in todo:
                task()

        for working in [self._pool.submit(work) for _ in range(self.count)]:
            working.result()

    def run_chunks(self, chunks: Sequence[Sequence[Task]]) -> None:
        """The tasks of each chunk, one chunk after the other."""
        for tasks in chunks:
            self.run(tasks)

    def split(self, count: int) -> list[slice]:
        """``count`` things in nearly equal parts, a few for each thread."""
        edges = np.linspace(0, count, _PARTS * self.count + 1, dtype=int).tolist()
        return [slice(*edge) for edge in pairwise(edges)]


class Reading:
    """What reading the X of some chunks of rows comes down to, as tasks for each chunk.

    Parameters
    ----------
    path
        A file with X as CSR or dense, gzip or uncompressed.
    chunks
        The rows of each read, ascending, and their order in memory.
    """

    def __init__(self, path: Path, chunks: Sequence[Chunk]) -> None:
        with h5py.File(path, "r") as file:
            x = file["X"]
            dense = isinstance(x, h5py.Dataset)
            self.layouts: list[Any] = [layout_of(x)] if dense else [layout_of(x["data"]), layout_of(x["indices"])]
            self.indptr = None if dense else x["indptr"][:].astype(np.int64)
        self.plain = self.layouts[0].plain
        self.descriptor = os.open(path, os.O_RDONLY)
        self.pieces = [[self._pieces(layout, chunk) for layout in self.layouts] for chunk in chunks]
        self.row_bytes = sum(int(part.lengths.sum()) for parts in self.pieces for part in parts)

    def _pieces(self, layout: Any, chunk: Chunk) -> Pieces:
        """In bytes: where the chunk's rows lie in their storage chunks, and where they go in memory."""
        places = np.argsort(chunk.order)  # (n,)
        if self.indptr is None:
            pieces = row_pieces(chunk.rows, places, layout.shape, layout.chunk_shape)
        else:
            lengths = self.indptr[chunk.rows + 1] - self.indptr[chunk.rows]
            drawn = lengths[chunk.order]
            tos = (np.cumsum(drawn) - drawn)[places]  # (n,)
            pieces = span_pieces(self.indptr[chunk.rows], lengths, tos, layout.chunk_shape[0])
        return pieces.scaled(layout.dtype.itemsize)

    @property
    def decoded_bytes(self) -> int:
        """The rows' bytes, or those of all storage chunks that hold some of them."""
        if self.plain:
            return self.row_bytes
        return sum(
            layout.chunk_bytes * len(np.unique(part.chunks))
            for parts in self.pieces
            for layout, part in zip(self.layouts, parts, strict=True)
        )

    def tasks(self, threads: Threads) -> list[list[Task]]:
        """Gathering from the mapped file, or inflating."""
        return self._gathering(threads) if self.plain else self._inflating()

    def _inflating(self) -> list[list[Task]]:
        return [
            [
                partial(inflate, self.descriptor, int(layout.offsets[i]), int(layout.sizes[i]), layout.chunk_bytes)
                for layout, part in zip(self.layouts, parts, strict=True)
                for i in np.unique(part.chunks)
            ]
            for parts in self.pieces
        ]

    def _gathering(self, threads: Threads) -> list[list[Task]]:
        mapped = np.frombuffer(mmap.mmap(self.descriptor, 0, prot=mmap.PROT_READ), np.uint8)
        sizes = np.array([[part.lengths.sum() for part in parts] for parts in self.pieces]).max(0)
        outs = [np.ones(size, np.uint8) for size in sizes]  # touched, so that no page fault is left
        return [
            [
                partial(gather, mapped, froms[some], part.tos[some], part.lengths[some], out)
                for froms, part, out in zip(self._froms(parts), parts, outs, strict=True)
                for some in threads.split(len(part))
            ]
            for parts in self.pieces
        ]

    def disk_tasks(self, threads: Threads) -> list[list[Task]]:
        """Reading, from an uncompressed file, the 4-KiB pages that hold each piece."""
        chunks = []
        for parts in self.pieces:
            froms = np.concatenate(self._froms(parts))  # (pieces,)
            ends = froms + np.concatenate([part.lengths for part in parts])
            firsts, lasts = froms // _PAGE * _PAGE, -(-ends // _PAGE) * _PAGE
            outs = partial(np.empty, (lasts - firsts).max(), np.uint8)
            chunks.append(
                [
                    partial(read_ranges, self.descriptor, firsts[some], (lasts - firsts)[some], outs())
                    for some in threads.split(len(firsts))
                ]
            )
        return chunks

    def _froms(self, parts: Sequence[Pieces]) -> list[NDArray[np.int64]]:
        """Where the pieces lie in the file."""
        return [layout.offsets[p.chunks] + p.froms for layout, p in zip(self.layouts, parts, strict=True)]
