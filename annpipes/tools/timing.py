"""How speed is measured: in turns, from a known page cache, by medians."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.plans.rows import RowArray, join_ranges
from annpipes.stores import core_count, files_below

__all__ = [
    "Times",
    "available_memory",
    "cached_share",
    "drop",
    "interleaved",
    "known_share",
    "machine",
    "sample_rows",
    "warm",
]

_BUFFER = 16 << 20


class Times:
    """Seconds of several contenders that took turns.

    >>> times = Times({"ours": [1.0, 3.0, 2.0], "theirs": [4.0, 9.0, 4.0]})
    >>> times.rate("ours", 100), times.rates("ours", 100), times.speed("ours", "theirs")
    (50.0, (33.333333333333336, 100.0), 2.0)

    Parameters
    ----------
    seconds
        By contender, one number for each turn.
    """

    def __init__(self, seconds: Mapping[str, Sequence[float]]) -> None:
        self.seconds = seconds

    def rate(self, contender: str, amount: float) -> float:
        """``amount`` per second, by the median turn."""
        return amount / median(self.seconds[contender])

    def rates(self, contender: str, amount: float) -> tuple[float, float]:
        """``amount`` per second in the slowest and in the fastest turn."""
        return amount / max(self.seconds[contender]), amount / min(self.seconds[contender])

    def speed(self, contender: str, reference: str) -> float:
        """How many times as fast as ``reference``, by the median turns."""
        return median(self.seconds[reference]) / median(self.seconds[contender])

    def spread(self, contender: str, reference: str) -> list[float]:
        """The least and the greatest speed of any one turn, which tells how far to trust the median."""
        pairs = zip(self.seconds[contender], self.seconds[reference], strict=True)
        speeds = [other / own for own, other in pairs]
        return [min(speeds), max(speeds)]


def interleaved(
    contenders: Mapping[str, Callable[[], Any]], turns: int, before: Callable[[], Any], *, discarded: int = 1
) -> Times:
    """Times of contenders called A, B, A, B, …, each after ``before``, which is not timed.

    First rounds are ``discarded``: one compiles, opens files and fills tables.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns + discarded):
        for name, call in contenders.items():
            before()
            seconds[name].append(seconds_of(call))
    return Times({name: taken[discarded:] for name, taken in seconds.items()})


def seconds_of(call: Callable[[], Any]) -> float:
    """How long a call takes; never zero, so that it can be divided by."""
    begin = time.perf_counter()
    call()
    return max(time.perf_counter() - begin, 1e-9)


def warm(path: str | os.PathLike[str], until: float = math.inf) -> None:
    """Have a file, or all in a folder, in the page cache.

    As much of it as can be read ``until`` that time of `time.perf_counter`. Some kernels empty the cache after
    seconds (DAMON), so do it often.
    """
    buffer = memoryview(bytearray(_BUFFER))
    for name in files_below(path):
        with open(name, "rb", buffering=0) as file:
            while time.perf_counter() < until and file.readinto(buffer):
                pass


def drop(path: str | os.PathLike[str]) -> None:
    """Have none of a file, or of all in a folder, in the page cache, as far as the kernel listens."""
    for name in files_below(path):
        with open(name, "rb") as file:
            if hasattr(os, "posix_fadvise") and hasattr(os, "POSIX_FADV_DONTNEED"):
                os.fsync(file.fileno())  # a page that was never written out is kept
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_share(path: str | os.PathLike[str]) -> float:
    """The share of a file, or of all in a folder, that is in the page cache, by ``mincore(2)``, which reads nothing."""
    files = [name for name in files_below(path) if os.path.getsize(name)] or [os.fspath(path)]
    pages = [_resident(name) for name in files]
    return float(np.concatenate(pages).mean())


def _resident(path: str) -> NDArray[np.uint8]:
    """For each page of a file whether it is in the page cache; shape ``(pages,)``."""
    with open(path, "rb") as file:
        content = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    resident = np.zeros(-(-len(content) // mmap.PAGESIZE), np.uint8)
    address, length = ctypes.c_void_p(content.ctypes.data), ctypes.c_size_t(len(content))
    if ctypes.CDLL(None).mincore(address, length, ctypes.c_void_p(resident.ctypes.data)):
        raise OSError("mincore failed")
    return resident & np.uint8(1)


def known_share(path: str | os.PathLike[str]) -> float | None:
    """As `cached_share`; None where the system cannot tell."""
    try:
        return cached_share(path)
    except (OSError, AttributeError, TypeError, ValueError):  # no mincore, or an empty file
        return None


def sample_rows(n_obs: int, block: int, count: int) -> RowArray:
    """About ``count`` rows of a file as whole blocks at random places: as sparse as any chunk of a full epoch.

    >>> sample_rows(10, 4, 6)
    array([8, 9, 0, 1, 2, 3])
    """
    firsts = np.random.default_rng(0).permutation(-(-n_obs // block))[: -(-count // block)] * block  # (blocks,)
    return join_ranges(firsts, np.minimum(block, n_obs - firsts))


def machine() -> str:
    """Processor, cores and memory, as far as the system tells."""
    known = [_processor(), f"{core_count()} cores"]
    with suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        known.append(f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB")
    return ", ".join(known)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as info:
            names = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def available_memory() -> int | None:
    """Bytes that programs and the page cache can still have; None where the system does not tell."""
    try:
        with open("/proc/meminfo") as info:
            fields = dict(line.split(":", 1) for line in info)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return None
