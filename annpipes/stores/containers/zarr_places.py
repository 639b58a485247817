"""Where the objects of a local Zarr store lie: as files in a folder, or in one zip archive."""

from __future__ import annotations

import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import DamageError
from annpipes.stores.bytes.files import FileSequence
from annpipes.stores.bytes.local import LocalFile, stamp_of
from annpipes.stores.bytes.protocol import ByteSource
from annpipes.stores.compiled.kernels import Offsets
from annpipes.stores.refusals import HDF5_SIGNATURE

__all__ = ["Folder", "Objects", "Places", "Zip", "is_zarr", "places_at"]

_OPEN_FILES = 64  # of one array: compiled loops read what is open, and a process may open about a thousand
_ROOTS = ("zarr.json", ".zgroup", ".zarray")  # one of them stands in each group or array
_LOCAL_HEADER = 30  # bytes before the name, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.7


@dataclass(frozen=True, eq=False)
class Objects:
    """Where some objects of a store lie.

    Parameters
    ----------
    sources
        What their bytes are read from.
    owners, offsets, sizes
        Of each object: in which source it lies, where it begins there, and its size, -1 if it is not there;
        shape ``(objects,)``.
    unreadable
        Why only zarr can read their bytes; "" if they can be read here.
    """

    sources: tuple[ByteSource, ...]
    owners: NDArray[np.int32]
    offsets: Offsets
    sizes: Offsets
    unreadable: str = ""

    def each(self, look: Callable[[int], Any]) -> list[Any]:
        """What is seen of each object, as many at once as requests may be under way."""
        costs = [cost for source in self.sources if (cost := source.opened().requesting) is not None]
        if not costs:
            return list(map(look, range(len(self.sizes))))
        with ThreadPoolExecutor(costs[0].at_once) as threads:
            return list(threads.map(look, range(len(self.sizes))))

    def read(self, number: int, first: int, size: int) -> Any:
        """``size`` bytes of an object from its byte ``first`` on."""
        source = self.sources[self.owners[number]]
        with source.steady():
            return source.opened().read(int(self.offsets[number]) + first, size)


class Places(ABC):
    """Where a store is, and its objects in it."""

    path: str
    """As it was given."""

    @property
    @abstractmethod
    def stamp(self) -> tuple[Any, ...]:
        """What differs once somebody has written the store anew."""

    @property
    @abstractmethod
    def size(self) -> int:
        """All bytes of it."""

    @abstractmethod
    def bytes_below(self, folder: str) -> int:
        """All bytes of what is in a folder of it."""

    @abstractmethod
    def find(self, folder: str, keys: Sequence[str]) -> Objects:
        """The objects of these keys below ``folder``."""


class Folder(Places):
    """A store whose objects are files."""

    def __init__(self, path: str) -> None:
        self.path, self.absolute = path, os.path.abspath(path)

    @property
    def stamp(self) -> tuple[Any, ...]:
        paths = [os.path.join(self.absolute, name) for name in (*_ROOTS, ".zattrs", ".zmetadata")]
        return tuple(stamp_of(path) if os.path.exists(path) else () for path in paths)

    @property
    def size(self) -> int:
        return self.bytes_below("")

    def bytes_below(self, folder: str) -> int:
        return sum(entry.stat().st_size for entry in _files(os.path.join(self.absolute, folder)))

    def find(self, folder: str, keys: Sequence[str]) -> Objects:
        top = os.path.join(self.absolute, folder)
        found = {entry.path[len(top) + 1 :].replace(os.sep, "/"): entry for entry in _files(top)}
        there = [number for number, key in enumerate(keys) if key in found]
        stamps = np.array([_stamp(found[keys[number]]) for number in there], np.int64).reshape(-1, 2)
        sizes = np.full(len(keys), -1, np.int64)
        sizes[there] = stamps[:, 0]
        owners, offsets = np.zeros(len(keys), np.int32), np.zeros(len(keys), np.int64)
        where = os.path.join(self.path, folder)
        if len(there) <= _OPEN_FILES:
            owners[there] = np.arange(len(there))
            return Objects(
                tuple(LocalFile(os.path.join(where, keys[number])) for number in there), owners, offsets, sizes
            )
        together = FileSequence(where, [keys[number] for number in there], stamps)
        offsets[there] = together.firsts[:-1]
        return Objects((together,), owners, offsets, sizes)


class Zip(Places):
    """A store in a zip archive: one file, whose parts are stored as they are."""

    def __init__(self, path: str) -> None:
        self.path, self.source = path, LocalFile(path)

    @property
    def stamp(self) -> tuple[Any, ...]:
        return stamp_of(self.source.path) if os.path.exists(self.source.path) else ()

    @property
    def size(self) -> int:
        return self.source.size

    def bytes_below(self, folder: str) -> int:
        return sum(entry.compress_size for name, entry in self._entries.items() if name.startswith(f"{folder}/"))

    @cached_property
    def _entries(self) -> Mapping[str, ZipInfo]:
        try:
            with ZipFile(self.source.path) as archive:
                return {entry.filename: entry for entry in archive.infolist()}  # of two of one name, the last counts
        except BadZipFile as error:
            raise DamageError(f"{self.path} is a zip archive that cannot be read: {error}") from None

    def find(self, folder: str, keys: Sequence[str]) -> Objects:
        entries = [self._entries.get(f"{folder}/{key}") for key in keys]
        packed = any(one is not None and (one.compress_type != ZIP_STORED or one.flag_bits & 1) for one in entries)
        sizes = np.array([-1 if entry is None else entry.file_size for entry in entries], np.int64)
        offsets = np.array([0 if entry is None else self._begin(entry) for entry in entries], np.int64)
        reason = "compressed once more by the zip archive" if packed else ""
        return Objects((self.source,), np.zeros(len(keys), np.int32), offsets, sizes, reason)

    def _begin(self, entry: ZipInfo) -> int:
        """Where the bytes of an entry begin: behind a header of its own, whose length may differ from the archive's."""
        header = self.source.opened().read(entry.header_offset, _LOCAL_HEADER)
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
            raise DamageError(f"{self.path}: {entry.filename} does not begin where the archive says")
        name, extra = struct.unpack_from("<HH", header, 26)
        return int(entry.header_offset) + _LOCAL_HEADER + int(name) + int(extra)


def places_at(path: str) -> Places:
    """The places of the store at ``path``, a folder or a zip archive."""
    return Folder(path) if os.path.isdir(path) else Zip(path)


def is_zarr(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a Zarr store or a group in one: a folder, or a zip archive, that says so."""
    if os.path.isdir(path):
        return any(os.path.exists(os.path.join(path, name)) for name in _ROOTS)
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        if file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE:  # whose end is not to be searched for that of an archive
            return False
    try:
        with ZipFile(path) as archive:
            return not set(_ROOTS).isdisjoint(archive.namelist())
    except BadZipFile:
        return False


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int]:
    status = entry.stat()
    return status.st_size, status.st_mtime_ns


def _files(top: str) -> list[os.DirEntry[str]]:
    """All files in a folder and those in it; none if it is not there."""
    found, waiting = list[os.DirEntry[str]](), [top]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir():
                        waiting.append(entry.path)
                    else:
                        found.append(entry)
        except (FileNotFoundError, NotADirectoryError):
            continue
    return found
