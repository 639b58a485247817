"""A remote Zarr store for zarr itself, by the requests that read everything else.

So requests for metadata and tables are repeated, reported and made in forks like those for matrices.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from threading import Lock
from typing import Any, Protocol

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest

__all__ = ["Contents", "Remotely"]

_MOST_KEPT = 64 << 20


class Contents(Protocol):
    """Objects by key, whole."""

    def content(self, key: str) -> bytes | None:
        """All bytes of an object; None if it is not there."""

    def names(self, folder: str) -> Sequence[str]:
        """What the objects and folders in a folder are called there."""


class Remotely(Store):
    """Objects as zarr asks for them, whole; the last ones are kept, for it asks for parts of the same one by one.

    Parameters
    ----------
    contents
        Whom they are asked of.
    """

    supports_writes = supports_deletes = False
    supports_listing = True

    def __init__(self, contents: Contents) -> None:
        super().__init__(read_only=True)
        self.contents = contents
        self._kept: dict[str, bytes | None] = {}  # in the order in which they came
        self._size, self._lock = 0, Lock()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remotely) and other is self

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        content = await asyncio.to_thread(self._whole, key)
        if content is None:
            return None
        part = _part(content, byte_range)
        return part if prototype is None else prototype.buffer.from_bytes(part)

    def _whole(self, key: str) -> bytes | None:
        with self._lock:
            if key in self._kept:
                return self._kept[key]
        content = self.contents.content(key)
        with self._lock:
            if key not in self._kept:  # another thread may have asked for it, too
                self._kept[key] = content
                self._size += len(content or b"")
            while self._size > _MOST_KEPT and len(self._kept) > 1:
                self._size -= len(self._kept.pop(next(iter(self._kept))) or b"")
        return content

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[Any]) -> list[Any]:
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        return await asyncio.to_thread(self._whole, key) is not None

    async def set(self, key: str, value: Any) -> None:
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        raise NotImplementedError

    def list(self) -> AsyncIterator[str]:
        raise NotImplementedError  # nobody wants to know all objects, of which there may be millions

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        raise NotImplementedError

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        for name in await asyncio.to_thread(self.contents.names, prefix.strip("/")):
            yield name


def _part(content: bytes, wanted: Any) -> bytes:
    if isinstance(wanted, RangeByteRequest):
        return content[wanted.start : wanted.end]
    if isinstance(wanted, OffsetByteRequest):
        return content[wanted.offset :]
    return content[-wanted.suffix :] if isinstance(wanted, SuffixByteRequest) else content
