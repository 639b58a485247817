"""Remote objects as one source of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import numpy as np

from annpipes.errors import ChangedError
from annpipes.stores.bytes.clients import Seen
from annpipes.stores.bytes.merging import Requesting, merged
from annpipes.stores.bytes.protocol import unchanged_after
from annpipes.stores.bytes.requesting import Requests
from annpipes.stores.compiled.kernels import Bytes, Offsets

__all__ = ["RemoteObjects"]

_GAP, _LARGEST = 256 << 10, 2 << 20


class RemoteObjects:
    """Remote objects one after the other, of which each answer says whether they are still those that were seen.

    Parameters
    ----------
    requests
        How they are asked for.
    keys
        What they are called there.
    seen
        What each was when it was first seen.
    """

    descriptor = None
    distant = True

    def __init__(self, requests: Requests, keys: Sequence[str], seen: Sequence[Seen]) -> None:
        self.requests: Requests = requests
        self.keys: tuple[str, ...] = tuple(keys)
        self.seen: tuple[Seen, ...] = tuple(seen)
        self.name: str = requests.name(keys[0]) if len(keys) == 1 else requests.remote.name

    @cached_property
    def firsts(self) -> Offsets:
        """Where each object begins: so far behind the one before that no request is made for both; ``(objects,)``."""
        apart = [seen.size + _GAP + 1 for seen in self.seen[:-1]]
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(apart, dtype=np.int64)])

    @property
    def size(self) -> int:
        """Where the last object ends."""
        return int(self.firsts[-1]) + self.seen[-1].size

    @property
    def stamp(self) -> tuple[Any, ...]:
        """Changes when an object does."""
        return self.seen

    @property
    def requesting(self) -> Requesting:
        """What requests cost."""
        return Requesting(_GAP, _LARGEST, self.requests.remote.requests)

    def opened(self) -> RemoteObjects:
        """Itself: what a process has open belongs to the client."""
        return self

    def steady(self) -> AbstractContextManager[None]:
        """A block after which objects are looked at again if answers do not say what they are from."""
        return unchanged_after(self.check_unchanged)

    def check_unchanged(self) -> None:
        """Refuse objects that have changed, unless each answer says what it is from and is checked by itself."""
        if not self.requests.client.looks:
            return
        for key, seen in zip(self.keys, self.seen, strict=True):
            if self.requests.head(key) != seen:
                name = self.requests.name(key)
                raise ChangedError(f"{name} changed since it was first opened; make the source again")

    def close(self) -> None:
        """Nothing is open."""

    def read(self, offset: int, size: int) -> memoryview:
        """``size`` bytes from ``offset``, which lie in one object, or fewer where that ends."""
        number = int(np.searchsorted(self.firsts, offset, side="right")) - 1
        first, seen = offset - int(self.firsts[number]), self.seen[number]
        size = min(size, seen.size - first)
        return self.requests.get(self.keys[number], first, size, seen) if size > 0 else memoryview(b"")

    def read_ranges(self, froms: Offsets, tos: Offsets, lengths: Offsets, start: int, stop: int, out: Bytes) -> int:
        """As `OpenBytes.read_ranges`; ranges that lie near each other by one request."""
        for first, last in merged(froms[start:stop], lengths[start:stop], self.requesting):
            part = slice(start + first, start + last)
            begin, end = int(froms[part][0]), int((froms[part] + lengths[part]).max())
            content = np.frombuffer(self.read(begin, end - begin), np.uint8)
            for i in range(part.start, part.stop):
                found = content[froms[i] - begin :][: lengths[i]]
                if len(found) < lengths[i]:
                    return i
                out[tos[i] : tos[i] + lengths[i]] = found
        return -1

    def mapped(self) -> None:
        """None: they are not in memory."""

    def look(self, offsets: Offsets) -> None:
        """Nothing: what was kept belongs to the version that was seen, and each look would be a request."""

    def cached(self, offsets: Offsets) -> bool:
        """No: so that several are read at once."""
        return False
