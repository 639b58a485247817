"""Zstandard frames (RFC 8878).

The package ``numcodecs`` carries the C library (zstd.h), so compiled code calls it by address. Where it cannot be
reached, there is still the way through Python.
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache, partial
from typing import Any, ClassVar

import numba
import numpy as np
from numba import carray
from numcodecs import zstd
from numpy.typing import NDArray

from annpipes.stores.codecs.base import Buffer, Codec, Parameters, Step, decompressed
from annpipes.stores.compiled.calling import address_of, addresses_in, call
from annpipes.stores.compiled.kernels import Bytes

__all__ = ["Functions", "Zstd", "zstd_functions"]

Functions = tuple[int, int, int]
"""Addresses of ``ZSTD_initStaticDCtx`` and ``ZSTD_decompressDCtx``, and how many bytes the first needs."""

_FUNCTIONS = ("ZSTD_initStaticDCtx", "ZSTD_decompressDCtx", "ZSTD_estimateDCtxSize")
_LOW = 0xFFFFFFFF  # of a result, all that a called function gives back


class Zstd(Codec):
    """Zstandard frames, one as a rule."""

    name: ClassVar[str] = "zstd"
    number: ClassVar[int | None] = 32015
    zarr: ClassVar[tuple[str, ...]] = ("zstd", "numcodecs.zstd")

    def decode(self, encoded: Buffer, size: int, parameters: Parameters) -> Buffer:
        stated = _stated_size(memoryview(encoded))
        if stated not in (None, size):
            raise ValueError(f"holds {stated} bytes instead of {size}")
        return decompressed(partial(zstd.decompress, dest=np.empty(size, np.uint8)), encoded)

    def step(self, parameters: Parameters) -> Step | None:
        functions = zstd_functions()
        return None if functions is None else Step(address_of(_entry), functions, functions[2])


def _stated_size(frame: memoryview) -> int | None:
    """The decoded size in a frame's header, if it is there (RFC 8878, 3.1.1.1)."""
    if len(frame) < 5:
        raise ValueError("ends inside a Zstd header")
    single = frame[4] >> 5 & 1
    width = (single, 2, 4, 8)[frame[4] >> 6]
    start = 6 - single + (0, 1, 2, 4)[frame[4] & 3]
    return int.from_bytes(frame[start : start + width], "little") + 256 * (width == 2) if width else None


@lru_cache(1)
def zstd_functions() -> Functions | None:
    """What the compiled loop calls in this process, or None if it cannot be called from here."""
    found = addresses_in(zstd.__file__, *_FUNCTIONS)
    if found is None or not all(found) or sys.byteorder != "little":
        return None
    size = ctypes.CFUNCTYPE(ctypes.c_size_t)(found[2])()
    functions = (found[0], found[1], int(size))
    return functions if 0 < size < _LOW and _understood(functions) else None


def _understood(functions: Functions) -> bool:
    """Whether the functions take what is passed to them: a frame is decoded, and a damaged one is not."""
    content = np.arange(2000, dtype=np.int32)
    encoded = np.frombuffer(zstd.compress(content, 3), np.uint8).copy()
    state, decoded = np.empty(functions[2] // 8 + 1, np.uint64), np.empty(content.nbytes, np.uint8)
    whole = _decompress(functions, state, encoded, decoded) and (decoded.view(np.int32) == content).all()
    return bool(whole) and not _decompress(functions, state, encoded[:-1].copy(), decoded)


def _entry(parameters: Any, scratch: Any, encoded: Any, encoded_size: int, decoded: Any, decoded_size: int) -> int:
    values = carray(parameters, 3, np.int64)
    functions = values[0], values[1], values[2]
    state, frame = carray(scratch, values[2] // 8, np.uint64), carray(encoded, encoded_size, np.uint8)
    return 1 if _decompress(functions, state, frame, carray(decoded, decoded_size, np.uint8)) else 0


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _decompress(functions: Functions, state: NDArray[np.uint64], encoded: Bytes, decoded: Bytes) -> bool:
    """Whether ``encoded`` are frames of just as much as ``decoded``, which gets it."""
    initialise, decompress, size = functions
    # A context in memory of the caller's lies where that memory begins, or is NULL.
    if call(initialise, state.ctypes.data, size, 0, 0, 0, 0, 0, 0) != state.ctypes.data & _LOW:
        return False
    target, source = decoded.ctypes.data, encoded.ctypes.data
    done: int = call(decompress, state.ctypes.data, target, len(decoded), source, len(encoded), 0, 0, 0)
    return done == len(decoded)  # an error is a number just below 2 ** 64
