"""Remote bytes as bare work: the merged requests that reading makes, and what they bring, held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from annpipes.plans.rows import RowArray
from annpipes.stores.bytes.memory import MemoryBytes
from annpipes.stores.bytes.merging import merged
from annpipes.stores.bytes.protocol import OpenBytes
from annpipes.stores.compiled.kernels import Bytes
from annpipes.stores.containers.layout import Layout
from annpipes.stores.limits.threads import Threads

__all__ = ["Ranges", "Request", "held"]


class Request(NamedTuple):
    """One request for ranges that lie near each other."""

    source: OpenBytes
    offset: int
    size: int

    def send(self) -> int:
        """How many bytes came."""
        return len(self.source.read(self.offset, self.size))


class Ranges(NamedTuple):
    """Ranges of one source, ``(ranges,)``."""

    source: OpenBytes
    froms: RowArray
    lengths: RowArray

    def together(self) -> Iterator[RowArray]:
        """Which of them each request reads, in the order of their offsets; of what needs no requests, none."""
        cost, order = self.source.requesting, np.argsort(self.froms, kind="stable")
        for start, stop in merged(self.froms[order], self.lengths[order], cost) if cost else ():
            yield order[start:stop]

    def requests(self) -> Iterator[Request]:
        """The requests that read them."""
        for which in self.together():
            first, end = int(self.froms[which].min()), int((self.froms[which] + self.lengths[which]).max())
            yield Request(self.source, first, end - first)


def held(layout: Layout, numbers: RowArray) -> Layout:
    """The array with these storage chunks in memory, fetched now; of the others the bytes are not there."""
    opened, sizes, offsets = layout.opened(numbers), layout.sizes[numbers], np.zeros_like(layout.offsets)
    tos = np.cumsum(sizes) - sizes
    content, offsets[numbers] = np.empty(int(sizes.sum()), np.uint8), tos
    tasks = []
    for source, which in opened.each():
        ranges = Ranges(source, layout.offsets[numbers][which], sizes[which])
        parts = list(ranges.together()) or [np.arange(len(ranges.froms))]
        tasks += [partial(_fetch, ranges, tos[which], part, content) for part in parts]
    cost = opened.requesting
    with Threads(cost and cost.at_once) as threads:
        threads.run(tasks)
    return replace(layout, sources=(MemoryBytes(content),), owners=np.zeros_like(layout.owners), offsets=offsets)


def _fetch(ranges: Ranges, tos: RowArray, which: RowArray, out: Bytes) -> None:
    """Read these ranges, those of one request, to their places."""
    froms, lengths = ranges.froms[which], ranges.lengths[which]
    ranges.source.read_ranges(froms, tos[which], lengths, 0, len(which), out)
