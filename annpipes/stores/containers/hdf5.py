"""An HDF5 file that each process opens for itself."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Literal

import h5py
from h5py._objects import phil
from numpy.typing import NDArray

from annpipes.errors import FormatError
from annpipes.stores.bytes.local import LocalFile, busy
from annpipes.stores.bytes.remote import refuse_remote
from annpipes.stores.bytes.remote_file import RemoteFile
from annpipes.stores.containers.base import PIECE, Container, StoredArray, as_damage
from annpipes.stores.containers.hdf5_tables import check_extent, layout_of, need_filters
from annpipes.stores.refusals import refuse_content, refuse_path

__all__ = ["Hdf5File"]

# A thread that is stopped at the end of the process while it has h5py's lock keeps it forever, and the last of h5py's
# objects waits for that lock when it is freed. So the process takes the lock before it stops its threads.
atexit.register(phil.acquire)


class Hdf5File(Container):
    """A file that HDF5 has open only within `open`.

    So nothing of it crosses a fork or keeps others from writing the file anew; h5py itself holds its lock
    through a fork. Plain bytes stay open, in ``source``, which refuses a file that changed since it was first seen.
    """

    library: ClassVar[Literal["h5py", "zarr"]] = "h5py"

    def __init__(self, path: str | RemoteFile) -> None:
        self.source: LocalFile | RemoteFile
        if isinstance(path, RemoteFile):
            self.source = path
            refuse_content(path.beginning, path.name)
        else:
            refuse_remote(path)
            refuse_path(path)
            self.source = LocalFile(path)

    @property
    def path(self) -> str:
        """As it was given, for messages."""
        return self.source.name

    @property
    def absolute(self) -> str:
        """The same, wherever the working directory is by now."""
        return self.source.path

    @property
    def remote(self) -> bool:
        return isinstance(self.source, RemoteFile)

    def in_hdf5(self) -> h5py.File:
        """The file, newly opened in HDF5 for reading; close it."""
        try:
            return h5py.File(self.absolute if isinstance(self.source, LocalFile) else self.source.as_file(), "r")
        except BlockingIOError as error:
            raise busy(self.path) from error

    @contextmanager
    def open(self) -> Iterator[h5py.File]:
        """The file open in HDF5 until the block ends."""
        with self.reading("") as opened:
            yield opened

    @contextmanager
    def reading(self, field: str) -> Iterator[h5py.File]:
        """As `open`; whatever fails in HDF5 is raised as damage to this field."""
        what = f"{field} of {self.path}" if field else self.path
        with as_damage(what, self.source.check_unchanged, before=not self.remote), self.in_hdf5() as opened:
            yield opened

    def array(self, path: str) -> StoredArray:
        with self.reading(path) as opened:
            dataset = opened[path]
            elsewhere = not self._holds(dataset)
            layout = "linked from another file" if elsewhere else layout_of(dataset, self.source)
            if isinstance(layout, str):
                check_extent(dataset, os.path.getsize(dataset.file.filename) if elsewhere else self.source.size)
                need_filters(dataset, f"{path} of {self.path}")
            step = dataset.chunks[0] if dataset.chunks else 1
            return StoredArray(dataset.shape, dataset.dtype.newbyteorder("="), step, layout)

    def _holds(self, dataset: h5py.Dataset) -> bool:
        name = dataset.file.filename
        if isinstance(self.source, RemoteFile):
            return str(name) == self.source.name_in_hdf5
        return os.path.samefile(name, self.absolute)

    def read(self, path: str, first: int, last: int) -> NDArray[Any]:
        with self.open() as opened:
            values: NDArray[Any] = opened[path][first:last]
        return values

    def numbers(self, path: str) -> Iterator[NDArray[Any]]:
        with self.reading(path) as opened:
            stored, where = opened[path], f"{path} of {self.path}"
            if not isinstance(stored, h5py.Dataset) or len(stored.shape) != 1 or stored.dtype.kind not in "iu":
                raise FormatError(f"{where} is not a one-dimensional array of integers")
            need_filters(stored, where)
            for first in range(0, len(stored), PIECE):
                yield stored[first : first + PIECE]

    def attribute(self, name: str) -> Any:
        with self.open() as opened:
            return opened.attrs.get(name)

    def steady(self) -> AbstractContextManager[None]:
        return self.source.steady()
