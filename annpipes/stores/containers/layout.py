"""Where the storage chunks of an array lie, whatever the container."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import DamageError
from annpipes.plans.rows import RowArray
from annpipes.stores.bytes.merging import Requesting
from annpipes.stores.bytes.protocol import ByteSource, OpenBytes
from annpipes.stores.codecs.pipelines import Pipeline
from annpipes.stores.compiled.kernels import Offsets

__all__ = ["Layout", "OpenedChunks", "plain_layout"]


@dataclass(frozen=True, eq=False)
class Layout:
    """An array as storage chunks at known places; a contiguous one is a single storage chunk.

    Parameters
    ----------
    dtype
        Of one element, in this machine's byte order.
    shape, chunk_shape
        Of the array and of each storage chunk (those at the edges are padded to it).
    sources
        What the bytes are read from.
    owners, offsets, sizes, masks
        Of each storage chunk, in row-major order of the grid: which source it lies in, where its bytes
        begin there, how many they are, and which codecs were left out; shape ``(storage chunks,)``.
    pipeline
        What the bytes went through.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    sources: tuple[ByteSource, ...]
    owners: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    masks: NDArray[np.uint32]
    pipeline: Pipeline

    @property
    def plain(self) -> bool:
        """Whether bytes are stored as they are in memory."""
        return not self.pipeline.codecs

    @property
    def distant(self) -> bool:
        """Whether reading some of it waits for a network."""
        return any(source.distant for source in self.sources)

    @cached_property
    def chunk_bytes(self) -> int:
        """The decoded size of a storage chunk."""
        return math.prod(self.chunk_shape) * self.dtype.itemsize

    def extent(self, number: int) -> tuple[int, int]:
        """First and last element (of a two-dimensional array: row) in a storage chunk."""
        columns = -(-self.shape[-1] // self.chunk_shape[-1]) if len(self.shape) > 1 else 1
        first = number // columns * self.chunk_shape[0]
        return first, min(first + self.chunk_shape[0], self.shape[0]) - 1

    def narrowed(self, columns: RowArray) -> Layout:
        """Of a two-dimensional array only these columns of storage chunks, ascending, one beside the other."""
        width, per_row = self.chunk_shape[1], -(-self.shape[1] // self.chunk_shape[1])
        which = (np.arange(len(self.sizes)).reshape(-1, per_row)[:, columns]).ravel()
        n_columns = int(np.minimum(width, self.shape[1] - columns * width).sum())  # the last one may be cut off
        return replace(
            self,
            shape=(self.shape[0], n_columns),
            owners=self.owners[which],
            offsets=self.offsets[which],
            sizes=self.sizes[which],
            masks=self.masks[which],
        )

    def opened(self, numbers: RowArray) -> OpenedChunks:
        """These storage chunks, whose sources are open."""
        if len(self.sources) == 1:
            return OpenedChunks(self.sources, np.zeros(len(numbers), np.int64))
        used, owners = np.unique(self.owners[numbers], return_inverse=True)
        return OpenedChunks(tuple(self.sources[owner] for owner in used), owners.astype(np.int64, copy=False))

    def look(self, numbers: RowArray) -> None:
        """Refuse sources of these storage chunks that changed, where only a look tells (see `ByteSource.look`)."""
        offsets = self.offsets[numbers]
        if len(self.sources) == 1:
            self.sources[0].look(offsets)
            return
        owners = self.owners[numbers]
        for owner in np.unique(owners).tolist():
            self.sources[owner].look(offsets[owners == owner])

    def encoded(self, number: int) -> Any:
        """The bytes of a storage chunk, or fewer where its source ends."""
        source = self.sources[self.owners[number]].opened()
        return source.read(int(self.offsets[number]), int(self.sizes[number]))

    def check(self, where: str, shared: int | None = None) -> None:
        """Refuse a table that no intact array can have, so that nobody reads outside of a source.

        Of the source ``shared``, if there is one, many storage chunks have the same bytes.

        Raises
        ------
        DamageError
            It points outside, or storage chunks overlap.
        """
        lengths = np.array([source.size for source in self.sources])[self.owners]  # (storage chunks,)
        wrong = (self.offsets < 0) | (self.sizes <= 0) | (self.offsets > lengths - self.sizes)
        if self.plain:
            wrong |= self.sizes != self.chunk_bytes
        if wrong.any():
            number = int(np.flatnonzero(wrong)[0])
            raise DamageError.at(
                where,
                f"storage chunk {number} should lie at byte {self.offsets[number]} with "
                f"{self.sizes[number]} bytes, but the file has {lengths[number]}",
            )
        alone = len(self.sources) == 1
        placed = np.argsort(self.offsets) if alone else np.lexsort((self.offsets, self.owners))
        ends = self.offsets[placed] + self.sizes[placed]
        overlapping = (self.offsets[placed][1:] < ends[:-1]) & (np.diff(self.owners[placed]) == 0)
        if shared is not None:
            overlapping &= self.owners[placed][1:] != shared
        if overlapping.any():
            first, second = placed[int(np.flatnonzero(overlapping)[0]) :][:2]
            raise DamageError.at(where, f"storage chunks {first} and {second} overlap at byte {self.offsets[second]}")


class OpenedChunks:
    """Some storage chunks whose sources are open in this process.

    Parameters
    ----------
    sources
        Those that some of them lie in.
    owners
        Which of these each lies in; shape ``(chunks,)``.
    """

    def __init__(self, sources: tuple[ByteSource, ...], owners: RowArray) -> None:
        self.sources: tuple[ByteSource, ...] = sources
        self.owners: RowArray = owners
        self.opened: tuple[OpenBytes, ...] = tuple(source.opened() for source in sources)

    @property
    def guards(self) -> tuple[Callable[[], AbstractContextManager[None]], ...]:
        """Blocks to be open while they are read."""
        return tuple(source.steady for source in self.sources)

    @property
    def requesting(self) -> Requesting | None:
        """What requests cost, if any of the sources is asked by such."""
        return next((opened.requesting for opened in self.opened if opened.requesting is not None), None)

    @cached_property
    def descriptors(self) -> Offsets | None:
        """For each the file that compiled loops can read it from; None if one has none."""
        known = [opened.descriptor for opened in self.opened]
        return None if None in known else np.array(known, np.int64)[self.owners]

    def each(self) -> Iterator[tuple[OpenBytes, RowArray | slice]]:
        """Each source, and which of the storage chunks lie in it."""
        if len(self.opened) == 1:
            yield self.opened[0], slice(None)
            return
        order = np.argsort(self.owners, kind="stable")
        edges = np.searchsorted(self.owners[order], np.arange(len(self.opened) + 1))
        for opened, (start, stop) in zip(self.opened, pairwise(edges), strict=True):
            yield opened, order[start:stop]

    @property
    def mapped(self) -> NDArray[np.uint8] | None:
        """All bytes in memory, if there is a single source that has them so."""
        return self.opened[0].mapped() if len(self.opened) == 1 else None


def plain_layout(dtype: np.dtype[Any], shape: tuple[int, ...], source: ByteSource, offset: int = 0) -> Layout:
    """Elements one after the other from ``offset`` on, as they are in memory."""
    size = math.prod(shape) * dtype.itemsize
    places = np.array([offset]), np.array([size]), np.zeros(1, np.uint32)
    return Layout(dtype, shape, shape, (source,), np.zeros(1, np.int32), *places, Pipeline((), ()))
