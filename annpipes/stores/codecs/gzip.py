"""gzip, as HDF5 calls it: zlib streams (RFC 1950), inflated by ISA-L.

The package ``isal`` carries ISA-L's C functions (igzip_lib.h), so compiled code calls them by address. Where they
cannot be reached, there is still the way through Python.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numba
import numpy as np
from isal import igzip_lib, isal_zlib
from numba import carray
from numpy.typing import NDArray

from annpipes.stores.codecs.base import Buffer, Codec, Encoding, Output, Parameters, Step
from annpipes.stores.compiled.calling import address_of, addresses_in, call
from annpipes.stores.compiled.kernels import Bytes

__all__ = ["COSTS", "WORK", "Functions", "Gzip", "inflate", "inflated", "isal_functions"]

Functions = tuple[int, int, int]
"""Addresses of `_FUNCTIONS`."""

_FUNCTIONS = ("isal_inflate_init", "isal_inflate_stateless", "isal_adler32")
_STATE_BYTES = 256 << 10  # struct inflate_state has less than 90,000
_LOW = 0xFFFFFFFF
_LEVEL = 1


COSTS = "read directly and with all cores, but most of the time goes into decompressing it"
WORK = "inflating gzip"
"""The same for all that is deflated, whatever stands around it."""


class Gzip(Codec):
    """zlib streams, which HDF5 calls gzip; what Zarr calls gzip has another header (RFC 1952)."""

    name: ClassVar[str] = "gzip"
    number: ClassVar[int | None] = 1
    zarr: ClassVar[tuple[str, ...]] = ("zlib", "numcodecs.zlib")
    costs = COSTS

    @property
    def work(self) -> str:
        return WORK

    def decode(self, encoded: Buffer, size: int, parameters: Parameters) -> Buffer:
        return inflated(encoded, size, igzip_lib.DECOMP_ZLIB)

    def decode_bare(self, encoded: Buffer, size: int, parameters: Parameters) -> Buffer:
        return isal_zlib.decompress(encoded, bufsize=size)

    def step(self, parameters: Parameters) -> Step | None:
        functions = isal_functions()
        return None if functions is None else Step(address_of(_entry), functions, _STATE_BYTES)

    def outputs(self) -> Sequence[Output]:
        return [Output("gzip", 2, _encoding)]


def _encoding() -> Encoding:
    return Encoding("gzip", {"compression": "gzip", "compression_opts": _LEVEL, "shuffle": True}, _deflate)


def _deflate(values: NDArray[Any]) -> bytes:
    """Shuffled first, as HDF5's own filter would."""
    octets = np.ascontiguousarray(values).view(np.uint8).reshape(-1, values.itemsize)  # (elements, bytes)
    encoded: bytes = isal_zlib.compress(np.ascontiguousarray(octets.T), _LEVEL)
    return encoded


def inflated(encoded: Buffer, size: int, kind: int) -> Buffer:
    """What a stream of this ``kind`` of `igzip_lib` decodes to; a ValueError if that is more than ``size`` bytes."""
    try:
        stream = igzip_lib.IgzipDecompressor(flag=kind)
        decoded = stream.decompress(encoded, size + 1)
    except igzip_lib.error as error:  # type: ignore[misc] # an exception, published without types
        raise ValueError(f"cannot be inflated ({error})") from None
    if not stream.eof:
        raise ValueError("cannot be inflated (too long or not ended)")
    return decoded


@lru_cache(1)
def isal_functions() -> Functions | None:
    """Where ISA-L's functions lie in this process, or None if they cannot be called from here."""
    found = addresses_in(igzip_lib.__file__, *_FUNCTIONS)
    if found is None or sys.byteorder != "little":
        return None
    functions = (found[0], found[1], found[2])
    return functions if _understood(functions) else None


def _understood(functions: Functions) -> bool:
    """Whether the functions take what is passed to them: a stream inflates, and a damaged one does not."""
    content = bytes(range(256)) * 40
    encoded = np.frombuffer(zlib.compress(content), np.uint8).copy()
    state, decoded = np.empty(_STATE_BYTES // 8, np.uint64), np.empty(len(content), np.uint8)
    whole = inflate(functions, state, encoded, len(encoded), decoded)
    right = decoded.tobytes() == content
    encoded[-1] ^= 1
    return whole and right and not inflate(functions, state, encoded, len(encoded), decoded)


def _entry(parameters: Any, scratch: Any, encoded: Any, encoded_size: int, decoded: Any, decoded_size: int) -> int:
    addresses = carray(parameters, 3, np.int64)
    functions = addresses[0], addresses[1], addresses[2]
    state, stream = carray(scratch, _STATE_BYTES // 8, np.uint64), carray(encoded, encoded_size, np.uint8)
    return 1 if inflate(functions, state, stream, encoded_size, carray(decoded, decoded_size, np.uint8)) else 0


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def inflate(functions: Functions, state: NDArray[np.uint64], encoded: Bytes, size: int, decoded: Bytes) -> bool:
    """Whether the first ``size`` bytes are a zlib stream (RFC 1950) of just as much as ``decoded``, which gets it."""
    initialise, inflate_stateless, adler32 = functions
    if size < 6:
        return False
    header = (encoded[0] << 8) + encoded[1]
    if encoded[0] & 15 != 8 or header % 31 != 0 or header & 32 != 0:
        return False
    call(initialise, state.ctypes.data, 0, 0, 0, 0, 0, 0, 0)
    # struct inflate_state begins with next_out, avail_out and total_out, next_in, read_in, avail_in and …
    state[0] = decoded.ctypes.data
    state[1] = len(decoded)
    state[2] = encoded.ctypes.data + 2
    state[4] = size - 2
    failed = call(inflate_stateless, state.ctypes.data, 0, 0, 0, 0, 0, 0, 0) != 0
    if failed or state[1] & _LOW != 0 or state[4] & _LOW != 4:
        return False
    stored = 0
    for i in range(size - 4, size):
        stored = (stored << 8) + encoded[i]
    found: int = call(adler32, 1, decoded.ctypes.data, len(decoded), 0, 0, 0, 0, 0)
    return found == stored
