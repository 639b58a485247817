"""An HDF5 file that each process opens for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import h5py

from annpipes.errors import AnnpipesError, DamageError
from annpipes.stores.bytes.local import LocalFile, busy
from annpipes.stores.refusals import refuse_path

__all__ = ["Hdf5File"]


class Hdf5File:
    """A file that HDF5 has open only within `open`.

    So nothing of it crosses a fork or keeps others from writing the file anew; h5py itself holds its lock
    through a fork. Plain bytes stay open, in ``source``, which refuses a file that changed since it was first seen.
    """

    def __init__(self, path: str) -> None:
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

    @contextmanager
    def open(self) -> Iterator[h5py.File]:
        """The file open in HDF5 until the block ends."""
        with self.reading("") as opened:
            yield opened

    @contextmanager
    def reading(self, field: str) -> Iterator[h5py.File]:
        """As `open`; whatever fails in HDF5 is raised as damage to this field."""
        self.source.check_unchanged()
        try:
            with h5py.File(self.absolute, "r") as opened:
                yield opened
        except (AnnpipesError, Warning):  # a warning, of an old format, say, that the caller has made an error
            raise
        except BlockingIOError as error:
            raise busy(self.path) from error
        except Exception as error:  # h5py and anndata raise whatever damage leads them to
            self.source.check_unchanged()
            what = f"{field} of {self.path}" if field else self.path
            raise DamageError(f"{what} cannot be read: {error}") from error
        self.source.check_unchanged()
