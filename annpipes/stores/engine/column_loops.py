"""Compiled loops that write only those values of CSR rows whose columns are kept."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from annpipes.stores.compiled.kernels import Bytes, Offsets, largest, memcpy, read_whole
from annpipes.stores.engine.decoding import Decoder, decode

__all__ = ["select_decoded", "select_pieces"]

_MANY = 4  # from a quarter on, writing every value is faster than finding those to write


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def select_pieces(
    indices: NDArray[Any],
    data: NDArray[Any],
    index_froms: Offsets,
    froms: Offsets,
    lengths: Offsets,
    start: int,
    stop: int,
    to: int,
    limit: int,
    row: NDArray[Any],
    places: Offsets,
    mask: Bytes,
    columns: NDArray[np.int32],
    out_indices: NDArray[Any],
    out_data: NDArray[Any],
    begins: Offsets,
    numbers: Offsets,
) -> tuple[int, int]:
    """Write what is kept of the pieces ``start … stop-1`` from ``to`` on, one after the other.

    The first piece with a column of at least ``limit`` (or -1), and where the next would go. The
    caller vouches that pieces lie within the sources, none is longer than ``row`` and ``places``, and
    ``limit`` lies within ``mask``. Columns are copied to ``row`` and checked there: those of a mapped file may
    become others between the check and their use, and no number from a file may lead outside of an array.
    """
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
    decoders: tuple[Decoder, Decoder],
    descriptor: int,
    tables: tuple[Offsets, Offsets, Offsets, Offsets],
    edges: Offsets,
    first: int,
    last: int,
    state: NDArray[np.uint64],
    encoded: Bytes,
    planes: Bytes,
    index_bytes: Bytes,
    data_bytes: Bytes,
    indices: NDArray[Any],
    data: NDArray[Any],
    froms: Offsets,
    lengths: Offsets,
    to: int,
    limit: int,
    row: NDArray[Any],
    places: Offsets,
    mask: Bytes,
    columns: NDArray[np.int32],
    out_indices: NDArray[Any],
    out_data: NDArray[Any],
    begins: Offsets,
    numbers: Offsets,
) -> tuple[int, int]:
    """As `select_pieces`, of the storage chunks ``first … last-1``; the first that is not as it should be, or ``last``.

    ``indices`` and ``data`` are views of ``index_bytes`` and ``data_bytes``, into which storage chunks
    are decoded by the first and the second of ``decoders``.
    """
    index_offsets, index_sizes, data_offsets, data_sizes = tables
    for k in range(first, last):
        if not read_whole(descriptor, encoded.ctypes.data, index_offsets[k], index_sizes[k]):
            return k, to
        if not decode(decoders[0], state, encoded, index_sizes[k], planes[: len(index_bytes)], index_bytes):
            return k, to
        if not read_whole(descriptor, encoded.ctypes.data, data_offsets[k], data_sizes[k]):
            return k, to
        if not decode(decoders[1], state, encoded, data_sizes[k], planes[: len(data_bytes)], data_bytes):
            return k, to
        begin, end = edges[k], edges[k + 1]
        wrong, to = select_pieces(
            indices, data, froms, froms, lengths, begin, end, to, limit, row, places, mask, columns, out_indices,
            out_data, begins, numbers,
        )  # fmt: skip
        if wrong >= 0:
            return k, to
    return last, to
