"""How the benchmarks measure: in turns, from a known page cache, by medians.

``python benchmarks/measuring.py`` prints the line that says on what machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from types import TracebackType
from typing import Any, TypeVar

from annpipes.stores import core_count
from annpipes.tools import timing as _timing
from annpipes.tools.benching.cases import consume
from annpipes.tools.timing import Times, cached_share, drop, interleaved, sample_rows, warm

__all__ = [
    "THREADS",
    "PeakMemory",
    "Times",
    "cached_share",
    "consume",
    "drop",
    "interleaved",
    "machine",
    "main",
    "memory",
    "sample_rows",
    "warm",
]

Case = TypeVar("Case")

THREADS = core_count()
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


def machine() -> str:
    """Processor, cores, memory, kernel and versions, for the README."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return f"{_timing.machine()}; Linux {platform.release()}, Python {platform.python_version()}, {packages}"


if __name__ == "__main__":
    print(machine())
