"""How the benchmarks measure: in turns, from a known page cache, by medians.

``python benchmarks/measuring.py`` prints the line that says on what machine.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Case = TypeVar("Case")

THREADS = len(os.sched_getaffinity(0))
_PACKAGES = ("torch", "anndata", "h5py", "numpy", "numba", "isal")


def main(cases: Mapping[str, Case], measure: Callable[[Case, bool], Mapping[str, Any]], about: str) -> None:
    """Print one JSON line for each case; each runs in a process of its own, so that none inherits memory."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small files and few repeats: does it run?")
    parser.add_argument("--case", choices=cases, help="only this one")
    options = parser.parse_args()
    if options.case is not None:
        measured = _rounded(measure(cases[options.case], options.quick))
        print(json.dumps({"case": options.case, **measured}, ensure_ascii=False), flush=True)
        return
    for name in cases:
        subprocess.run([sys.executable, *sys.argv, "--case", name], check=True)


def _rounded(value: Any) -> Any:
    """Numbers to three digits: more would be noise."""
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_rounded(part) for part in value]
    if not isinstance(value, float):
        return value
    short = float(f"{value:.3g}")
    return int(short) if short.is_integer() else short


class Times:
    """Seconds of several contenders that took turns.

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

    def speed(self, contender: str, reference: str) -> float:
        """How many times as fast as ``reference``, by the median turns."""
        return median(self.seconds[reference]) / median(self.seconds[contender])

    def spread(self, contender: str, reference: str) -> list[float]:
        """The least and the greatest speed of any one turn, which tells how far to trust the median."""
        pairs = zip(self.seconds[contender], self.seconds[reference], strict=True)
        speeds = [other / own for own, other in pairs]
        return [min(speeds), max(speeds)]


def interleaved(contenders: Mapping[str, Callable[[], Any]], turns: int, before: Callable[[], Any]) -> Times:
    """Times of contenders called A, B, A, B, …, each after ``before``, which is not timed.

    A first round is thrown away: it compiles, opens files and fills tables.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns + 1):
        for name, call in contenders.items():
            before()
            begin = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begin)
    return Times({name: taken[1:] for name, taken in seconds.items()})


def warm(path: Path) -> None:
    """Have all of a file in the page cache. Some kernels empty it after seconds (DAMON), so do it often."""
    buffer = memoryview(bytearray(16 << 20))
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def drop(path: Path) -> None:
    """Have none of a file in the page cache, as far as the kernel listens."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())  # a page that was never written out is kept
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_share(path: Path) -> float:
    """The share of a file that is in the page cache, by ``mincore(2)``, which reads nothing."""
    with open(path, "rb") as file:
        content = np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), np.uint8)
    resident = np.zeros(-(-len(content) // mmap.PAGESIZE), np.uint8)  # (pages,)
    address, length = ctypes.c_void_p(content.ctypes.data), ctypes.c_size_t(len(content))
    if ctypes.CDLL(None).mincore(address, length, ctypes.c_void_p(resident.ctypes.data)):
        raise OSError("mincore failed")
    return float((resident & 1).mean())


def memory() -> dict[str, float]:
    """Memory of the running process in MB: anonymous, mapped from files, and the most that it was in all.

    The most is that of this program alone; ``ru_maxrss`` may be that of the one that started it.
    """
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    names = {"rss_anon_mb": "RssAnon", "rss_file_mb": "RssFile", "max_rss_mb": "VmHWM"}
    return {name: int(fields[field].split()[0]) * 1024 / 1e6 for name, field in names.items()}


class PeakMemory:
    """The most memory of each kind between entering and leaving, looked at every few milliseconds."""

    def __enter__(self) -> PeakMemory:
        self.before = self.peak = memory()
        self._left = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._left.set()
        self._watcher.join()

    def _watch(self) -> None:
        while True:
            last = self._left.wait(0.005)
            self.peak = {name: max(value, self.peak[name]) for name, value in memory().items()}
            if last:
                return

    def above(self) -> dict[str, float]:
        """How much more than on entering."""
        total = self.before["rss_anon_mb"] + self.before["rss_file_mb"]
        before = {**self.before, "max_rss_mb": total}
        return {name: self.peak[name] - before[name] for name in self.peak}


def sample_rows(n_obs: int, block: int, count: int) -> NDArray[np.int64]:
    """About ``count`` rows of a file as whole blocks at random places: as sparse as any chunk of a full epoch."""
    firsts = np.random.default_rng(0).permutation(n_obs // block)[: count // block] * block  # (blocks,)
    return (firsts[:, None] + np.arange(block)).ravel()


def consume(loader: Any) -> int:
    """The number of cells in one pass, always over the same epoch."""
    loader.set_epoch(0)
    return sum(batch["X"].shape[0] for batch in loader)


def machine() -> str:
    """Processor, cores, memory, kernel and versions, for the README."""
    with open("/proc/cpuinfo") as info:
        model = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), platform.machine())
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{model}, {THREADS} cores, {gigabytes:.0f} GB; {system}, {packages}"


if __name__ == "__main__":
    print(machine())
