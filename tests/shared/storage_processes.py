"""Code run where a crash, a hang or a thirst for memory of its own hurts nobody."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import pytest

__all__ = ["bounded", "run_alone", "run_forked"]


def run_alone(function: Callable[..., None], *args: Any, seconds: float = 60) -> None:
    """Call a function in a process of its own; fail if it raises, crashes the interpreter or hangs."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_report, args=(sender, function, args))
    child.start()
    sender.close()
    child.join(seconds)
    hangs = child.is_alive()
    if hangs:
        child.kill()
        child.join()
    try:
        said = receiver.recv()
    except EOFError:  # it had nothing to say
        said = ""
    receiver.close()
    if hangs:
        pytest.fail(f"{function.__name__}{args} hangs")
    if said:
        pytest.fail(f"{function.__name__}{args}\n{said}", pytrace=False)
    if child.exitcode:
        pytest.fail(f"{function.__name__}{args} ended with {signal.Signals(-child.exitcode).name}")


def run_forked(function: Callable[..., None], *args: Any, seconds: float = 60) -> None:
    """As `run_alone`, with nothing but a bare fork, as a library beneath us might do it."""
    child = os.fork()
    if not child:
        status = 1
        try:
            function(*args)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    until = time.monotonic() + seconds
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail(f"{function.__name__} hangs")
        time.sleep(0.005)
    if ended[1]:
        pytest.fail(f"{function.__name__} ended with status {ended[1]}")


def _report(sender: Connection, function: Callable[..., None], args: tuple[Any, ...]) -> None:
    try:
        function(*args)
    except BaseException:  # whatever it is, the parent is to tell
        sender.send(traceback.format_exc())


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """At most ``size`` bytes more than now; beyond that, Python raises MemoryError."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
