"""A remote Zarr store for zarr itself, by the requests that read everything else.

So metadata and tables are repeated, told and read in a fork as bytes of matrices are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest

from annpipes.stores.bytes.requesting import Requests

__all__ = ["Remotely"]


class Remotely(Store):
    """Objects as zarr asks for them, whole, and kept: metadata and tables.

    Parameters
    ----------
    requests
        How they are asked for.
    """

    supports_writes = supports_deletes = False
    supports_listing = True

    def __init__(self, requests: Requests) -> None:
        super().__init__(read_only=True)
        self.requests, self.supports_listing = requests, not requests.remote.web
        self._kept: dict[str, bytes | None] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remotely) and other is self

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        content = await asyncio.to_thread(self._whole, key)
        if content is None:
            return None
        part = _part(content, byte_range)
        return part if prototype is None else prototype.buffer.from_bytes(part)

    def _whole(self, key: str) -> bytes | None:
        if key not in self._kept:
            self._kept[key] = _read(self.requests, key)
        return self._kept[key]

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[Any]) -> list[Any]:
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        return await asyncio.to_thread(self._whole, key) is not None

    async def set(self, key: str, value: Any) -> None:
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        raise NotImplementedError

    async def list(self) -> AsyncIterator[str]:
        for key in await asyncio.to_thread(self.requests.list, ""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        async for key in self.list():
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        begin = f"{prefix.rstrip('/')}/" if prefix else ""
        found = {key[len(begin) :].partition("/")[0] async for key in self.list() if key.startswith(begin)}
        for name in sorted(found):
            yield name


def _part(content: bytes, wanted: Any) -> bytes:
    if isinstance(wanted, RangeByteRequest):
        return content[wanted.start : wanted.end]
    if isinstance(wanted, OffsetByteRequest):
        return content[wanted.offset :]
    return content[-wanted.suffix :] if isinstance(wanted, SuffixByteRequest) else content


def _read(requests: Requests, key: str) -> bytes | None:
    seen = requests.there(key)
    if seen is None:
        return None
    return bytes(requests.get(key, 0, seen.size, seen)) if seen.size else b""
