"""Storage chunks written to a cache, and read back, within compiled loops.

A storage chunk is there once the table has its entry: a mark, and the checksum of its bytes (CRC-32 as in gzip, by
ISA-L). The entry is written after the bytes, so a process that is killed in between leaves none. After a loss
of power an entry may stand without its bytes, which then do not have its checksum.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from isal import igzip_lib
from numpy.typing import NDArray

from annpipes.stores.compiled.calling import addresses_in, call
from annpipes.stores.compiled.kernels import Bytes, Offsets, read_whole, write_whole

__all__ = [
    "ENTRY_BYTES",
    "KEEP",
    "LEAVE",
    "RECALL",
    "Shelf",
    "checksum_address",
    "entry_of",
    "keep",
    "no_shelf",
    "recall",
]

LEAVE, KEEP, RECALL = 0, 1, 2
ENTRY_BYTES = 8
_MARK = 1 << 32


class Shelf(NamedTuple):
    """What becomes of the storage chunks of a read.

    Parameters
    ----------
    data, data_writer, table_writer
        Descriptors of the two files, to read and to write; -1 without a cache.
    checksum
        Where the function lies that makes it.
    numbers
        Of each storage chunk, in its array; shape ``(storage chunks,)``.
    modes
        Of each: `LEAVE` it, `KEEP` it once it is decoded, or `RECALL` it; shape ``(storage chunks,)``.
    entries
        What the table has of each, or gets; shape ``(storage chunks,)``.
    verified
        Gets 1 for each in the array that is there as it should be; shape ``(storage chunks of the array,)``.
    failed
        Gets 1 if something could not be written; shape ``(1,)``.
    """

    data: int
    data_writer: int
    table_writer: int
    checksum: int
    numbers: Offsets
    modes: Bytes
    entries: Offsets
    verified: Bytes
    failed: Bytes


_NOTHING = np.zeros(0, np.int64), np.zeros(0, np.uint8)
_NO_SHELF = Shelf(-1, -1, -1, 0, _NOTHING[0], _NOTHING[1], _NOTHING[0], _NOTHING[1], _NOTHING[1])


def no_shelf(numbers: Offsets) -> Shelf | None:
    """That of storage chunks that have no cache."""
    return _NO_SHELF


@lru_cache(1)
def checksum_address() -> int:
    """Where ISA-L's CRC-32 lies in this process; 0 if it cannot be called from here."""
    found = addresses_in(igzip_lib.__file__, "crc32_gzip_refl")
    if found is None:
        return 0
    octets = np.arange(100, dtype=np.uint8)
    return found[0] if _entry(found[0], octets.ctypes.data, len(octets)) == entry_of(octets) else 0


def entry_of(decoded: Any) -> int:
    """What the table has of a storage chunk.

    >>> hex(entry_of(b"123456789"))
    '0x1cbf43926'
    """
    return _MARK | zlib.crc32(decoded)


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _entry(checksum: int, address: int, size: int) -> int:
    found: int = call(checksum, 0, address, size, 0, 0, 0, 0, 0)
    return _MARK | found


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def recall(shelf: Shelf, place: int, decoded: NDArray[np.uint8]) -> bool:
    """Whether the storage chunk at ``place`` of a read is in the cache as it was written; ``decoded`` gets it."""
    number, size, address = shelf.numbers[place], len(decoded), decoded.ctypes.data
    if not read_whole(shelf.data, address, number * size, size):
        return False
    if _entry(shelf.checksum, address, size) != shelf.entries[place]:
        return False
    shelf.verified[number] = 1
    return True


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def keep(shelf: Shelf, place: int, decoded: NDArray[np.uint8]) -> None:
    """Write the storage chunk at ``place`` of a read, and then its entry."""
    number, size, address = shelf.numbers[place], len(decoded), decoded.ctypes.data
    entries = shelf.entries
    entries[place] = _entry(shelf.checksum, address, size)
    if write_whole(shelf.data_writer, address, number * size, size) and write_whole(
        shelf.table_writer, entries.ctypes.data + place * ENTRY_BYTES, number * ENTRY_BYTES, ENTRY_BYTES
    ):
        shelf.verified[number] = 1
    else:
        shelf.failed[0] = 1
