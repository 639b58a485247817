"""An HDF5 file that each process opens for itself."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import h5py
from numpy.typing import NDArray

from annpipes.errors import DamageError, FormatError, SourceError

__all__ = ["Hdf5File"]


class Hdf5File:
    """A path, and a handle that never leaves the process and the fork it was opened in.

    The file is opened at the first use and stays open. Before a fork every handle is closed,
    and no thread can be reading meanwhile; a pickle carries the path alone. A file whose
    size or time of change differs from when it was first seen is refused.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        if not os.path.exists(path):
            raise SourceError(f"no file {path!r}")
        if os.path.isdir(path):
            raise FormatError(
                f"{path!r} is a directory; annpipes reads .h5ad files (a Zarr store can be written as one)"
            )
        if not h5py.is_hdf5(path):
            raise FormatError(f"{path!r} is not an HDF5 file")
        self.stamp = _stamp(path)
        self._start()

    def _start(self) -> None:
        self._handle: h5py.File | None = None
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "stamp": self.stamp}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    @contextmanager
    def open(self) -> Iterator[h5py.File]:
        """The open file, for this thread alone until the block ends."""
        with self._lock:
            if self._handle is None:
                if _stamp(self.path) != self.stamp:
                    raise DamageError(f"{self.path} changed since it was first opened; make the source anew")
                self._handle = h5py.File(self.path, "r")
                _Forks.watch(self)
            yield self._handle

    @contextmanager
    def reading(self, field: str, rows: NDArray[Any] | None = None) -> Iterator[h5py.File]:
        """As `open`; whatever fails inside is raised as damage to these rows of this field."""
        with self.open() as handle:
            try:
                yield handle
            except (OSError, RuntimeError, KeyError) as error:
                span = "" if rows is None or not len(rows) else f", rows {rows[0]} … {rows[-1]}"
                raise DamageError(f"cannot read {field} of {self.path}{span}: {error}") from error

    def close(self) -> None:
        """Close the handle; the next use opens the file again."""
        with self._lock:
            if self._handle is not None:
                self._handle.close()
                self._handle = None


class _Forks:
    """Closes open files before the process forks, and holds their locks until it has."""

    files: ClassVar[weakref.WeakSet[Hdf5File]] = weakref.WeakSet()
    held: ClassVar[list[Hdf5File]] = []
    registered = False

    @classmethod
    def watch(cls, file: Hdf5File) -> None:
        if not cls.registered:
            os.register_at_fork(before=cls.before, after_in_parent=cls.in_parent, after_in_child=cls.in_child)
            cls.registered = True
        cls.files.add(file)

    @classmethod
    def before(cls) -> None:
        cls.held = sorted(cls.files, key=id)
        for file in cls.held:
            file._lock.acquire()
            file.close()

    @classmethod
    def in_parent(cls) -> None:
        for file in cls.held:
            file._lock.release()
        cls.held = []

    @classmethod
    def in_child(cls) -> None:
        for file in cls.held:
            file._start()
        cls.held = []


def _stamp(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns
