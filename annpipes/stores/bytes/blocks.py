"""A remote object as a file of Python, for a library that reads a little here and there."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from typing import Any

import numpy as np

from annpipes.stores.bytes.protocol import OpenBytes

__all__ = ["BlockFile", "Blocks"]

_BLOCK, _KEPT = 256 << 10, 256
_AHEAD = 16  # blocks that are read by one request at most, once the file is read from front to back


class Blocks:
    """Blocks of a source that were read in this process, and are kept for a while."""

    def __init__(self) -> None:
        self._blocks: dict[int, OrderedDict[int, bytes]] = {}  # by process
        self._ahead, self._next = 1, -1

    def __reduce__(self) -> tuple[type[Blocks], tuple[()]]:
        return Blocks, ()

    def block(self, source: OpenBytes, size: int, number: int) -> bytes:
        """The bytes of a block, of a source with ``size`` bytes; those behind it are read with it if that pays."""
        kept = self._blocks.get(os.getpid())
        if kept is None:
            kept = OrderedDict()
            self._blocks = {os.getpid(): kept}
        found = kept.get(number)
        if found is None:
            self._read(source, size, number, kept)
            found = kept[number]
        return found

    def _read(self, source: OpenBytes, size: int, number: int, kept: OrderedDict[int, bytes]) -> None:
        self._ahead = min(2 * self._ahead, _AHEAD) if number == self._next else 1
        self._next = number + self._ahead
        first = number * _BLOCK
        content = source.read(first, min(self._ahead * _BLOCK, size - first))
        for i in range(self._ahead):
            kept[number + i] = bytes(content[i * _BLOCK : (i + 1) * _BLOCK])
        while len(kept) > _KEPT:
            kept.popitem(last=False)


class BlockFile(io.RawIOBase):
    """A source, open for reading and seeking, by one thread at a time, as h5py's lock has it.

    Parameters
    ----------
    name
        What its repr is, by which h5py calls the file.
    source, size
        What is read, and how many bytes it has.
    blocks
        What was read of it before.
    """

    def __init__(self, name: str, source: OpenBytes, size: int, blocks: Blocks) -> None:
        self._name, self._source, self._size, self._blocks = name, source, size, blocks
        self._place = 0

    def __repr__(self) -> str:
        return self._name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = begin + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        out = np.frombuffer(buffer, np.uint8)
        wanted = max(0, min(len(out), self._size - self._place))
        done = 0
        while done < wanted:
            number, begin = divmod(self._place, _BLOCK)
            block = self._blocks.block(self._source, self._size, number)[begin:][: wanted - done]
            if not block:
                break
            out[done : done + len(block)] = np.frombuffer(block, np.uint8)
            done, self._place = done + len(block), self._place + len(block)
        return done
