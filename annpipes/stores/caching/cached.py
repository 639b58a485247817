"""What is kept of one array, and what this process knows of it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import ChangedError, DamageError
from annpipes.messages.warning import warn
from annpipes.plans.rows import RowArray
from annpipes.stores.caching.budgets import Budget, budget_of
from annpipes.stores.caching.files import About, Files, files_at, prepare, remove
from annpipes.stores.caching.loops import ENTRY_BYTES, KEEP, LEAVE, RECALL, Shelf, checksum_address, entry_of
from annpipes.stores.caching.settings import Cache
from annpipes.stores.compiled.kernels import Bytes, Offsets

__all__ = ["CachedArray", "OpenCache"]


class _Known:
    """What one process knows of an array: where it is kept, and which storage chunks were found to be right."""

    def __init__(self, folder: str, inode: int, budget: Budget, count: int) -> None:
        self.folder: str = folder
        self.inode: int = inode
        self.budget: Budget = budget
        self.verified: NDArray[np.uint8] = np.zeros(count, np.uint8)
        self.failed: NDArray[np.uint8] = np.zeros(1, np.uint8)

    @classmethod
    def of(cls, cache: Cache, about: About) -> _Known:
        """What this process knows; all who read the array at the same time share it."""
        folder = prepare(cache.path, about)
        inode = os.stat(os.path.join(folder, "data")).st_ino
        new = cls(folder, inode, budget_of(cache), about.storage_chunks)
        return _known.setdefault((os.getpid(), cache, folder, inode), new)


_known: WeakValueDictionary[tuple[int, Cache, str, int], _Known] = WeakValueDictionary()


class CachedArray:
    """The decoded storage chunks of one array in a cache.

    Parameters
    ----------
    cache
        The folder.
    about
        What the array is.
    """

    def __init__(self, cache: Cache, about: About) -> None:
        self.cache: Cache = cache
        self.about: About = about
        self._known: dict[int, _Known | None] = {}  # by process

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_known": {}}

    def opened(self) -> OpenCache | None:
        """The files, to be used within a `steady` block; None if this process cannot use them."""
        process = os.getpid()
        try:
            if process not in self._known:
                self._known = {process: _Known.of(self.cache, self.about)}
            known = self._known[process]
            return None if known is None else OpenCache(self, known, files_at(process, known.folder, known.inode))
        except OSError as error:  # the folder was removed, or the disk is full
            self._known = {process: None}
            warn(f"{self.about.array} of {self.about.source} is not cached in {self.cache.folder}: {error}")
            return None

    def forget(self) -> None:
        """Remove what is kept, and keep nothing more."""
        known = self._known.get(os.getpid())
        self._known = {os.getpid(): None}
        if known is not None:
            remove(known.folder)


class OpenCache:
    """The files of one array, open for one read."""

    def __init__(self, array: CachedArray, known: _Known, files: Files) -> None:
        self.array: CachedArray = array
        self.known: _Known = known
        self.files: Files = files
        self.size: int = array.about.chunk_bytes
        self.budget: Budget = known.budget

    def verified(self, numbers: RowArray) -> NDArray[np.bool_]:
        """Which of these storage chunks are there, and were found to be right."""
        return self.known.verified[numbers].view(np.bool_)

    def there(self, numbers: RowArray) -> NDArray[np.bool_]:
        """Which of these storage chunks are there, right or not."""
        return self._entries(numbers).astype(np.bool_)

    def shelf(self, numbers: RowArray) -> Shelf | None:
        """What becomes of these storage chunks in a compiled loop; None if none can take part."""
        if not (checksum := checksum_address()):
            return None
        entries = self._entries(numbers)
        absent = np.flatnonzero(entries == 0)
        modes = np.full(len(numbers), RECALL, np.uint8)
        modes[absent] = LEAVE
        granted = absent[: self.budget.take(len(absent), self.size)]
        modes[granted] = KEEP
        if len(granted):
            weakref.finalize(modes, _give_back, self.budget, entries, granted, self.size).atexit = False
        descriptors = self.files.data.descriptor, self.files.data_writer, self.files.table_writer
        return Shelf(*descriptors, checksum, numbers, modes, entries, self.known.verified, self.known.failed)

    def recall(self, number: int) -> Bytes | None:
        """A storage chunk, if it is there as it was written."""
        entry = int(self._entries(np.array([number]))[0])
        if entry == 0:
            return None
        decoded = np.frombuffer(self.files.data.read(number * self.size, self.size), np.uint8)
        if len(decoded) < self.size or entry_of(decoded) != entry:
            return None
        self.known.verified[number] = 1
        return decoded

    def keep(self, number: int, decoded: Bytes) -> None:
        """Write a storage chunk, and then its entry, if there is room."""
        if self.verified(np.array([number]))[0] or not self.budget.take(1, self.size):
            return
        entry = np.array([entry_of(decoded)], np.int64)
        try:
            _write(self.files.data_writer, decoded.data, number * self.size)
            _write(self.files.table_writer, entry.view(np.uint8).data, number * ENTRY_BYTES)
        except OSError as error:
            self.budget.stop(str(error))
        else:
            self.known.verified[number] = 1

    @contextmanager
    def steady(self) -> Iterator[None]:
        """A block in which storage chunks are read and written; it lies around those of the source."""
        try:
            yield
        except ChangedError:  # what was written since then may be of the new bytes
            self.array.forget()
            raise
        except DamageError as error:
            self._check(error)
            raise
        self._check(None)
        if self.known.failed[0]:
            self.known.failed[0] = 0
            self.budget.stop("its files cannot be written, as when the disk is full")

    def _check(self, cause: Exception | None) -> None:
        """Refuse what was read if somebody has cut the data off."""
        expected = self.array.about.storage_chunks * self.size
        if self.files.data.lost or self.files.data_bytes != expected:
            self.array.forget()
            raise DamageError(
                f"the cache in {self.array.cache.folder} was damaged while it was read: remove it and start again"
            ) from cause

    def _entries(self, numbers: RowArray) -> Offsets:
        """What the table has of these storage chunks now."""
        mapped = self.files.table.mapped()
        if mapped is not None:  # if somebody cuts the table off, it has zeros
            entries: Offsets = mapped.view(np.int64)[numbers]
            return entries
        entries = np.zeros(len(numbers), np.int64)
        places, size = np.arange(len(numbers)) * ENTRY_BYTES, np.full(len(numbers), ENTRY_BYTES)
        failed = self.files.table.read_ranges(
            numbers * ENTRY_BYTES, places, size, 0, len(numbers), entries.view(np.uint8)
        )
        return entries if failed < 0 else np.zeros(len(numbers), np.int64)


def _give_back(budget: Budget, entries: Offsets, granted: Offsets, size: int) -> None:
    """Give back the share of a finished read for storage chunks that it did not keep, because it was left or failed."""
    if unused := int((entries[granted] == 0).sum()):
        budget.give_back(unused, size)


def _write(descriptor: int, content: memoryview, offset: int) -> None:
    done = 0
    while done < len(content):
        done += os.pwrite(descriptor, content[done:], offset + done)
