"""How much more a cache may take, over all processes that use its folder."""

from __future__ import annotations

import os
import shutil
import threading
from collections import deque
from functools import lru_cache

from annpipes.messages.warning import warn
from annpipes.stores.caching.settings import Cache

__all__ = ["Budget", "budget_of", "bytes_on_disk"]

_STEP = 64 << 20
_SHARE = 8  # of what is left, that a process takes at once: near the end, all of them take little
_BLOCK = 512  # bytes in POSIX' st_blocks
_FREE = 10  # a tenth of what is free is left to others


class Budget:
    """Bytes that one process may still add to a folder.

    The files are counted anew each time that a process has used up its part. No count is stored in the folder, so none
    can be wrong after a process was killed. Several processes may exceed the size by the parts they have taken.

    Parameters
    ----------
    cache
        The folder and its size.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.full: bool = False
        self._left, self._expected = 0, 0  # what is on the disk once all is written that was granted
        self._unused: deque[int] = deque()  # what was granted, but not written; its methods are atomic
        self._stopped = False
        self._lock = threading.Lock()

    def take(self, count: int, size: int) -> int:
        """How many of ``count`` storage chunks of ``size`` bytes may be added."""
        with self._lock:
            self._take_back()
            if self.full:
                return 0
            if self._left < count * size:
                room = self._room()
                self._left = min(room, max(count * size, min(_STEP, room // _SHARE)))
                self.full = self._left < size
            granted = min(count, self._left // size)
            self._left -= granted * size
            self._expected += granted * size
        if granted < count and self.cache.limit is None:  # who gave no size does not expect a limit
            self.full = False
            self.stop("it has used nine tenths of the free disk space (size= allows more)")
        return granted

    def give_back(self, count: int, size: int) -> None:
        """So many storage chunks of ``size`` bytes were granted, and not added; without a lock, as finalizers may."""
        self._unused.append(count * size)

    def _take_back(self) -> None:
        while self._unused:
            unused = self._unused.popleft()
            self._left, self._expected = self._left + unused, self._expected - unused
            self.full = self._stopped

    def stop(self, reason: str) -> None:
        """Add nothing more in this process, and say so once."""
        with self._lock:
            before, self.full, self._stopped = self.full, True, True
        if not before:
            warn(f"this process caches nothing more in {self.cache.folder}: {reason}; reading continues without it")

    def _room(self) -> int:
        found, limit = bytes_on_disk(self.cache.path), self.cache.limit
        if limit is None:
            try:
                free = shutil.disk_usage(self.cache.path).free
            except OSError:  # removed
                return 0
            limit = (found + free) * (_FREE - 1) // _FREE
        self._expected = max(self._expected, found)
        return max(0, limit - self._expected)


def budget_of(cache: Cache) -> Budget:
    """The budget of a folder in this process; a new one if the folder was replaced.

    Raises
    ------
    OSError
        The folder is gone.
    """
    return _budget_in(os.getpid(), cache, os.stat(cache.path).st_ino)


@lru_cache(64)
def _budget_in(process: int, cache: Cache, inode: int) -> Budget:
    return Budget(cache)


def bytes_on_disk(path: str) -> int:
    """What all files in a folder take on the disk: holes take nothing."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_blocks * _BLOCK
            except FileNotFoundError:  # removed this very moment
                continue
    return total
