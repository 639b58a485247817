"""The bare work that reading X cannot do without: what rates are compared with.

Everything that can be worked out beforehand is, so that only reading, decoding or copying is timed. The loops
are those of `threads` rather than of the readers, whose changes must not move the limit; decoding is the codecs'
own `decode_bare`.

`parts`    what one array has to do with it
`distant`  remote bytes by bare requests
`threads`  loops and threads of their own, which no change of the readers moves
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from annpipes.errors import FormatError
from annpipes.plans.rows import RowArray
from annpipes.stores.codecs.pipelines import work_of
from annpipes.stores.containers.layout import Layout
from annpipes.stores.engine.elements import Direct
from annpipes.stores.engine.fallback import ThroughLibrary
from annpipes.stores.engine.pieces import Pieces, row_pieces, span_pieces
from annpipes.stores.limits.parts import LibraryPart, direct_part
from annpipes.stores.limits.threads import BareWork, Threads, overwrite_rows
from annpipes.stores.matrices import CsrRows, DenseRows, places_of
from annpipes.stores.opening import open_one
from annpipes.types import Chunk, SparseRows

__all__ = ["BareReading", "densifying"]

_BY_LIBRARY = {"h5py": ("hdf5", "HDF5's own reading"), "zarr": ("zarr", "zarr's own reading")}
_DISK_THREADS = 16

One = TypeVar("One")


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
        store = open_one(data)
        self.file_bytes: int = store.stored_bytes
        matrix = store.matrix("X")
        container = matrix.container if isinstance(matrix, CsrRows | DenseRows) else None
        if not isinstance(matrix, CsrRows | DenseRows) or container is None:
            raise FormatError(f"X of {data} is read whole into memory, so there is nothing to measure")
        self.sparse: bool = matrix.sparse
        parts = [matrix.data, matrix.indices] if isinstance(matrix, CsrRows) else [matrix.values]
        spans = [_spans(matrix, chunk) for chunk in chunks]
        self._direct = [
            direct_part(part, [_pieces(part.layout, *span) for span in spans])
            for part in parts
            if isinstance(part, Direct)
        ]
        self._through = [
            LibraryPart(part, [(firsts, lengths) for firsts, lengths, _ in spans])
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
        if self._through or self.distant or not hasattr(os, "pread"):
            return None
        ranges, n_bytes = [part.reading() for part in self._direct], sum(part.stored_bytes for part in self._direct)
        return BareWork("disk", "the disk", self._joined(ranges), n_bytes, at_once=_DISK_THREADS)

    @property
    def distant(self) -> bool:
        """Whether bytes come over a network."""
        return any(part.layout.distant for part in self._direct)

    def network(self) -> BareWork | None:
        """Asking for what has to come over a network, by the requests that reading makes; None if nothing has to."""
        if self._through or not self.distant:
            return None
        requests = self._joined([part.requests() for part in self._direct])
        tasks, n_bytes = [[one.send for one in chunk] for chunk in requests], sum(one.size for one in chain(*requests))
        most = max(part.at_once for part in self._direct)
        return BareWork("network", "the network", tasks, n_bytes, at_once=most)

    def _joined(self, parts: Sequence[Sequence[Sequence[One]]]) -> list[list[One]]:
        """What all parts have for each chunk."""
        return [[task for part in parts for task in part[number]] for number in range(self._n_chunks)]


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
