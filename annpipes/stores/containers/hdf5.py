"""An HDF5 file that each process opens for itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py

from annpipes.errors import AnnpipesError, ChangedError, DamageError, SourceError
from annpipes.stores.bytes.local import FileBytes, busy, shared_lock, stamp_of
from annpipes.stores.refusals import refuse_path

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
        self.stamp = stamp_of(path)
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
        except (AnnpipesError, Warning):  # a warning, of an old format, say, that the caller has made an error
            raise
        except BlockingIOError as error:
            raise busy(self.path) from error
        except Exception as error:  # h5py and anndata raise whatever damage leads them to
            self.check_unchanged()
            what = f"{field} of {self.path}" if field else self.path
            raise DamageError(f"{what} cannot be read: {error}") from error
        self.check_unchanged()

    @contextmanager
    def steady(self) -> Iterator[None]:
        """A block in which the file's bytes are read: they are those of the file as it was first seen, or it raises.

        HDF5's writers are kept out by the lock that it takes itself. Others, and those that cut a file off before they
        ask for the lock (https://github.com/h5py/h5py/issues/1864), show when the block ends.
        """
        self.check_unchanged()
        with shared_lock(self.absolute, self.path):
            before = self._bytes.get(os.getpid())
            try:
                yield
            except Exception:
                self.check_unchanged()  # which explains whatever was found
                raise
            self.check_unchanged()
            if any(opened is not None and opened.lost for opened in (before, self._bytes.get(os.getpid()))):
                raise DamageError(f"{self.path}: the disk could not deliver some of it")

    def bytes(self) -> FileBytes:
        """The file's bytes, to be read by any thread without HDF5, within a `steady` block that compares the stamp."""
        process = os.getpid()
        opened = self._bytes.get(process)
        if opened is None:  # or let go of by another thread
            self.check_unchanged()
            opened = FileBytes(self.absolute)
            self._bytes = {process: opened}
        return opened

    def close(self) -> None:
        """Let go of the file's bytes; whoever reads them right now keeps them open until then."""
        self._bytes = {}

    def check_unchanged(self) -> None:
        """Refuse a file that is no longer the one that was first seen."""
        try:
            unchanged = stamp_of(self.absolute) == self.stamp
        except FileNotFoundError:
            raise SourceError(f"{self.path!r} is gone since it was first opened") from None
        if not unchanged:
            raise ChangedError(f"{self.path} changed since it was first opened; make the source anew")
