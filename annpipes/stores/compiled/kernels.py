"""Compiled inner loops: they hold no lock and index nothing that was not checked before."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types
from numpy.typing import NDArray

__all__ = [
    "Moves",
    "Output",
    "add_rows",
    "copy_columns",
    "copy_pieces",
    "copy_values",
    "first_outside",
    "keep_columns",
    "read_pieces",
    "read_whole",
    "renumber_columns",
    "write_whole",
]

Bytes = NDArray[np.uint8]
Offsets = NDArray[np.int64]


class Moves(NamedTuple):
    """Where pieces come from, where they go, and how long they are; each of shape ``(pieces,)``."""

    froms: Offsets
    tos: Offsets
    lengths: Offsets


class Output(NamedTuple):
    """An array that is filled, and what may stand in it.

    Parameters
    ----------
    out, words
        The same memory, as bytes and as unsigned numbers: a negative number read as one is above every limit.
    limit
        What numbers must be below.
    """

    out: Bytes
    words: NDArray[Any]
    limit: int


# libc's functions by name, unlike ctypes pointers, can be cached on disk. Addresses travel as
# integers, so that an offset can be added to them.
memcpy: Any = types.ExternalFunction("memcpy", types.uintp(types.uintp, types.uintp, types.uintp))
pread: Any = types.ExternalFunction("pread", types.intp(types.intc, types.uintp, types.uintp, types.int64))
pwrite: Any = types.ExternalFunction("pwrite", types.intp(types.intc, types.uintp, types.uintp, types.int64))


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def copy_pieces(source: Bytes, moves: Moves, start: int, stop: int, out: Bytes) -> None:
    """Copy ``lengths[i]`` bytes at ``froms[i]`` of ``source`` to ``tos[i]`` of ``out``, i from ``start`` to ``stop``.

    The caller vouches for all offsets: numpy's slices check too little and cost half the speed.
    """
    froms, tos, lengths = moves  # once: numba counts a reference each time that an array is taken out of a tuple
    first, target = source.ctypes.data, out.ctypes.data
    for i in range(start, stop):
        memcpy(target + tos[i], first + froms[i], lengths[i])


def copy_values(values: NDArray[Any], froms: Offsets, tos: Offsets, lengths: Offsets, out: NDArray[Any]) -> None:
    """As `copy_pieces`, all of them, with offsets counted in values of one dtype."""
    size, source = out.itemsize, np.ascontiguousarray(values).view(np.uint8)
    copy_pieces(source, Moves(froms * size, tos * size, lengths * size), 0, len(lengths), out.view(np.uint8))


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def copy_columns(source: Bytes, moves: Moves, start: int, stop: int, output: Output) -> int:
    """As `copy_pieces`, checking each piece while it is in the cache: `first_outside` of them."""
    froms, tos, lengths = moves
    out, words, limit = output
    first, target, size = source.ctypes.data, out.ctypes.data, words.itemsize
    for i in range(start, stop):
        memcpy(target + tos[i], first + froms[i], lengths[i])
        if largest(words, tos[i] // size, lengths[i] // size) >= limit:
            return i
    return -1


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def read_whole(descriptor: int, address: int, offset: int, size: int) -> bool:
    """Whether ``size`` bytes from ``offset`` of a file could be read to ``address``."""
    done = 0
    while done < size:
        count = pread(descriptor, address + done, size - done, offset + done)
        if count <= 0:
            return False
        done += count
    return True


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def write_whole(descriptor: int, address: int, offset: int, size: int) -> bool:
    """Whether ``size`` bytes at ``address`` could be written from ``offset`` of a file on."""
    done = 0
    while done < size:
        count = pwrite(descriptor, address + done, size - done, offset + done)
        if count <= 0:
            return False
        done += count
    return True


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def read_pieces(
    descriptor: int, froms: Offsets, tos: Offsets, lengths: Offsets, start: int, stop: int, out: Bytes
) -> int:
    """As `copy_pieces`, from a file; the first piece that could not be read whole, or -1."""
    target = out.ctypes.data
    for i in range(start, stop):
        if not read_whole(descriptor, target + tos[i], froms[i], lengths[i]):
            return i
    return -1


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def first_outside(tos: Offsets, lengths: Offsets, start: int, stop: int, words: NDArray[Any], limit: int) -> int:
    """The first piece of ``words`` that holds a number of at least ``limit``, or -1.

    ``words`` are unsigned: a negative number read as one is above every limit. Offsets and
    lengths are in bytes.
    """
    for i in range(start, stop):
        if largest(words, tos[i] // words.itemsize, lengths[i] // words.itemsize) >= limit:
            return i
    return -1


@numba.njit(nogil=True, cache=True, inline="always")  # type: ignore[untyped-decorator]
def largest(words: NDArray[Any], start: int, count: int) -> Any:
    part = words[start : start + count]
    largest = words.dtype.type(0)
    for j in range(count):
        if part[j] > largest:  # compiles to vector maxima, as the function `max` does not
            largest = part[j]
    return largest


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def add_rows(
    data: NDArray[Any], indices: NDArray[Any], indptr: Offsets, start: int, stop: int, out: NDArray[np.float32]
) -> int:
    """Rows ``start … stop-1`` written densely, values of one place added; the first row outside of ``out``, or -1."""
    width = out.shape[1]
    for i in range(start, stop):
        row = out[i]
        row[:] = 0
        for j in range(indptr[i], indptr[i + 1]):
            column = indices[j]
            if column < 0 or column >= width:
                return i
            row[column] += data[j]
    return -1


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def renumber_columns(
    indices: NDArray[Any], indptr: Offsets, columns: NDArray[Any], rows: Offsets, start: int, stop: int
) -> None:
    """In ``rows[start] … rows[stop-1]``, every column replaced by its new one.

    The caller vouches that ``indices`` lie within ``columns``.
    """
    for i in rows[start:stop]:
        row = indices[indptr[i] : indptr[i + 1]]
        for j in range(len(row)):
            row[j] = columns[row[j]]


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def keep_columns(
    words: NDArray[Any],
    indices: NDArray[Any],
    indptr: Offsets,
    columns: NDArray[Any],
    rows: Offsets,
    start: int,
    stop: int,
    kept: Offsets,
) -> None:
    """In ``rows[start] … rows[stop-1]``, values whose column has a new one move to the front; ``kept`` gets how many.

    The caller vouches that ``indices`` lie within ``columns``.
    """
    for i in rows[start:stop]:
        first = place = indptr[i]
        for j in range(first, indptr[i + 1]):
            column = columns[indices[j]]
            indices[place] = column  # always, and overwritten if not kept: no branch to mispredict
            words[place] = words[j]
            place += column >= 0
        kept[i] = place - first
