"""A file mapped into memory, in which a lost page reads as zeros and is reported, and does not end the process.

Touching a mapped page beyond the end of its file (another process has cut the file off), or one that the disk
cannot deliver, raises the signal SIGBUS. A compiled handler puts zeros in place of such a file and notes it;
whoever reads a mapping asks afterwards whether that happened (`Mapping.lost`). libwayland guards its clients' memory
in the same way (wl_shm_buffer_begin_access). Signals that concern no file of ours go to the handler that was there
before.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import signal
import sys
from collections import deque
from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["Mapping", "can_map"]

# What the handler knows, in words of 8 bytes: the action that was there before, the default action (zeros),
# how many signals it passed on, and for each mapping its first address, its end, and whether it was lost.
_PREVIOUS, _DEFAULT, _PASSED, _FIRST = 0, 32, 63, 64
_BEGIN, _END, _LOST = 0, 1, 2
_WIDTH, _SLOTS = 3, 1024
_WORDS = _FIRST + _WIDTH * _SLOTS
_table = np.zeros(_WORDS, np.int64)
_free = deque(range(_FIRST, _WORDS, _WIDTH))  # its methods are atomic: no lock, which a fork might leave held

_SYMBOL = "annpipes_mapped_ranges"  # compiled code that is cached on disk finds the table of its process by this name
_ZEROS = 0x10 | 0x02 | 0x20  # MAP_FIXED, MAP_PRIVATE and MAP_ANONYMOUS of Linux
_OPTIONS = 0x4 | 0x08000000 | 0x10000000  # SA_SIGINFO, SA_ONSTACK and SA_RESTART of Linux
_FAILED = np.uint64(2**64 - 1)

_mmap = types.ExternalFunction(
    "mmap", types.uintp(types.uintp, types.uintp, types.intc, types.intc, types.intc, types.intp)
)
_sigaction = types.ExternalFunction("sigaction", types.intc(types.intc, types.uintp, types.uintp))
_raise = types.ExternalFunction("raise", types.intc(types.intc))


class _Action(ctypes.Structure):
    """``struct sigaction`` of glibc and musl on 64-bit Linux."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class Mapping(mmap.mmap):
    """All bytes of an open file, to be read; guarded until the last array over it is gone.

    Parameters
    ----------
    descriptor
        Of the file, which may be closed afterwards.
    """

    _slot: int | None

    def __new__(cls, descriptor: int) -> Mapping:
        """Mapped and guarded; an `OSError` if all places of guarded files are taken."""
        self = super().__new__(cls, descriptor, 0, prot=mmap.PROT_READ)
        self._slot = None
        try:
            slot = _free.popleft()
        except IndexError:
            raise OSError("too many files are mapped") from None
        first = self.bytes().ctypes.data
        _table[slot + _LOST] = 0
        _table[slot + _END] = first + -(-len(self) // mmap.PAGESIZE) * mmap.PAGESIZE
        _table[slot + _BEGIN] = first
        self._slot = slot
        return self

    def __del__(self) -> None:
        if self._slot is not None:  # before these addresses belong to somebody else
            _table[self._slot + _BEGIN] = _table[self._slot + _END] = 0
            _free.append(self._slot)

    def bytes(self) -> NDArray[np.uint8]:
        """The bytes; they keep the mapping alive."""
        return np.frombuffer(self, np.uint8)

    @property
    def lost(self) -> bool:
        """Whether some page could not be read, since when all bytes are zeros."""
        return self._slot is not None and bool(_table[self._slot + _LOST])


def can_map() -> bool:
    """Whether this system is one on which a mapping can be guarded, and the handler is in its place."""
    action = _handler()
    if action is None:
        return False
    sigaction, current = _libc().sigaction, _Action()
    sigaction(signal.SIGBUS, None, ctypes.byref(current))
    if current.handler != action.handler:  # never set, or taken by somebody else, such as a DataLoader's worker
        ctypes.memmove(_table.ctypes.data + 8 * _PREVIOUS, ctypes.byref(current), ctypes.sizeof(current))
        _table[_PASSED] = 0
        sigaction(signal.SIGBUS, ctypes.byref(action), None)
    return True


@lru_cache(1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


@lru_cache(1)
def _handler() -> _Action | None:
    """The handler to be put into its place, once it has shown that it works."""
    known = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64") and sys.maxsize > 2**32
    if not known:
        return None
    llvm.add_symbol(_SYMBOL, _table.ctypes.data)
    signature = types.void(types.intc, types.CPointer(types.int64), types.uintp)
    address = numba.cfunc(signature, cache=True)(_on_bus_error).address
    return _Action(address, flags=_OPTIONS) if _works(address) else None


def _works(address: int) -> bool:
    """Whether the handler puts zeros in place of a page of ours, for which it is called by hand."""
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page[:] = b"\1" * mmap.PAGESIZE
    content = np.frombuffer(page, np.uint8)
    place = int(content.ctypes.data)
    slot = _free.popleft()
    _table[slot : slot + _WIDTH] = place, place + mmap.PAGESIZE, 0
    info = np.array([signal.SIGBUS, 2, place + 5, 0], np.int64)  # siginfo_t: si_code BUS_ADRERR, then si_addr
    call = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(address)
    call(signal.SIGBUS, info.ctypes.data, None)
    works = bool(_table[slot + _LOST] == 1 and not content.any())
    _table[slot : slot + _WIDTH] = 0
    _free.append(slot)
    return works


@intrinsic  # type: ignore[untyped-decorator]
def _ranges(context: Any) -> Any:
    """The table's address, found by its name when compiled code is loaded."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = builder.module.globals.get(_SYMBOL)
        return ir.GlobalVariable(builder.module, ir.IntType(64), _SYMBOL) if found is None else found

    return types.CPointer(types.int64)(), generate


def _on_bus_error(number: int, info: Any, context: int) -> None:
    """Called by the kernel in the thread that touched a page, perhaps in the middle of anything: only system calls."""
    table, words = carray(_ranges(), (_WORDS,)), carray(info, (3,))
    address = words[2]  # si_addr
    for slot in range(_FIRST, _WORDS, _WIDTH):
        begin, end = table[slot + _BEGIN], table[slot + _END]
        if begin <= address < end:
            table[slot + _LOST] = 1  # before anybody can read a zero
            if _mmap(begin, end - begin, mmap.PROT_READ, _ZEROS, -1, 0) != _FAILED:
                return
    # Not ours: the instruction is done again under the previous action. If that comes back to us, as
    # faulthandler's would forever, under the default one.
    passed = table[_PASSED]
    table[_PASSED] = passed + 1
    _sigaction(number, table.ctypes.data + 8 * (_PREVIOUS if passed == 0 else _DEFAULT), 0)
    if np.int32(words[1] & 0xFFFFFFFF) <= 0:  # si_code: sent by kill or raise, which no instruction would repeat
        _raise(number)
