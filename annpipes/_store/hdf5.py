"""An HDF5 file that each process opens for itself."""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from annpipes._store.refusals import refuse_path
from annpipes.errors import AnnpipesError, DamageError, SourceError

__all__ = ["FileBytes", "Hdf5File"]


class Hdf5File:
    """A path, and what was open of it in this process alone.

    HDF5 has the file open only within `open`, so nothing of it crosses a fork or keeps others
    from writing the file anew; h5py itself holds its lock through a fork. Plain bytes stay
    open. A file whose size or time of change differs from when it was first seen is refused.
    """

    def __init__(self, path: str) -> None:
        self.path = path  # as given, for messages
        self.absolute = os.path.abspath(path)
        refuse_path(path)
        self.stamp = _stamp(path)
        self._bytes: dict[int, FileBytes] = {}  # by process

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_bytes": {}}

    @contextmanager
    def open(self) -> Iterator[h5py.File]:
        """The file open in HDF5 until the block ends."""
        with self.reading("") as opened:
            yield opened

    @contextmanager
    def reading(self, field: str) -> Iterator[h5py.File]:
        """As `open`; whatever fails in HDF5 is raised as damage to this field."""
        self.check_unchanged()
        try:
            with h5py.File(self.absolute, "r") as opened:
                yield opened
        except AnnpipesError:
            raise
        except Exception as error:  # h5py and anndata raise whatever damage leads them to
            what = f"{field} of {self.path}" if field else self.path
            raise DamageError(f"{what} cannot be read: {error}") from error

    def bytes(self) -> FileBytes:
        """The file's bytes, to be read by any thread without HDF5."""
        self.check_unchanged()
        process = os.getpid()
        opened = self._bytes.get(process)
        if opened is None:  # or let go of by another thread
            opened = FileBytes(self.absolute)
            self._bytes = {process: opened}
        return opened

    def close(self) -> None:
        """Let go of the file's bytes; whoever reads them right now keeps them open until then."""
        self._bytes = {}

    def check_unchanged(self) -> None:
        """Refuse a file that is no longer the one that was first seen."""
        try:
            unchanged = _stamp(self.absolute) == self.stamp
        except FileNotFoundError:
            raise SourceError(f"{self.path!r} is gone since it was first opened") from None
        if not unchanged:
            raise DamageError(f"{self.path} changed since it was first opened; make the source anew")


class FileBytes:
    """A file open for plain reading; closed when its last user lets go of it.

    Copying from a mapping is twice as fast as reading, once its pages have been touched; but
    they count as this process's memory, and giving them back costs more than was won. So a
    file is mapped only up to 2 GiB.
    """

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor).atexit = False
        small = os.fstat(self.descriptor).st_size <= _MAPPED_BYTES
        self._mapping = mmap.mmap(self.descriptor, 0, prot=mmap.PROT_READ) if small else None

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``, or fewer where the file ends."""
        return os.pread(self.descriptor, size, offset)

    def mapped(self) -> NDArray[np.uint8] | None:
        """All bytes, mapped into memory; None for a large file."""
        return None if self._mapping is None else np.frombuffer(self._mapping, np.uint8)

    def cached(self, offsets: NDArray[np.int64]) -> bool:
        """Whether the bytes at these places are in the page cache, judged by a few of them."""
        if not hasattr(os, "RWF_NOWAIT"):
            return True
        probes = min(_PROBES, 2 + len(offsets) // _ROWS_PER_PROBE)
        for offset in offsets[:: len(offsets) // probes + 1].tolist():
            try:
                os.preadv(self.descriptor, [bytearray(1)], offset, os.RWF_NOWAIT)
            except BlockingIOError:
                return False
            except OSError:  # a file system that cannot tell
                return True
        return True


_PROBES, _ROWS_PER_PROBE = 16, 1024
_MAPPED_BYTES = 2 << 30


def _stamp(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns
