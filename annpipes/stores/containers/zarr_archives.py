"""Zarr stores in one zip archive, on this machine or elsewhere.

https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from annpipes.errors import DamageError
from annpipes.stores.bytes.local import LocalFile, stamp_of
from annpipes.stores.bytes.remote import Remote
from annpipes.stores.bytes.remote_file import RemoteFile
from annpipes.stores.containers.zarr_places import ROOTS, Objects, Places

__all__ = ["Zip"]

_LOCAL_HEADER = 30  # bytes before the name, 4.3.7
_DESCRIBED_LATER = 8  # the flag of an entry with more bytes behind it, 4.4.4
_LONG = 20  # bytes that Python and others add to a header for sizes of 64 bits
_TIMES = (4, 8)  # bytes by which the times of Info-ZIP are longer in an entry's own header than in the directory


class Zip(Places):
    """A store in a zip archive: one file, whose parts are stored as they are."""

    def __init__(self, source: LocalFile | RemoteFile) -> None:
        self.source: LocalFile | RemoteFile = source
        self.path: str = source.name
        self.remote: Remote | None = source.remote if isinstance(source, RemoteFile) else None
        self._archives: dict[int, ZipFile] = {}  # of a remote one, by process

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_archives": {}}

    @property
    def stamp(self) -> tuple[Any, ...]:
        if isinstance(self.source, RemoteFile):
            return self.source.stamp
        return stamp_of(self.source.path) if os.path.exists(self.source.path) else ()

    @property
    def size(self) -> int:
        return self.source.size

    def bytes_below(self, folder: str) -> int:
        return sum(entry.compress_size for name, entry in self._entries.items() if name.startswith(f"{folder}/"))

    @property
    def is_zarr(self) -> bool:
        """Whether it holds a Zarr store."""
        return not self._entries.keys().isdisjoint(ROOTS)

    def content(self, key: str) -> bytes | None:
        """All bytes of an object; None if it is not there."""
        entry = self._entries.get(key)
        return None if entry is None else self._archive.read(entry)

    def names(self, folder: str) -> list[str]:
        """What the objects and folders in a folder are called there."""
        begin = f"{folder}/" if folder else ""
        found = {key[len(begin) :].partition("/")[0] for key in self._entries if key.startswith(begin)}
        return sorted(found - {""})

    @property
    def _archive(self) -> ZipFile:
        process = os.getpid()
        if process not in self._archives:
            self._archives = {process: self._opened()}
        return self._archives[process]

    def _opened(self) -> ZipFile:
        try:
            return ZipFile(self.source.as_file() if isinstance(self.source, RemoteFile) else self.source.path)
        except BadZipFile as error:
            raise DamageError(f"{self.path} is a zip archive that cannot be read: {error}") from None

    @cached_property
    def _listed(self) -> list[ZipInfo]:
        if self.remote is not None:
            return self._archive.infolist()
        with self._opened() as archive:
            return archive.infolist()

    @cached_property
    def _entries(self) -> Mapping[str, ZipInfo]:
        return {entry.filename: entry for entry in self._listed}  # of two of one name, the last counts

    def find(self, folder: str, keys: Sequence[str]) -> Objects:
        entries = [self._entries.get(f"{folder}/{key}") for key in keys]
        packed = any(one is not None and (one.compress_type != ZIP_STORED or one.flag_bits & 1) for one in entries)
        sizes = np.array([-1 if entry is None else entry.file_size for entry in entries], np.int64)
        offsets, there = np.zeros(len(keys), np.int64), np.flatnonzero(sizes >= 0)
        if not packed:
            offsets[there] = self._begins([entry for entry in entries if entry is not None])
        reason = "compressed once more by the zip archive" if packed else ""
        return Objects((self.source,), np.zeros(len(keys), np.int32), offsets, sizes, reason)

    def _begins(self, entries: Sequence[ZipInfo]) -> list[int]:
        """Where the bytes of entries begin."""
        if self.remote is None:
            return list(map(self._begin, entries))
        with ThreadPoolExecutor(self.remote.requests) as threads:
            return list(threads.map(self._begin_from_afar, entries))

    def _begin(self, entry: ZipInfo) -> int:
        """Behind a header of its own, whose length may differ from the archive's."""
        header = self.source.opened().read(entry.header_offset, _LOCAL_HEADER)
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
            raise DamageError(f"{self.path}: {entry.filename} does not begin where the archive says")
        name, extra = struct.unpack_from("<HH", header, 26)
        return int(entry.header_offset) + _LOCAL_HEADER + int(name) + int(extra)

    def _begin_from_afar(self, entry: ZipInfo) -> int:
        """As `_begin`, without a request where the place of the next entry leaves no doubt how long the header is."""
        begin = self._ends.get(entry.header_offset, 0) - entry.compress_size
        added = begin - entry.header_offset - _LOCAL_HEADER - len(entry.orig_filename.encode())
        told = len(entry.extra)
        usual = {0, told, _LONG, told + _LONG, *(told + longer for longer in _TIMES if told)}
        return begin if added in usual and not entry.flag_bits & _DESCRIBED_LATER else self._begin(entry)

    @cached_property
    def _ends(self) -> Mapping[int, int]:
        """Where the next entry begins, or the archive's directory, by where an entry does."""
        begins = sorted({entry.header_offset for entry in self._listed})
        return dict(pairwise([*begins, self._archive.start_dir]))
