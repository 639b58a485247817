"""Loops and threads of their own for bare work, which no change of the readers moves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

import numba
import numpy as np
from numba import types

from annpipes.stores.engine.pools import thread_count

__all__ = ["BareWork", "Task", "Threads", "gather", "overwrite_rows", "read_ranges", "write_rows"]

Task = Callable[[], Any]

_PARTS = 4  # per thread: enough that none waits long for the last one

_memcpy = types.ExternalFunction("memcpy", types.uintp(types.uintp, types.uintp, types.uintp))
_pread = types.ExternalFunction("pread", types.intp(types.intc, types.uintp, types.uintp, types.int64))


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def gather(source: Any, froms: Any, tos: Any, lengths: Any, out: Any) -> None:
    """Bytes copied to their places."""
    for i in range(len(froms)):
        _memcpy(out.ctypes.data + tos[i], source.ctypes.data + froms[i], lengths[i])


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def read_ranges(descriptor: int, froms: Any, lengths: Any, out: Any) -> int:
    """Ranges of a file read one after the other, all into the same memory; how many bytes came."""
    total = 0
    for i in range(len(froms)):
        total += _pread(descriptor, out.ctypes.data, lengths[i], froms[i])
    return total


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def write_rows(data: Any, indices: Any, indptr: Any, start: int, stop: int, out: Any) -> None:
    """CSR rows ``start … stop-1`` written into a zeroed dense array."""
    for i in range(start, stop):
        for j in range(indptr[i], indptr[i + 1]):
            out[i, indices[j]] = data[j]


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def overwrite_rows(data: Any, indices: Any, indptr: Any, start: int, stop: int, out: Any) -> None:
    """As `write_rows`, into memory that was used before."""
    for i in range(start, stop):
        out[i, :] = 0
        write_rows(data, indices, indptr, i, i + 1, out)


class Threads:
    """So many threads that share tasks; as many as decode when ``count`` is None."""

    def __init__(self, count: int | None = None) -> None:
        self.count: int = thread_count() if count is None else count
        self._pool = ThreadPoolExecutor(self.count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def run(self, tasks: Sequence[Task]) -> None:
        """All tasks done, each by whichever thread is free."""
        todo = iter(tasks)  # advancing a list's iterator is atomic

        def work() -> None:
            for task in todo:
                task()

        for working in [self._pool.submit(work) for _ in range(self.count)]:
            working.result()

    def run_chunks(self, chunks: Sequence[Sequence[Task]]) -> None:
        """The tasks of each chunk, one chunk after the other."""
        for tasks in chunks:
            self.run(tasks)

    def run_for(self, tasks: Sequence[Task], seconds: float) -> tuple[int, float]:
        """What tasks returned, added up, until the time was over; and the seconds that it took."""
        returned: list[int] = []
        begin = time.perf_counter()

        def bounded(task: Task) -> None:
            if not returned or time.perf_counter() - begin < seconds:
                returned.append(task())

        self.run([partial(bounded, task) for task in tasks])
        return sum(returned), time.perf_counter() - begin

    def split(self, count: int) -> list[slice]:
        """``count`` things in nearly equal parts, a few for each thread."""
        edges = np.linspace(0, count, _PARTS * self.count + 1, dtype=int).tolist()
        return [slice(*edge) for edge in pairwise(edges)]


@dataclass(frozen=True, eq=False)
class BareWork:
    """Tasks for each chunk, and how many bytes they decode, copy or read.

    Parameters
    ----------
    name
        ``decode``, ``copy``, ``hdf5``, ``zarr``, ``densify``, ``disk`` or ``network``.
    what
        The same in words.
    quick
        Of decoding: whether no other codec would be decoded much faster.
    at_once
        How many threads it takes, of work that waits; None of work for those that decode.
    """

    name: str
    what: str
    tasks: Sequence[Sequence[Task]]
    n_bytes: int
    quick: bool = False
    at_once: int | None = None
