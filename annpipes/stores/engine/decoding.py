"""Storage chunks read, decoded and copied in one compiled loop, which never asks for Python's lock.

Through Python, each storage chunk takes the lock several times, and who finds it taken sleeps for longer than it is
held. So the loop calls the C functions that ``isal`` and ``numcodecs`` carry by address. Where they cannot be reached,
or a storage chunk is not as it should be, there is still the way through Python.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from annpipes.stores.codecs.inflating import Functions, call, inflate, isal_functions
from annpipes.stores.compiled.kernels import Bytes, Offsets, largest, memcpy, read_whole
from annpipes.stores.containers.layout import Layout

__all__ = ["Decoder", "blosc_function", "copy_decoded", "decode", "decoder_of"]


class Decoder(NamedTuple):
    """How the loop decodes.

    Parameters
    ----------
    functions
        ISA-L's, or zeros.
    decompress
        Address of ``blosc_decompress_ctx``, or 0 for gzip.
    width
        Bytes of the elements that were shuffled before they were compressed; 1 if they were not.
    """

    functions: Functions
    decompress: int
    width: int


def decoder_of(layout: Layout) -> Decoder | None:
    """How storage chunks of this layout are decoded in the loop; None if it cannot."""
    names, size = layout.filters.names, layout.dtype.itemsize
    if layout.masks.any() or not hasattr(os, "pread"):  # which the loop calls, and Windows lacks
        return None
    if names == ("blosc",):
        decompress = blosc_function()
        return None if decompress is None else Decoder((0, 0, 0), decompress, 1)
    shuffled = names == ("shuffle", "gzip") and layout.filters.parameters[0][0] == size
    functions = isal_functions() if names == ("gzip",) or shuffled else None
    return None if functions is None else Decoder(functions, 0, size if shuffled else 1)


@lru_cache(1)
def blosc_function() -> int | None:
    """Where ``blosc_decompress_ctx`` (blosc.h) lies in this process, or None if it cannot be called from here."""
    try:
        address = ctypes.cast(ctypes.CDLL(blosc.__file__).blosc_decompress_ctx, ctypes.c_void_p).value
    except (AttributeError, OSError):
        return None
    if address is None or sys.byteorder != "little":
        return None
    content = np.arange(1000, dtype=np.int32)
    encoded = np.frombuffer(blosc.compress(content, b"lz4", 5, blosc.SHUFFLE), np.uint8)
    decoded = np.empty(content.nbytes, np.uint8)
    understood = _decompress(address, encoded, len(encoded), decoded) and (decoded.view(np.int32) == content).all()
    return address if understood else None


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def copy_decoded(
    decoder: Decoder,
    descriptor: int,
    offsets: Offsets,
    sizes: Offsets,
    edges: Offsets,
    first: int,
    last: int,
    state: NDArray[np.uint64],
    encoded: Bytes,
    planes: Bytes,
    decoded: Bytes,
    froms: Offsets,
    tos: Offsets,
    lengths: Offsets,
    out: Bytes,
    words: NDArray[Any],
    limit: int,
) -> int:
    """Copy the pieces of the storage chunks ``first … last-1``; the first that is not as it should be, or ``last``.

    Storage chunk k has ``sizes[k]`` bytes at ``offsets[k]`` of the file and decodes to all of
    ``decoded``; its pieces are ``edges[k] … edges[k+1]-1``, in bytes as for `copy_pieces`. If
    ``limit`` is not negative, the words copied must be below it.
    """
    target, size = out.ctypes.data, words.itemsize
    for k in range(first, last):
        if not read_whole(descriptor, encoded.ctypes.data, offsets[k], sizes[k]):
            return k
        if not decode(decoder, state, encoded, sizes[k], planes, decoded):
            return k
        for i in range(edges[k], edges[k + 1]):
            memcpy(target + tos[i], decoded.ctypes.data + froms[i], lengths[i])
            if limit >= 0 and largest(words, tos[i] // size, lengths[i] // size) >= limit:
                return k
    return last


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def decode(
    decoder: Decoder, state: NDArray[np.uint64], encoded: Bytes, size: int, planes: Bytes, decoded: Bytes
) -> bool:
    """Whether the first ``size`` bytes decode to just as much as ``decoded``, which gets it."""
    if decoder.decompress != 0:
        blosc_done: bool = _decompress(decoder.decompress, encoded, size, decoded)
        return blosc_done
    if decoder.width == 1:
        inflated: bool = inflate(decoder.functions, state, encoded, size, decoded)
        return inflated
    if not inflate(decoder.functions, state, encoded, size, planes):
        return False
    _unshuffle(planes, decoded, decoder.width)
    return True


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _decompress(function: int, encoded: Bytes, size: int, decoded: Bytes) -> bool:
    """Whether the first ``size`` bytes are a Blosc buffer of just as much as ``decoded``, which gets it."""
    # Both sizes stand in the header, and the library trusts them (README_CHUNK_FORMAT.rst of c-blosc).
    if size < 16 or _number_at(encoded, 4) != len(decoded) or _number_at(encoded, 12) != size:
        return False
    done: int = call(function, encoded.ctypes.data, decoded.ctypes.data, len(decoded), 1)
    return done == len(decoded)


@numba.njit(nogil=True, cache=True, inline="always")  # type: ignore[untyped-decorator]
def _number_at(encoded: Bytes, place: int) -> int:
    number = 0
    for i in range(place + 3, place - 1, -1):
        number = (number << 8) + encoded[i]
    return number


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _unshuffle(planes: Bytes, decoded: Bytes, width: int) -> None:
    """Put the bytes of each element together again; written out for each width, so that it becomes vector code."""
    n = len(decoded) // width
    if width == 4:
        words4 = decoded.view(np.uint32)
        a, b, c, d = planes[:n], planes[n : 2 * n], planes[2 * n : 3 * n], planes[3 * n : 4 * n]
        for i in range(n):
            words4[i] = (
                np.uint32(a[i])
                | np.uint32(b[i]) << np.uint32(8)
                | np.uint32(c[i]) << np.uint32(16)
                | np.uint32(d[i]) << np.uint32(24)
            )
    elif width == 2:
        words2 = decoded.view(np.uint16)
        a, b = planes[:n], planes[n : 2 * n]
        for i in range(n):
            words2[i] = np.uint16(a[i]) | np.uint16(b[i]) << np.uint16(8)
    else:
        for j in range(width):
            for i in range(n):
                decoded[i * width + j] = planes[j * n + i]
