"""C functions called by address, and functions compiled so that they can be.

Compiled code that calls by address takes no lock, and one compiled loop serves all functions of one signature. An
address holds in one process (and its forks), so it is looked up where it is used, and is kept in nothing that is
pickled or cached on disk.
"""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["address_of", "addresses_in", "call"]

_ARGUMENTS = 8
_ENTRY = (types.voidptr, types.voidptr, types.voidptr, types.int64, types.voidptr, types.int64)
_SIGNATURES = {6: types.int32(*_ENTRY), 8: types.int32(*_ENTRY, types.int64, types.int64)}

_compiled: dict[Callable[..., Any], Any] = {}  # kept, as compiled code is gone with what numba makes of it


def address_of(entry: Callable[..., int]) -> int:
    """Where a codec's entry point (see `Step`) lies in this process once it is compiled, which is done at first use."""
    if entry not in _compiled:
        signature = _SIGNATURES[len(inspect.signature(entry).parameters)]
        _compiled.setdefault(entry, numba.cfunc(signature, cache=True)(entry))  # atomic: of two threads, one's is used
    address: int = _compiled[entry].address
    return address


def addresses_in(library: str, *names: str) -> tuple[int, ...] | None:
    """Where the functions of a shared library lie in this process, or None if they cannot be reached."""
    try:
        loaded = ctypes.CDLL(library)
        return tuple(ctypes.cast(getattr(loaded, name), ctypes.c_void_p).value or 0 for name in names)
    except (AttributeError, OSError):
        return None


@intrinsic  # type: ignore[untyped-decorator]
def call(context: Any, function: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """Call a C function of up to eight numbers or pointers at an address, for an unsigned int.

    A function takes no notice of more arguments than it has: the caller removes them.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        pointer = builder.inttoptr(arguments[0], ir.FunctionType(ir.IntType(32), [word] * _ARGUMENTS).as_pointer())
        return builder.zext(builder.call(pointer, arguments[1:]), word)

    return types.int64(*[types.int64] * (_ARGUMENTS + 1)), generate
