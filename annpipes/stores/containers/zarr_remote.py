"""Where the objects of a remote Zarr store lie, or the file that there is at an address instead."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np

from annpipes.errors import FormatError, RemoteError
from annpipes.messages.warning import warn
from annpipes.stores.bytes.clients import Failure, Seen
from annpipes.stores.bytes.objects import RemoteObjects
from annpipes.stores.bytes.remote import Remote
from annpipes.stores.bytes.remote_file import RemoteFile
from annpipes.stores.bytes.requesting import Requests
from annpipes.stores.containers.zarr_archives import Zip
from annpipes.stores.containers.zarr_members import names_told
from annpipes.stores.containers.zarr_places import METADATA, Objects, Places

__all__ = ["RemotePlaces", "found_at"]

_GROUPS = ("zarr.json", ".zgroup")  # one of these says that there is a group
_FILES = (".h5ad", ".h5", ".hdf5", ".h5mu", ".loom", ".zip")
_ARCHIVE = b"PK"


class RemotePlaces(Places):
    """A store whose objects lie below an address.

    Each answer says whether an object is still the one that was seen, so the store as a whole needs no other stamp.

    Parameters
    ----------
    remote
        The address, and how it is reached.
    root
        The key of the object that says that it is a store, its bytes, and what it was when it was seen.
    """

    def __init__(self, requests: Requests, root: tuple[str, bytes, Seen]) -> None:
        self.requests: Requests = requests
        self.remote: Remote = requests.remote
        self.path: str = requests.remote.name
        self.listed: bool = not requests.remote.web
        name, content, seen = root
        self.seen: Seen = seen
        self.zarr_format = 3 if name == _GROUPS[0] else 2
        self._told = False
        self._metadata: dict[str, bytes | None] = {name: content}  # of groups and arrays, as they were asked for

    @classmethod
    def at(cls, remote: Remote) -> RemotePlaces | None:
        """The store, or group of one, at an address; None if there is none."""
        requests = Requests(remote.at(remote.url.rstrip("/")))
        for key in _GROUPS:
            found = requests.whole(key)
            if found is not None and _is_metadata(found[0]):
                return cls(requests, (key, *found))
        return None

    @property
    def stamp(self) -> tuple[Any, ...]:
        return self.seen

    @property
    def size(self) -> int:
        return self.bytes_below("")

    def bytes_below(self, folder: str) -> int:
        return sum(seen.size for seen in self.requests.listed(folder).values())

    def content(self, key: str) -> bytes | None:
        """All bytes of an object; None if it is not there."""
        if key in self._metadata:
            return self._metadata[key]
        found = self.requests.whole(key)
        content = None if found is None else found[0]
        if key.rpartition("/")[2] in METADATA:
            self._metadata[key] = content
        return content

    def names(self, folder: str) -> Sequence[str]:
        """Names of the objects and folders in a folder; on a web server, those that metadata mentions."""
        if self.listed:
            return self.requests.names(folder)
        told = names_told(self._attributes(folder))
        if told is None:
            self._tell_unknown(folder)
            return []
        wanted = [f"{folder}/{name}".lstrip("/") for name in told]
        with ThreadPoolExecutor(self.requests.remote.requests) as threads:
            there = list(threads.map(self._is_there, wanted))
        return [name for name, known in zip(told, there, strict=True) if known]

    def _tell_unknown(self, folder: str) -> None:
        """Warn once if some of a store's contents are unknown; refuse a store of which nothing is known."""
        remedy = "call zarr.consolidate_metadata(path) where the store was written, as anndata does"
        why = f"its metadata is not consolidated, and a web server cannot list files; {remedy}"
        if not folder:
            raise FormatError(f"the contents of {self.path} are unknown: {why}").with_remedy(remedy)
        if not self._told:
            warn(f"the contents of layers, obsm and similar groups of {self.path} are unknown: {why}")
        self._told = True

    def _is_there(self, path: str) -> bool:
        roots = ("zarr.json",) if self.zarr_format == 3 else (".zarray", ".zgroup")
        return any(self.content(f"{path}/{root}") is not None for root in roots)

    def _attributes(self, folder: str) -> Mapping[str, Any]:
        key = "zarr.json" if self.zarr_format == 3 else ".zattrs"
        said = json.loads(self.content(f"{folder}/{key}".lstrip("/")) or b"{}")
        attributes: Mapping[str, Any] = said.get("attributes", {}) if self.zarr_format == 3 else said
        return attributes

    def find(self, folder: str, keys: Sequence[str]) -> Objects:
        wanted = [f"{folder}/{key}" for key in keys]
        if self.listed:
            seen = self.requests.listed(folder)
            found = [seen.get(key) for key in wanted]
        else:
            with ThreadPoolExecutor(min(len(wanted), self.requests.remote.requests)) as threads:
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


def found_at(remote: Remote) -> Places | RemoteFile:
    """What is at an address: a Zarr store or a group in one, or else a file. Nothing is asked for twice."""
    path, refused = remote.url.partition("?")[0].lower() if remote.web else remote.url.lower(), None
    if not path.endswith(_FILES):
        try:
            places = RemotePlaces.at(remote)
        except RemoteError as error:
            if not (isinstance(error.__cause__, Failure) and error.__cause__.kind == "denied"):
                raise
            places, refused = None, error  # the answer of some stores about missing objects, to users who may not list
        if places is not None:
            return places
    try:
        file = RemoteFile(remote)
    except RemoteError as error:
        raise refused or error from None
    if file.beginning.startswith(_ARCHIVE) and (archive := Zip(file)).is_zarr:
        return archive
    return file


def _is_metadata(content: bytes) -> bool:
    """Whether it is Zarr's metadata of a group or array: some web servers answer any request."""
    with suppress(ValueError):
        said = json.loads(content)
        return isinstance(said, dict) and "zarr_format" in said
    return False
