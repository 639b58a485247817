"""Processes that live from pass to pass, because starting them takes seconds."""

from __future__ import annotations

import os
import pickle
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread
from typing import Any

from annpipes.errors import WorkerError
from annpipes.running.workers import Workers

__all__ = ["ProcessPool"]


class ProcessPool:
    """The processes of a Loader, from its first pass on; they end with it, and after one of them was lost.

    It pickles as an empty one, and a process that was forked starts its own.
    """

    def __init__(self) -> None:
        self._workers: Workers | None = None
        self._known: tuple[Any, ...] = ()  # what the workers were made of
        self._busy = False

    def __reduce__(self) -> tuple[type[ProcessPool], tuple[()]]:
        return ProcessPool, ()

    @contextmanager
    def open(self, function: Callable[[Any], Any], count: int, processes: str) -> Iterator[Workers]:
        """Workers that call a function until the block ends, which waits for what they have begun."""
        content = _pickled(function, processes)
        if self._busy or content is None:  # a second pass at the same time; or what can only be inherited
            with Workers(function, count, processes=processes).open() as workers:
                yield workers
            return
        known = os.getpid(), content
        if self._workers is None or known != self._known:
            self.close()
            self._workers, self._known = Workers(function, count, processes=processes), known
            weakref.finalize(self, _end, self._workers, os.getpid())
        self._busy, opener = True, current_thread()
        try:
            yield self._workers
        except WorkerError:
            self.close()
            raise
        finally:
            self._busy = False
            if self._workers is not None:
                self._workers.settle(wait=current_thread() is opener)  # as in `Workers.open`

    def close(self) -> None:
        """End the processes, if there are any."""
        workers, self._workers = self._workers, None
        if workers is not None:
            _end(workers, self._known[0])


def _end(workers: Workers, owner: int) -> None:
    if os.getpid() == owner:  # a fork has none of these processes
        workers.end()


def _pickled(function: Callable[[Any], Any], processes: str) -> bytes | None:
    """What a function is recognised by and sent as; None if it can only be inherited by a fork.

    Raises
    ------
    WorkerError
        Processes that are spawned could not find what was defined in a notebook.
    """
    try:
        content = pickle.dumps(function)
    except Exception:
        if processes == "fork":
            return None
        raise
    if processes != "fork" and b"__main__" in content and not hasattr(sys.modules["__main__"], "__file__"):
        raise WorkerError(
            "a transform or function that was defined in a notebook cannot be found by processes that are spawned: put "
            "it into a module and import it, or use threads (the default method), or multiprocessing_context='fork'"
        )
    return content
