"""Remote bytes as bare work: the merged requests that reading makes, and what they bring, held in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from annpipes.plans.rows import RowArray
from annpipes.stores.bytes.memory import MemoryBytes
from annpipes.stores.bytes.merging import merged
from annpipes.stores.bytes.protocol import ByteSource
from annpipes.stores.compiled.kernels import Bytes
from annpipes.stores.containers.layout import Layout
from annpipes.stores.limits.threads import Task, Threads

__all__ = ["Ranges", "at_once", "held", "requests", "spanned"]


class Ranges(NamedTuple):
    """Ranges of one source, ``(ranges,)``."""

    source: ByteSource
    froms: RowArray
    lengths: RowArray

    def requested(self) -> Iterator[RowArray]:
        """Which of them each request reads, in the order of their offsets; of what needs no requests, none."""
        cost, order = self.source.opened().requesting, np.argsort(self.froms, kind="stable")
        for start, stop in merged(self.froms[order], self.lengths[order], cost) if cost else ():
            yield order[start:stop]

    def extent(self, which: RowArray) -> tuple[int, int]:
        """Offset and size of the request that reads these."""
        first = int(self.froms[which].min())
        return first, int((self.froms[which] + self.lengths[which]).max()) - first


def at_once(layout: Layout) -> int:
    """How many requests for an array are under way at once; 0 of one that needs none."""
    costs = [source.opened().requesting for source in layout.sources]
    return max((cost.at_once for cost in costs if cost), default=0)


def requests(ranges: Ranges) -> list[Task]:
    """The requests that read them, each a task that returns how many bytes came."""
    return [partial(_request, ranges.source, *ranges.extent(which)) for which in ranges.requested()]


def spanned(ranges: Ranges) -> int:
    """How many bytes the requests ask for, with the gaps between ranges that are cheaper than another request."""
    return sum(ranges.extent(which)[1] for which in ranges.requested())


def held(layout: Layout, owned: Sequence[RowArray]) -> Layout:
    """The array with some storage chunks in memory, fetched now; of the others the bytes are not there.

    Parameters
    ----------
    owned
        Which ones, those of each source together.
    """
    offsets = np.zeros_like(layout.offsets)
    content = np.empty(sum(int(layout.sizes[numbers].sum()) for numbers in owned), np.uint8)
    tasks, filled = [], 0
    for numbers in owned:
        one = Ranges(layout.sources[layout.owners[numbers[0]]], layout.offsets[numbers], layout.sizes[numbers])
        ends = filled + np.cumsum(one.lengths)
        offsets[numbers], filled = ends - one.lengths, int(ends[-1])
        which = list(one.requested()) or [np.arange(len(numbers))]
        tasks += [partial(_fetch, one, offsets[numbers], some, content) for some in which]
    with Threads(at_once(layout)) as threads:
        threads.run(tasks)
    return replace(layout, sources=(MemoryBytes(content),), owners=np.zeros_like(layout.owners), offsets=offsets)


def _fetch(ranges: Ranges, tos: RowArray, which: RowArray, out: Bytes) -> None:
    """Read these ranges, those of one request, to their places."""
    froms, lengths = ranges.froms[which], ranges.lengths[which]
    ranges.source.opened().read_ranges(froms, tos[which], lengths, 0, len(which), out)


def _request(source: ByteSource, offset: int, size: int) -> int:
    return len(source.opened().read(offset, size))
