"""Where the objects of a Zarr store lie: as files in a folder, or in one zip archive."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from annpipes.stores.bytes.files import FileSequence
from annpipes.stores.bytes.local import LocalFile, stamp_of
from annpipes.stores.bytes.protocol import ByteSource
from annpipes.stores.bytes.remote import Remote
from annpipes.stores.compiled.kernels import Offsets
from annpipes.stores.refusals import HDF5_SIGNATURE

__all__ = ["METADATA", "ROOTS", "Folder", "Objects", "Places", "is_zarr"]

_OPEN_FILES = 64  # of one array: compiled loops read what is open, and a process may open about a thousand
ROOTS = ("zarr.json", ".zgroup", ".zarray")
"""One of these stands in each group or array."""

METADATA = (*ROOTS, ".zattrs", ".zmetadata")
"""All that says something of a group or array, and is no data."""


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
    remote: Remote | None = None
    """The address that it was given by, and how that is reached; None on this machine."""
    listed: bool = True
    """Whether all objects of a folder can be known without asking for each."""

    @property
    @abstractmethod
    def stamp(self) -> tuple[Any, ...]:
        """What changes when somebody writes the store anew."""

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
        self.path: str = path
        self.absolute: str = os.path.abspath(path)

    @property
    def stamp(self) -> tuple[Any, ...]:
        paths = [os.path.join(self.absolute, name) for name in METADATA]
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


def is_zarr(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a Zarr store or a group in one: a folder, or a zip archive, that says so."""
    if os.path.isdir(path):
        return any(os.path.exists(os.path.join(path, name)) for name in ROOTS)
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        if file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE:  # whose end is not to be searched for that of an archive
            return False
    try:
        with ZipFile(path) as archive:
            return not set(ROOTS).isdisjoint(archive.namelist())
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
