"""Where the objects of a remote Zarr store lie."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from annpipes.stores.bytes.objects import RemoteObjects
from annpipes.stores.bytes.remote import Remote
from annpipes.stores.bytes.requesting import Requests
from annpipes.stores.containers.zarr_places import Objects, Places

__all__ = ["RemotePlaces", "is_remote_zarr"]

_ROOTS = ("zarr.json", ".zgroup")
_FILES = (".h5ad", ".h5", ".hdf5", ".h5mu", ".loom")


class RemotePlaces(Places):
    """A store whose objects lie below an address.

    Each answer says whether an object is still the one that was seen, so the store as a whole needs no other stamp.
    """

    def __init__(self, remote: Remote) -> None:
        self.remote, self.path = remote, remote.name.rstrip("/")
        self.requests = Requests(remote.at(remote.url.rstrip("/")))

    @cached_property
    def stamp(self) -> tuple[Any, ...]:
        return tuple(self.requests.there(name) or () for name in _ROOTS)

    @property
    def size(self) -> int:
        return self.bytes_below("")

    def bytes_below(self, folder: str) -> int:
        return sum(seen.size for seen in self.requests.list(folder).values())

    def find(self, folder: str, keys: Sequence[str]) -> Objects:
        wanted = [f"{folder}/{key}" for key in keys]
        if not self.remote.web:
            seen = self.requests.list(folder)
            found = [seen.get(key) for key in wanted]
        else:
            with ThreadPoolExecutor(min(len(wanted), self.remote.requests)) as threads:
                found = list(threads.map(self.requests.there, wanted))
        there = [number for number, one in enumerate(found) if one is not None]
        sizes = np.array([-1 if one is None else one.size for one in found], np.int64)
        offsets, owners = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int32)
        if not there:
            return Objects((), owners, offsets, sizes)
        known = [one for one in found if one is not None]
        together = RemoteObjects(self.requests, [wanted[number] for number in there], known)
        offsets[there] = together.firsts
        return Objects((together,), owners, offsets, sizes)


def is_remote_zarr(remote: Remote) -> bool:
    """Whether an address is that of a group of a Zarr store, and not of a file."""
    if remote.url.partition("?")[0].lower().endswith(_FILES):
        return False
    return any(RemotePlaces(remote).stamp)
