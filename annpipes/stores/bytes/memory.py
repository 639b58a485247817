"""The bytes of an array in memory."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.stores.bytes.protocol import read_each
from annpipes.stores.compiled.kernels import Bytes, Offsets

__all__ = ["MemoryBytes"]


class MemoryBytes:
    r"""An array whose elements stand one after the other: open at all times, and mapped by nature.

    >>> MemoryBytes(np.array([1, 2], "<i2")).read(2, 2).tobytes()
    b'\x02\x00'
    """

    descriptor = None
    distant = False
    requesting = None
    stamp: tuple[Any, ...] = ()  # who replaces arrays is watched elsewhere

    def __init__(self, values: NDArray[Any], name: str = "memory") -> None:
        assert values.flags.c_contiguous
        self.values: NDArray[Any] = values
        self.name: str = name

    @property
    def size(self) -> int:
        """How many bytes."""
        return self.values.nbytes

    def opened(self) -> MemoryBytes:
        """Itself."""
        return self

    def steady(self) -> AbstractContextManager[None]:
        """A block that needs nothing."""
        return nullcontext()

    def close(self) -> None:
        """Nothing is open."""

    def mapped(self) -> Bytes:
        """The bytes."""
        octets: Bytes = self.values.reshape(-1).view(np.uint8)
        return octets

    def read(self, offset: int, size: int) -> Bytes:
        """A view of ``size`` bytes from ``offset``."""
        return self.mapped()[offset : offset + size]

    def read_ranges(self, froms: Offsets, tos: Offsets, lengths: Offsets, start: int, stop: int, out: Bytes) -> int:
        """As `OpenBytes.read_ranges`."""
        return read_each(self, froms, tos, lengths, start, stop, out)

    def look(self, offsets: Offsets) -> None:
        """Nothing."""

    def cached(self, offsets: Offsets) -> bool:
        """Yes."""
        return True
