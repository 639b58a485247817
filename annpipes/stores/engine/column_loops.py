"""Compiled loops that write only those values of CSR rows whose columns are kept."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from annpipes.stores.compiled.kernels import Bytes, Offsets, largest, memcpy
from annpipes.stores.engine.decoding import Chunks, Scratch, extent, read_decoded

__all__ = ["Kept", "Room", "Sources", "select_decoded", "select_pieces"]

_MANY = 4  # from a quarter on, writing every value is faster than finding those to write


class Sources(NamedTuple):
    """Where pieces of rows come from.

    Parameters
    ----------
    indices, data
        What holds their columns and values, as unsigned numbers.
    index_froms, froms, lengths
        Where each begins in ``indices`` and in ``data``, and how long it is; shape ``(pieces,)``.
    """

    indices: NDArray[Any]
    data: NDArray[Any]
    index_froms: Offsets
    froms: Offsets
    lengths: Offsets


class Room(NamedTuple):
    """Working memory for the longest piece: its columns, and the places of those that are kept."""

    row: NDArray[Any]
    places: NDArray[np.int32]


class Kept(NamedTuple):
    """Which columns are kept, and where what is kept goes.

    Parameters
    ----------
    mask, columns
        Of each column of the file, whether it is kept, and its number in the batch, or -1; shape ``(n_vars,)``.
    limit
        Columns must be below it; it lies within ``mask``.
    indices, data
        The columns and values that are kept, as unsigned numbers.
    begins, numbers
        Where those of each piece begin, and how many they are; shape ``(pieces,)``.
    """

    mask: Bytes
    columns: NDArray[np.signedinteger[Any]]
    limit: int
    indices: NDArray[Any]
    data: NDArray[Any]
    begins: Offsets
    numbers: Offsets


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def select_pieces(sources: Sources, start: int, stop: int, to: int, room: Room, kept: Kept) -> tuple[int, int]:
    """Write what is kept of the pieces ``start … stop-1`` from ``to`` on, one after the other.

    The first piece with a column of at least the limit (or -1), and where the next would go. The
    caller vouches that pieces lie within the sources, and none is longer than there is room for. Columns
    are copied to ``room.row`` and checked there: those of a mapped file may become others between the
    check and their use, and no number from a file may lead outside of an array.
    """
    indices, data, index_froms, froms, lengths = sources
    row, places = room
    mask, columns, limit, out_indices, out_data, begins, numbers = kept
    many = False  # whether most values of the piece before were kept, and so will be those of the next
    for i in range(start, stop):
        length = lengths[i]
        memcpy(row.ctypes.data, indices.ctypes.data + index_froms[i] * row.itemsize, length * row.itemsize)
        if largest(row, 0, length) >= limit:
            return i, to
        values = data[froms[i] : froms[i] + length]
        found = np.uint64(0)
        if many:
            kept_indices, kept_data = out_indices[to : to + length], out_data[to : to + length]
            for j in range(length):
                column = columns[row[j]]
                kept_indices[found] = column  # always, and overwritten if not kept: no branch to mispredict
                kept_data[found] = values[j]
                found += np.uint64(column >= 0)
        else:
            for j in range(length):
                places[found] = j
                found += np.uint64(mask[row[j]])
            for k in range(np.int64(found)):
                j = places[k]
                out_indices[to + k] = columns[row[j]]
                out_data[to + k] = values[j]
        begins[i], numbers[i] = to, found
        to += numbers[i]
        many = _MANY * numbers[i] > length
    return -1, to


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def select_decoded(
    chunks: tuple[Chunks, Chunks],
    first: int,
    last: int,
    to: int,
    scratch: tuple[Scratch, Scratch],
    sources: Sources,
    room: Room,
    kept: Kept,
) -> tuple[int, int]:
    """As `select_pieces`, of the storage chunks ``first … last-1``; the first that is not as it should be, or ``last``.

    Those of the columns come first in ``chunks`` and ``scratch``, then those of the values; they are decoded to
    what ``sources`` has as numbers.
    """
    for k in range(first, last):
        start, stop = chunks[0].edges[k], chunks[0].edges[k + 1]
        index_window = extent(sources.index_froms, sources.lengths, start, stop)
        window = extent(sources.froms, sources.lengths, start, stop)
        index_bytes, value_bytes = sources.indices.itemsize, sources.data.itemsize
        if not (
            read_decoded(chunks[0], k, scratch[0], index_window[0] * index_bytes, index_window[1] * index_bytes)
            and read_decoded(chunks[1], k, scratch[1], window[0] * value_bytes, window[1] * value_bytes)
        ):
            return k, to
        wrong, to = select_pieces(sources, start, stop, to, room, kept)
        if wrong >= 0:
            return k, to
    return last, to
