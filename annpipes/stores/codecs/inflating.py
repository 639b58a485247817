"""zlib streams inflated by ISA-L, called without Python.

The package ``isal`` carries ISA-L's C functions (igzip_lib.h), so compiled code calls them by address. Where they
cannot be reached, there is still the way through Python.
"""

from __future__ import annotations

import ctypes
import sys
import zlib
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from isal import igzip_lib
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from annpipes.stores.compiled.kernels import Bytes

__all__ = ["Functions", "Scratch", "call", "inflate", "isal_functions"]

Functions = tuple[int, int, int]
"""Addresses of `_FUNCTIONS`."""

_FUNCTIONS = ("isal_inflate_init", "isal_inflate_stateless", "isal_adler32")
_STATE_BYTES = 256 << 10  # struct inflate_state has less than 90,000
_LOW = 0xFFFFFFFF


class Scratch:
    """Working memory: ISA-L's state, and one storage chunk encoded, on its way and decoded."""

    def __init__(self, encoded: int, decoded: int, planes: int = 0) -> None:
        sizes = (_STATE_BYTES, encoded, -encoded % 8, planes)  # decoded numbers begin at a multiple of their size
        memory = np.empty(sum(sizes) + decoded, np.uint8)
        state, self.encoded, _, self.planes, self.decoded = np.split(memory, np.cumsum(sizes))
        self.state = state.view(np.uint64)


@lru_cache(1)
def isal_functions() -> Functions | None:
    """Where ISA-L's functions lie in this process, or None if they cannot be called from here."""
    try:
        library = ctypes.CDLL(igzip_lib.__file__)
        found = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for name in _FUNCTIONS]
    except (AttributeError, OSError):
        return None
    functions = (found[0], found[1], found[2])
    return functions if sys.byteorder == "little" and _understood(functions) else None


def _understood(functions: Functions) -> bool:
    """Whether the functions take what is passed to them: a stream inflates, and a damaged one does not."""
    content = bytes(range(256)) * 40
    encoded = np.frombuffer(zlib.compress(content), np.uint8)
    scratch = Scratch(len(encoded), len(content))
    scratch.encoded[:] = encoded
    whole = inflate(functions, scratch.state, scratch.encoded, len(encoded), scratch.decoded)
    right = scratch.decoded.tobytes() == content
    scratch.encoded[-1] ^= 1
    return whole and right and not inflate(functions, scratch.state, scratch.encoded, len(encoded), scratch.decoded)


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def inflate(functions: Functions, state: NDArray[np.uint64], encoded: Bytes, size: int, decoded: Bytes) -> bool:
    """Whether the first ``size`` bytes are a zlib stream (RFC 1950) of just as much as ``decoded``, which gets it."""
    initialise, inflate_stateless, adler32 = functions
    header = (encoded[0] << 8) + encoded[1]
    if size < 6 or encoded[0] & 15 != 8 or header % 31 != 0 or header & 32 != 0:
        return False
    call(initialise, state.ctypes.data, 0, 0, 0)
    # struct inflate_state begins with next_out, avail_out and total_out, next_in, read_in, avail_in and …
    state[0] = decoded.ctypes.data
    state[1] = len(decoded)
    state[2] = encoded.ctypes.data + 2
    state[4] = size - 2
    if call(inflate_stateless, state.ctypes.data, 0, 0, 0) != 0 or state[1] & _LOW != 0 or state[4] & _LOW != 4:
        return False
    stored = 0
    for i in range(size - 4, size):
        stored = (stored << 8) + encoded[i]
    found: int = call(adler32, 1, decoded.ctypes.data, len(decoded), 0)
    return found == stored


@intrinsic  # type: ignore[untyped-decorator]
def call(context: Any, function: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Call a C function of up to four numbers or pointers at an address, for an unsigned int."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        pointer = builder.inttoptr(arguments[0], ir.FunctionType(ir.IntType(32), [word] * 4).as_pointer())
        return builder.zext(builder.call(pointer, arguments[1:]), word)

    return types.int64(*[types.int64] * 5), generate
