"""Many local files as one source of bytes: for arrays that have a file for each storage chunk."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import ChangedError, SourceError
from annpipes.stores.bytes.protocol import read_each
from annpipes.stores.compiled.kernels import Bytes, Offsets

__all__ = ["FileSequence"]

_LOOK_SECONDS = 1.0


class FileSequence:
    """Files one after the other, each open only while it is read: there may be more than a process can open.

    A file whose size or time of change differs from when it was first seen is refused when it is read, and by `look`.

    Parameters
    ----------
    folder, names
        Where they are, and what they are called there.
    stamps
        Size and time of change of each when it was first seen; int64 ``(files, 2)``.
    """

    descriptor = None
    distant = False
    requesting = None

    def __init__(self, folder: str, names: Sequence[str], stamps: NDArray[np.int64]) -> None:
        self.name = folder  # as given
        self.folder: str = os.path.abspath(folder)
        self.names: tuple[str, ...] = tuple(names)
        self.stamps: NDArray[np.int64] = stamps

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_looked_at"}

    @cached_property
    def firsts(self) -> Offsets:
        """Where each file begins among the bytes of all, and the end of the last; ``(files + 1,)``."""
        return np.concatenate([[0], np.cumsum(self.stamps[:, 0])])

    @property
    def size(self) -> int:
        """Of all files together."""
        return int(self.firsts[-1])

    @property
    def stamp(self) -> tuple[Any, ...]:
        """Changes when a file does."""
        return tuple(self.stamps.ravel().tolist())

    def opened(self) -> FileSequence:
        """Itself: nothing stays open."""
        return self

    def steady(self) -> AbstractContextManager[None]:
        """A block that needs nothing: each read looks at its file."""
        return nullcontext()

    def close(self) -> None:
        """Nothing is open."""

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``, which lie in one file, or fewer where that ends."""
        number = int(np.searchsorted(self.firsts, offset, side="right")) - 1
        try:
            with open(os.path.join(self.folder, self.names[number]), "rb", buffering=0) as file:
                self._refuse_changed(number, os.fstat(file.fileno()))
                file.seek(offset - int(self.firsts[number]))
                return file.read(size) or b""
        except FileNotFoundError:
            raise SourceError(self._told(number, "has been removed")) from None

    def look(self, offsets: Offsets) -> None:
        """As `ByteSource.look`; at each file once a second at most, for there may be thousands."""
        numbers = np.unique(np.searchsorted(self.firsts, offsets, side="right") - 1)
        now = time.monotonic()
        for number in numbers[now - self._looked_at[numbers] > _LOOK_SECONDS].tolist():
            try:
                self._refuse_changed(number, os.stat(os.path.join(self.folder, self.names[number])))
            except FileNotFoundError:
                raise SourceError(self._told(number, "has been removed")) from None
            self._looked_at[number] = now

    @cached_property
    def _looked_at(self) -> NDArray[np.float64]:
        return np.full(len(self.names), -np.inf)  # in this process

    def _refuse_changed(self, number: int, status: os.stat_result) -> None:
        if (status.st_size, status.st_mtime_ns) != tuple(self.stamps[number].tolist()):
            raise ChangedError(self._told(number, "changed"))

    def _told(self, number: int, what: str) -> str:
        return f"{self.names[number]} of {self.name} {what} since it was first opened; make the source again"

    def read_ranges(self, froms: Offsets, tos: Offsets, lengths: Offsets, start: int, stop: int, out: Bytes) -> int:
        """As `OpenBytes.read_ranges`."""
        return read_each(self, froms, tos, lengths, start, stop, out)

    def mapped(self) -> None:
        """None: files are not mapped."""

    def cached(self, offsets: Offsets) -> bool:
        """No: so that several are read at once."""
        return False
