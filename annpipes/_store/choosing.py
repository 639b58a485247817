"""Compiled loops that write only those values of CSR rows whose columns are kept."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from annpipes._store.inflating import Functions, inflate
from annpipes._store.kernels import Bytes, Offsets, largest, memcpy, pread

__all__ = ["count_pieces", "select_inflated", "select_pieces"]


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def count_pieces(
    indices: NDArray[Any],
    froms: Offsets,
    lengths: Offsets,
    start: int,
    stop: int,
    limit: int,
    mask: Bytes,
    numbers: Offsets,
) -> int:
    """How many values are kept of each of the pieces ``start … stop-1``; the first with a column outside, or -1."""
    for i in range(start, stop):
        if largest(indices, froms[i], lengths[i]) >= limit:
            return i
        row = indices[froms[i] : froms[i] + lengths[i]]
        found = np.uint64(0)
        for j in range(len(row)):
            found += np.uint64(mask[row[j]])
        numbers[i] = found
    return -1


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
    counted: bool,
    limit: int,
    index_buffer: NDArray[Any],
    data_buffer: NDArray[Any],
    columns: NDArray[np.int32],
    out_indices: NDArray[Any],
    out_data: NDArray[Any],
    begins: Offsets,
    numbers: Offsets,
) -> tuple[int, int]:
    """Write what is kept of the pieces ``start … stop-1``: to ``begins`` if counted, else from ``to`` on.

    The first piece with a column of at least ``limit`` (or -1), and where the next would go. The
    caller vouches that pieces lie within the sources, and ``limit`` within ``columns``.
    """
    for i in range(start, stop):
        if not counted and largest(indices, index_froms[i], lengths[i]) >= limit:
            return i, to
        row = indices[index_froms[i] : index_froms[i] + lengths[i]]
        values = data[froms[i] : froms[i] + lengths[i]]
        found = np.uint64(0)
        for j in range(len(row)):
            column = columns[row[j]]
            index_buffer[found] = column  # always, and overwritten if not kept: no branch to mispredict
            data_buffer[found] = values[j]
            found += np.uint64(column >= 0)
        kept = np.int64(found)
        if counted:
            to = begins[i]
            kept = min(kept, numbers[i])  # a file that changes meanwhile must not lead outside
        index_size, data_size = out_indices.itemsize, out_data.itemsize
        memcpy(out_indices.ctypes.data + to * index_size, index_buffer.ctypes.data, kept * index_size)
        memcpy(out_data.ctypes.data + to * data_size, data_buffer.ctypes.data, kept * data_size)
        begins[i], numbers[i] = to, kept
        to += numbers[i]
    return -1, to


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def select_inflated(
    functions: Functions,
    descriptor: int,
    tables: tuple[Offsets, Offsets, Offsets, Offsets],
    edges: Offsets,
    first: int,
    last: int,
    state: NDArray[np.uint64],
    encoded: Bytes,
    index_bytes: Bytes,
    data_bytes: Bytes,
    indices: NDArray[Any],
    data: NDArray[Any],
    froms: Offsets,
    lengths: Offsets,
    to: int,
    limit: int,
    index_buffer: NDArray[Any],
    data_buffer: NDArray[Any],
    columns: NDArray[np.int32],
    out_indices: NDArray[Any],
    out_data: NDArray[Any],
    begins: Offsets,
    numbers: Offsets,
) -> tuple[int, int]:
    """As `select_pieces`, of the storage chunks ``first … last-1``; the first that is not as it should be, or ``last``.

    ``indices`` and ``data`` are views of ``index_bytes`` and ``data_bytes``, into which storage chunks are inflated.
    """
    index_offsets, index_sizes, data_offsets, data_sizes = tables
    for k in range(first, last):
        if not _read_whole(descriptor, encoded, index_offsets[k], index_sizes[k]):
            return k, to
        if not inflate(functions, state, encoded, index_sizes[k], index_bytes):
            return k, to
        if not _read_whole(descriptor, encoded, data_offsets[k], data_sizes[k]):
            return k, to
        if not inflate(functions, state, encoded, data_sizes[k], data_bytes):
            return k, to
        begin, end = edges[k], edges[k + 1]
        wrong, to = select_pieces(
            indices, data, froms, froms, lengths, begin, end, to, False, limit, index_buffer, data_buffer, columns,
            out_indices, out_data, begins, numbers,
        )  # fmt: skip
        if wrong >= 0:
            return k, to
    return last, to


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _read_whole(descriptor: int, out: Bytes, offset: int, size: int) -> bool:
    """Whether ``size`` bytes from ``offset`` of a file could be read."""
    done = 0
    while done < size:
        found = pread(descriptor, out.ctypes.data + done, size - done, offset + done)
        if found <= 0:
            return False
        done += found
    return True
