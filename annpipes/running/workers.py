"""Functions run ahead of whoever takes their results, in order."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import islice
from types import FrameType
from typing import Any

import torch

from annpipes.errors import ParameterError, WorkerError

__all__ = ["Early", "Workers", "flatten_ahead", "map_ahead", "start_method_of"]

_installed: Callable[[Any], Any] | None = None  # in a worker process: the function it is there for


class Workers:
    """Threads or processes that call one function; none of either if there are to be 0.

    Parameters
    ----------
    function
        What they call. It is sent to a process once, when that starts.
    count
        How many; with 0 the caller does the work when a result is asked for.
    processes
        The start method of processes, or None for threads.
    """

    def __init__(self, function: Callable[[Any], Any], count: int, *, processes: str | None = None) -> None:
        self.function: Callable[[Any], Any] = function
        self.count = count
        self.executor: Executor | None = None
        self._pending: set[Future[Any]] = set()
        if count and processes is None:
            self.executor = ThreadPoolExecutor(count, thread_name_prefix="annpipes")
        elif count:
            context = multiprocessing.get_context(processes)
            self.executor = ProcessPoolExecutor(count, context, initializer=_install, initargs=(function,))
            self.function = _call_installed

    @contextmanager
    def open(self) -> Iterator[Workers]:
        """The workers until the block ends, which then waits for what they have begun.

        It does not if another thread ends it than began it: a pass that was left may be collected as garbage by any
        thread, even by one that a worker waits for.
        """
        opener = threading.current_thread()
        try:
            yield self
        finally:
            self.end(wait=threading.current_thread() is opener)

    def end(self, *, wait: bool = True) -> None:
        """End, having waited for what was begun."""
        if self.executor is not None:
            self.executor.shutdown(wait=wait, cancel_futures=True)

    def settle(self, *, wait: bool = True) -> None:
        """Wait for what was begun; what was not is forgotten."""
        begun = [future for future in list(self._pending) if not future.cancel()]
        if wait:
            wait_for(begun)
        self._pending.clear()

    def begin(self, item: Any) -> Callable[[], Any]:
        """The work on ``item`` begun; call the result to wait for it."""
        if self.executor is None:
            return lambda: self.function(item)
        with _told(), _uninterrupted():
            future = self.executor.submit(self.function, item)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return lambda: _result(future)


@contextmanager
def _told() -> Iterator[None]:
    """Raise errors about a lost worker as a `WorkerError`."""
    try:
        yield
    except BrokenProcessPool as error:
        raise WorkerError(
            "a worker process ended without an error message: it was killed, ran out of memory, or its function "
            "crashed; or this script starts workers without `if __name__ == '__main__':`, so that each does the same"
        ) from error


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """A block that delays interrupts: a pool interrupted while it takes an item would wait for that item forever."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda *told: came.append(told))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            before(*came[0])


def _result(future: Future[Any]) -> Any:
    with _told():
        return future.result()


def _install(function: Callable[[Any], Any]) -> None:
    global _installed
    torch.set_num_threads(1)  # siblings use the other cores
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's, whose traceback is enough
    threading.Thread(target=_end_with_parent, name="annpipes-parent", daemon=True).start()
    _installed = function


def _end_with_parent() -> None:
    """End this process when the one that it works for is gone; a pool's workers would wait forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call_installed(item: Any) -> Any:
    assert _installed is not None
    try:
        return _installed(item)
    except Exception as error:
        failure = _portable(error)
    raise failure  # raised out here, where it has no context, which tblib (installed by Dask) would send along


def _portable(error: Exception) -> Exception:
    """``error``, or one in its place that can be pickled: the pool takes a worker for dead whose error cannot."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes)
    except Exception:
        return WorkerError(f"{type(error).__name__} in a worker process: {error}")
    return error


def map_ahead(workers: Workers, items: Iterable[Any], ahead: int) -> Iterator[Any]:
    """The function's result for each item, in order, with at most ``ahead`` begun and not yet taken."""
    return map(workers.function, items) if workers.executor is None else _begun_ahead(workers, items, ahead)


def _begun_ahead(workers: Workers, items: Iterable[Any], ahead: int) -> Iterator[Any]:
    pending: deque[Callable[[], Any]] = deque()
    for item in items:
        pending.append(workers.begin(item))
        if len(pending) > ahead:
            yield pending.popleft()()
    while pending:
        yield pending.popleft()()


class Early:
    """An item of whose result the first part is handed on while the others are still in the making.

    Whoever works on it calls ``hand_on`` with that part within ``handing_on``, and returns the other parts.
    """

    def __init__(self, item: Any) -> None:
        self.item = item
        self._first: Future[Any] = Future()

    @contextmanager
    def handing_on(self) -> Iterator[Callable[[Any], None]]:
        """The function to call with the first part; if it is never called, the taker gets the error raised instead."""
        try:
            yield self._first.set_result
        except BaseException as error:
            if not self._first.done():
                self._first.set_exception(error)
            raise

    def parts(self, others: Callable[[], Iterable[Any]]) -> Iterator[Any]:
        """All parts, each waited for."""
        yield self._first.result()
        yield from others()


def flatten_ahead(workers: Workers, items: Iterable[Any], ahead: int) -> Iterator[Any]:
    """The parts of each result, in order, with the results of the next ``ahead`` items under way.

    An item may be an `Early` one if workers are threads.

    The next item is begun only when the first part of a result has been taken and another
    one is asked for: by then the taker has let go of the result before, whose memory can be used again.
    The item after it is drawn from ``items`` right then, while workers are busy.
    """
    todo = iter(items)
    upcoming = list(islice(todo, 1))  # at most one
    pending: deque[Callable[[], Iterable[Any]]] = deque()

    def top_up(count: int) -> None:
        while upcoming and len(pending) < count:
            item = upcoming.pop()
            begun = workers.begin(item)
            pending.append(partial(item.parts, begun) if isinstance(item, Early) else begun)
            upcoming.extend(islice(todo, 1))

    top_up(max(1, ahead))
    while pending:
        for part in pending.popleft()():
            yield part
            top_up(ahead)
        top_up(max(1, ahead))


def start_method_of(method: str, context: str | None) -> str | None:
    """How processes start, or None for threads."""
    if method not in ("thread", "process"):
        raise ParameterError(f"method must be 'thread' or 'process', got {method!r}")
    if method == "thread" and context is not None:
        raise ParameterError(f"multiprocessing_context={context!r} needs method='process'")
    if context not in (None, "fork", "spawn", "forkserver"):
        raise ParameterError(f"multiprocessing_context must be 'fork', 'spawn' or 'forkserver', got {context!r}")
    return None if method == "thread" else context or "spawn"
