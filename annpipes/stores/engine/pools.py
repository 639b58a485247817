"""Threads and memory that a process uses again and again."""

from __future__ import annotations

import math
import multiprocessing
import os
import threading
import weakref
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import ParameterError
from annpipes.meters import active_meter, metering

__all__ = ["DISK_REQUESTS", "Work", "begin", "core_count", "empty", "reading", "run", "thread_count"]

_SMALL = 1 << 20
_KEPT = 8
_IN_FLIGHT = 1 << 30
DISK_REQUESTS = 16
"""How many a disk is given at once."""

_MOST_REQUESTS = 128  # to a server, of all that is read at the same time

# By process id, as threads do not survive a fork; then by how many threads there may be.
_executors: dict[int, dict[int, ThreadPoolExecutor]] = {}
_free: deque[NDArray[np.uint8]] = deque(maxlen=_KEPT)


class LeftError(Exception):
    """The rows that were being read are no longer wanted."""


class _Here(threading.local):
    count: int | None = None  # what was chosen for what this thread reads
    left: threading.Event | None = None  # set when that is no longer wanted


_here = _Here()


@contextmanager
def reading(count: int | None, left: threading.Event) -> Iterator[None]:
    """Let so many threads decode what this one reads until the block ends; as many as otherwise when None.

    Raises
    ------
    LeftError
        The event was set before all was done.
    """
    before = _here.count, _here.left
    _here.count, _here.left = count, left
    try:
        yield
    finally:
        _here.count, _here.left = before


def thread_count() -> int:
    """How many threads decode.

    What `reading` says, or ``ANNPIPES_NUM_THREADS``; else all cores, shared with the other ranks that torchrun
    has started on this machine; one in a worker process, which has siblings.

    Raises
    ------
    ParameterError
        One of the environment's variables is no number of threads or ranks.
    """
    if _here.count is not None:
        return _here.count
    if (chosen := _from_environment("ANNPIPES_NUM_THREADS")) is not None:
        return chosen
    if multiprocessing.parent_process():
        return 1
    return max(1, core_count() // (_from_environment("LOCAL_WORLD_SIZE") or 1))


def _from_environment(name: str) -> int | None:
    given = os.environ.get(name)
    if not given:
        return None
    if not given.strip().isdecimal() or int(given) < 1:
        raise ParameterError(f"{name} must be a whole number of at least 1, got {given!r}")
    return int(given)


def core_count() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and Windows


Guard = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Work:
    """Independent tasks.

    Parameters
    ----------
    tasks
        Functions without arguments or results, in the order to begin them.
    task_bytes
        Working memory of one task: no more run at once than fit into 1 GiB.
    at_once
        How many of them wait for a disk or a server, which serves many requests at once; 0 if they wait for a core.
    guards
        Blocks to be open while they run, and to be left before anybody uses what they made.
    around
        Blocks around all guards, which see what these raise.
    quick
        Whether all of it takes less time than waking a thread.
    n_first
        How many of the tasks make what is wanted before the rest; all when None.
    """

    tasks: Sequence[Callable[[], None]]
    task_bytes: int = 0
    at_once: int = 0
    guards: Sequence[Guard] = ()
    around: Sequence[Guard] = ()
    quick: bool = False
    n_first: int | None = None

    @classmethod
    def in_turn(cls, first: Work, rest: Work) -> Work:
        """Two as one, of which the first makes what is wanted first."""
        return replace(cls.joined([first, rest]), n_first=len(first.tasks))

    def split(self) -> tuple[Work, Work]:
        """What makes that which is wanted first, and the rest."""
        first, rest = self.tasks[: self.n_first], () if self.n_first is None else self.tasks[self.n_first :]
        return replace(self, tasks=first, n_first=None), replace(self, tasks=rest, n_first=None)

    @classmethod
    def joined(cls, works: Sequence[Work]) -> Work:
        """Several as one."""
        return cls(
            [task for work in works for task in work.tasks],
            max((work.task_bytes for work in works), default=0),
            max((work.at_once for work in works), default=0),
            [guard for work in works for guard in work.guards],
            [guard for work in works for guard in work.around],
            all(work.quick for work in works),
        )

    @property
    def threads(self) -> int:
        """How many tasks to run at once."""
        return min(self.at_once or thread_count(), max(1, _IN_FLIGHT // (self.task_bytes or 1)), _MOST_REQUESTS)


def run(*works: Work) -> None:
    """Run all tasks in this thread and its helpers; the first error is raised once all have stopped."""
    busy = [work for work in works if work.tasks]
    guards = [guard for work in busy for guard in work.around] + [guard for work in busy for guard in work.guards]
    with ExitStack() as stack:
        for guard in dict.fromkeys(guards):  # each one once
            stack.enter_context(guard())
        _run(works)


def begin(*works: Work) -> Callable[[], None]:
    """Run the tasks that are wanted first; call the result to run the rest."""
    parts = [work.split() for work in works]
    run(*(first for first, _ in parts))
    return partial(run, *(rest for _, rest in parts if rest.tasks))


def _run(works: Sequence[Work]) -> None:
    tasks = [task for work in works for task in work.tasks]
    waiting, slow = any(work.at_once for work in works), [work.threads for work in works if not work.quick]
    threads = min(len(tasks), (max if waiting else min)(slow, default=1))
    todo, left, meter = iter(tasks), _here.left, active_meter()  # advancing a list's iterator is atomic

    def work() -> None:
        with metering(meter):
            for task in todo:
                if left is not None and left.is_set():
                    raise LeftError
                task()

    if threads <= 1:
        work()
        return
    executor = _executor(DISK_REQUESTS if threads <= DISK_REQUESTS else _MOST_REQUESTS)
    helpers = [executor.submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        errors = [helper.exception() for helper in helpers]  # waits: they write into our arrays
    for error in filter(None, errors):
        raise error


def _executor(threads: int) -> ThreadPoolExecutor:
    process = os.getpid()
    if process not in _executors:
        _executors.clear()
        _executors[process] = {}
    pools = _executors[process]
    if threads not in pools:
        pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="annpipes-decode")
    return pools[threads]


def empty(shape: int | tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array with any content, in memory that was used before where possible.

    A fresh large array costs a page fault for every 4 KiB and the zeroing of each page, about
    as much as filling it. So memory comes back here when the last array over it is gone,
    and as many pieces are kept as were once in use together, eight at most.
    """
    sides = shape if isinstance(shape, tuple) else (shape,)
    size = math.prod(map(int, sides)) * np.dtype(dtype).itemsize
    if size < _SMALL:
        return np.empty(shape, dtype)
    memory = _recycled(size)
    array = np.frombuffer(memory.data, np.uint8, size)  # its base is no array, so views keep `array` alive
    weakref.finalize(array, _free.append, memory).atexit = False
    view: NDArray[Any] = array.view(dtype).reshape(shape)
    return view


def _recycled(size: int) -> NDArray[np.uint8]:
    kept: list[NDArray[np.uint8]] = []
    while True:  # without a lock: a finalizer may run anywhere, even in a thread that holds one
        try:
            kept.append(_free.popleft())
        except IndexError:
            break
    kept.sort(key=len)
    place = bisect_left(kept, size, key=len)
    fitting = kept.pop(place) if place < len(kept) else None
    if fitting is None:
        del kept[-1:]  # outgrown, and replaced by what comes back in the end
    _free.extend(kept)
    return np.empty(size + size // 8, np.uint8) if fitting is None else fitting  # the next chunk may be a little larger
