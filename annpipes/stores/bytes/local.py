"""A local file: its bytes, whether it is still the same, and the lock that keeps HDF5's writers out."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from h5py import h5f
from numpy.typing import NDArray

from annpipes.errors import BusyError, ChangedError, DamageError, SourceError
from annpipes.stores.bytes.mapping import Mapping, can_map
from annpipes.stores.bytes.protocol import read_each, unchanged_after
from annpipes.stores.bytes.remote import refuse_remote
from annpipes.stores.compiled.kernels import Bytes, Offsets, read_pieces

try:
    import fcntl
except ImportError:  # Windows, where an open file is closed to others anyway
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "FileBytes",
    "LocalFile",
    "busy",
    "bytes_of",
    "exclusive",
    "files_below",
    "shared_lock",
    "stamp_of",
]

_PROBES, _ROWS_PER_PROBE = 16, 1024
_MAPPED_BYTES = 2 << 30


class LocalFile:
    """A path, and the bytes that are open of it in this process alone.

    A file whose size or time of change differs from when it was first seen is refused.
    """

    distant = False

    def __init__(self, path: str) -> None:
        self.name = path  # as given
        self.path: str = os.path.abspath(path)
        self.stamp: tuple[int, int] = stamp_of(self.path)
        self._opened: dict[int, FileBytes] = {}  # by process

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": {}}

    @property
    def size(self) -> int:
        """The file's size when it was first seen."""
        return self.stamp[0]

    @contextmanager
    def steady(self) -> Iterator[None]:
        """A block in which the file's bytes are read: they are those of the file as it was first seen, or it raises.

        HDF5's writers are kept out by the lock that it takes itself. Others, and those that cut a file off before they
        ask for the lock (https://github.com/h5py/h5py/issues/1864), show when the block ends.
        """
        self.check_unchanged()
        with shared_lock(self.path, self.name):
            before = self._opened.get(os.getpid())
            with unchanged_after(self.check_unchanged):
                yield
            if any(opened is not None and opened.lost for opened in (before, self._opened.get(os.getpid()))):
                raise DamageError(f"{self.name}: the disk could not read part of it")

    def opened(self) -> FileBytes:
        """The file's bytes, to be read by any thread within a `steady` block, which compares the stamp."""
        process = os.getpid()
        opened = self._opened.get(process)
        if opened is None:  # or released by another thread
            self.check_unchanged()
            opened = FileBytes(self.path)
            self._opened = {process: opened}
        return opened

    def look(self, offsets: Offsets) -> None:
        """Nothing: a block of `steady` tells."""

    def close(self) -> None:
        """Release the file's bytes; they stay open for a read under way."""
        self._opened = {}

    def check_unchanged(self) -> None:
        """Refuse a file that is no longer the one that was first seen."""
        try:
            unchanged = stamp_of(self.path) == self.stamp
        except FileNotFoundError:
            raise SourceError(f"{self.name!r} has been removed since it was first opened") from None
        if not unchanged:
            raise ChangedError(f"{self.name} changed since it was first opened; make the source again")


class FileBytes:
    """A file open for plain reading; closed when its last user lets go of it.

    Copying from a mapping is twice as fast as reading, once its pages have been touched; but
    they count as this process's memory, and giving them back costs more than was won. So a
    file is mapped only up to 2 GiB, and only where a mapping can be guarded.
    """

    requesting = None

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor: int = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # which Windows needs
        weakref.finalize(self, os.close, self.descriptor).atexit = False
        self._mapping = self._map() if 0 < os.fstat(self.descriptor).st_size <= _MAPPED_BYTES else None

    def _map(self) -> Mapping | None:
        try:
            return Mapping(self.descriptor) if can_map() else None
        except (OSError, ValueError):  # a file system without mappings; or a file that was emptied this very moment
            return None

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``, or fewer where the file ends."""
        if hasattr(os, "pread"):
            return os.pread(self.descriptor, size, offset)
        with open(self.path, "rb", buffering=0) as file:  # a position of its own: others read at the same time
            file.seek(offset)
            return file.read(size)

    def read_ranges(self, froms: Offsets, tos: Offsets, lengths: Offsets, start: int, stop: int, out: Bytes) -> int:
        """As `OpenBytes.read_ranges`."""
        if hasattr(os, "pread"):
            failed: int = read_pieces(self.descriptor, froms, tos, lengths, start, stop, out)
            return failed
        return read_each(self, froms, tos, lengths, start, stop, out)

    def mapped(self) -> NDArray[np.uint8] | None:
        """All bytes, mapped into memory; None for a large file. What was read holds if `lost` is false afterwards."""
        return self._mapping.bytes() if self._mapping is not None and can_map() else None

    @property
    def lost(self) -> bool:
        """Whether pages of the mapping were gone, and zeros were read in their place."""
        return self._mapping is not None and self._mapping.lost

    def cached(self, offsets: NDArray[np.int64]) -> bool:
        """Whether the bytes at these places are in the page cache, judged by a few of them."""
        if not (hasattr(os, "preadv") and hasattr(os, "RWF_NOWAIT")):
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


def files_below(path: str | os.PathLike[str]) -> list[str]:
    """The files that a path stands for: itself, or all in a folder and the folders in it, sorted."""
    refuse_remote(path)
    if not os.path.isdir(path):
        return [os.fspath(path)]
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)


def bytes_of(path: str | os.PathLike[str]) -> int:
    """How many bytes a file, or all files in a folder, have."""
    return sum(map(os.path.getsize, files_below(path)))


def stamp_of(path: str) -> tuple[int, int]:
    """Size and time of change, which change when somebody writes to a file."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


@contextmanager
def shared_lock(path: str, name: str) -> Iterator[None]:
    """Nobody opens the file for writing by HDF5 until the block ends; `BusyError` if somebody has.

    It is the lock that HDF5 itself takes for reading. As in HDF5, there is none where the file system has no locks or
    ``HDF5_USE_FILE_LOCKING`` turns them off. The descriptor is its own: others may lock and unlock theirs.
    """
    if fcntl is None or os.environ.get("HDF5_USE_FILE_LOCKING", "").upper() in ("FALSE", "0"):
        yield
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # gone this very moment, which the stamp will tell
        yield
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if not _open_here(path):  # as by anndata.read_h5ad(…, backed="r+"), whose owner is the caller
                raise busy(name) from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


def _open_here(path: str) -> bool:
    """Whether this process itself has the file open in HDF5."""
    opened = (os.fsdecode(h5f.get_name(found)) for found in h5f.get_obj_ids(types=h5f.OBJ_FILE))
    return any(os.path.exists(name) and os.path.samefile(name, path) for name in opened)


def busy(name: str) -> BusyError:
    """The error that says that a file is open for writing elsewhere."""
    return BusyError(
        f"{name} is open for writing in another process: close it there first (or set HDF5_USE_FILE_LOCKING=FALSE "
        f"if you know that nobody writes to it)"
    )


def exclusive(file: Any) -> bool:
    """Whether nobody else holds this open file, which then is held until it is closed; yes where there are no locks."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
