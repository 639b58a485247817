"""Arrays whose storage chunks are read from a cache once they were decoded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.meters import count
from annpipes.plans.rows import RowArray
from annpipes.stores.bytes.local import LocalFile
from annpipes.stores.caching.cached import CachedArray, OpenCache
from annpipes.stores.caching.files import About
from annpipes.stores.caching.loops import Shelf, no_shelf
from annpipes.stores.caching.settings import SourceCache, can_cache
from annpipes.stores.codecs.pipelines import Pipeline
from annpipes.stores.codecs.stored import Stored
from annpipes.stores.compiled.kernels import Bytes, Offsets
from annpipes.stores.containers.layout import Layout
from annpipes.stores.damage import Origin
from annpipes.stores.engine.elements import Dataset, Direct, InMemory, decode, plain_from
from annpipes.stores.engine.pieces import Pieces
from annpipes.stores.engine.pools import Guard, Work
from annpipes.stores.engine.targets import Target
from annpipes.stores.routes import Route

__all__ = ["Cached", "cached_in"]

_PIECE_BYTES = 256 << 10  # requests span gaps of as many


def cached_in(dataset: Dataset, cache: SourceCache) -> Dataset:
    """The array read through a cache, if that helps: if it must be decoded, or is remote."""
    if not isinstance(dataset, Direct) or not can_cache():
        return dataset
    layout = dataset.layout
    if not len(layout.sizes) or (layout.plain and not layout.distant):
        return dataset
    layout = _in_pieces(layout) if layout.plain else layout
    kept = CachedArray(cache.cache, _about(cache.source, dataset.path, layout))
    return Cached(dataset.origin, layout, kept, dataset.route.reason)


def _in_pieces(layout: Layout) -> Layout:
    """The same bytes as storage chunks to be decoded; a contiguous array, of any size, as many of them."""
    last = layout.chunk_bytes
    if len(layout.sizes) == 1 and last > _PIECE_BYTES:
        row_bytes = last // layout.shape[0]
        rows = max(1, _PIECE_BYTES // row_bytes)
        firsts = np.arange(0, layout.shape[0], rows)
        sizes = np.minimum(rows, layout.shape[0] - firsts) * row_bytes
        last, count = int(sizes[-1]), len(firsts)
        layout = replace(
            layout,
            chunk_shape=(rows, *layout.shape[1:]),
            owners=np.zeros(count, np.int32),
            offsets=layout.offsets[0] + firsts * row_bytes,
            sizes=sizes,
            masks=np.zeros(count, np.uint32),
        )
    return replace(layout, pipeline=Pipeline((Stored(),), ((last,),)))


def _about(source: str, path: str, layout: Layout) -> About:
    stamp = hashlib.sha256(repr([one.stamp for one in layout.sources]).encode())
    for places in (layout.owners, layout.offsets, layout.sizes, layout.masks):
        stamp.update(places.tobytes())
    return About(
        source=source,
        array=path,
        stamp=stamp.hexdigest(),
        dtype=str(layout.dtype),
        chunk_shape=tuple(map(int, layout.chunk_shape)),
        codecs=layout.pipeline.names,
        storage_chunks=len(layout.sizes),
        chunk_bytes=layout.chunk_bytes,
    )


class Cached(Direct):
    """As `Direct`; storage chunks are written to a cache once they were decoded, and read from there as if plain.

    Parameters
    ----------
    origin, layout
        As of `Direct`.
    array
        What is kept of it.
    reason
        Of the route without a cache.
    """

    def __init__(self, origin: Origin, layout: Layout, array: CachedArray, reason: str) -> None:
        super().__init__(origin, layout)
        self.array: CachedArray = array
        self.route: Route = Route("direct", f"{reason}, cached")
        self.set_decoder(partial(_recall_or_decode, array, origin, layout))

    def kept(self, numbers: RowArray) -> Layout | None:
        """Where these storage chunks lie decoded in the cache; None if one of them does not."""
        opened = self.array.opened()
        if opened is None or not opened.verified(numbers).all():
            return None
        count, size = len(self.layout.sizes), self.layout.chunk_bytes
        return replace(
            self.layout,
            sources=(LocalFile(os.path.join(opened.known.folder, "data")),),
            owners=np.zeros(count, np.int32),
            offsets=np.arange(count) * size,
            sizes=np.full(count, size),
            masks=np.zeros(count, np.uint32),
            pipeline=Pipeline((), ()),
        )

    def shelf(self, numbers: RowArray) -> Shelf | None:
        opened = self.array.opened()
        return no_shelf(numbers) if opened is None else opened.shelf(numbers)

    def kept_bytes(self, pieces: Pieces) -> int:
        opened = self.array.opened()
        return 0 if opened is None else int(pieces.lengths[opened.there(pieces.chunks)].sum())

    def around(self) -> Sequence[Guard]:
        opened = self.array.opened()
        return () if opened is None else (opened.steady,)

    def in_memory(self, pieces: Pieces) -> InMemory | None:
        """Pieces in the mapped cache, if all are there and in memory."""
        opened = self.array.opened()
        if opened is None or not opened.verified(pieces.chunks).all():
            return None
        self.layout.look(pieces.chunks)
        mapped, places = opened.files.data.mapped(), self._places(pieces)
        if mapped is None or not opened.files.data.cached(places):
            return None
        return InMemory(mapped, places, self._guards, (opened.steady,))

    def _tasks(self, pieces: Pieces, out: NDArray[Any], below: int | None) -> Work:
        opened, target = self.array.opened(), Target(self.origin, self.layout, out, below)
        self.layout.look(pieces.chunks)
        count("copied", int(pieces.lengths.sum()))
        if opened is None or not (there := opened.verified(pieces.chunks)).any():
            return self._decoded_work(pieces, target)
        if there.all():
            return self._work_from(opened, pieces, target)
        decoded = self._decoded_work(pieces.at(np.flatnonzero(~there)), target)  # first: it takes longer
        return Work.joined([decoded, self._work_from(opened, pieces.at(np.flatnonzero(there)), target)])

    def _work_from(self, opened: OpenCache, pieces: Pieces, target: Target) -> Work:
        """Pieces of storage chunks that are there and right."""
        n_bytes = int(pieces.lengths.sum())
        count("decoded", n_bytes)
        count("cached", n_bytes)
        work = plain_from(opened.files.data, self._places(pieces), pieces, target)
        return replace(work, guards=self._guards, around=(opened.steady,))

    @property
    def _guards(self) -> Sequence[Guard]:
        """A source that changed is refused, whether or not it is read."""
        return [source.steady for source in self.layout.sources]

    def _places(self, pieces: Pieces) -> Offsets:
        return pieces.chunks * self.layout.chunk_bytes + pieces.froms


def _recall_or_decode(array: CachedArray, origin: Origin, layout: Layout, number: int) -> Bytes:
    opened = array.opened()
    found = None if opened is None else opened.recall(number)
    if found is not None:
        return found
    decoded = decode(origin, layout, number)
    if opened is not None:
        opened.keep(number, decoded)
    return decoded
