"""What bytes can be read from, whatever holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np

from annpipes.stores.bytes.merging import Requesting
from annpipes.stores.compiled.kernels import Bytes, Offsets

__all__ = ["ByteSource", "OpenBytes", "read_each", "unchanged_after"]


class OpenBytes(Protocol):
    """The bytes of a source, open in this process; any thread may read them."""

    @property
    def descriptor(self) -> int | None:
        """Of a file that compiled loops can read; None where there is none."""

    @property
    def requesting(self) -> Requesting | None:
        """What requests cost; None where reading a little is cheap."""

    def read(self, offset: int, size: int) -> Any:
        """``size`` bytes from ``offset``, or fewer where the source ends; whatever exports a buffer."""

    def read_ranges(self, froms: Offsets, tos: Offsets, lengths: Offsets, start: int, stop: int, out: Bytes) -> int:
        """Read ``lengths[i]`` bytes at ``froms[i]`` to ``tos[i]`` of ``out``, i from ``start`` to ``stop``.

        The first range that could not be read whole, or -1.
        """

    def mapped(self) -> Bytes | None:
        """All bytes in memory, or None; what is read from them is valid if the `steady` block ends without an error."""

    def cached(self, offsets: Offsets) -> bool:
        """Whether the bytes at these places come without waiting, judged by a few of them."""


class ByteSource(Protocol):
    """What bytes can be read from. It pickles, and what it holds open belongs to one process."""

    name: str
    """What it is called in messages."""

    @property
    def size(self) -> int:
        """How many bytes there were when it was first seen."""

    @property
    def stamp(self) -> tuple[Any, ...]:
        """What changes when the bytes do."""

    @property
    def distant(self) -> bool:
        """Whether reading waits for a network, so that plain bytes are worth a cache."""

    def opened(self) -> OpenBytes:
        """Its bytes in this process, to be read within a `steady` block."""

    def steady(self) -> AbstractContextManager[None]:
        """A block in which bytes are read: they are those that were first seen, or it raises when it ends.

        Raises
        ------
        ChangedError
            The bytes are others.
        BusyError
            Somebody is writing them.
        """

    def look(self, offsets: Offsets) -> None:
        """Refuse the bytes at these places if they have changed, where otherwise only reading would show it.

        Used for bytes that were kept in a cache; nothing is opened. Raises what `steady` does.
        """

    def close(self) -> None:
        """Let go of what this process has open; it is opened again when it is needed."""


@contextmanager
def unchanged_after(check: Callable[[], None]) -> Iterator[None]:
    """A block after which ``check`` is called, also where it fails: a change explains whatever was found."""
    try:
        yield
    except Exception:
        check()
        raise
    check()


def read_each(
    source: OpenBytes, froms: Offsets, tos: Offsets, lengths: Offsets, start: int, stop: int, out: Bytes
) -> int:
    """As `OpenBytes.read_ranges`, of a source that only has `OpenBytes.read`."""
    for i in range(start, stop):
        to, length = int(tos[i]), int(lengths[i])
        found = np.frombuffer(source.read(int(froms[i]), length), np.uint8)
        if len(found) < length:
            return i
        out[to : to + length] = found
    return -1
