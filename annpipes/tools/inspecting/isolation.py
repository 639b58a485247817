"""A check done in a process of its own, so that HDF5, where damage crashes it, ends that one alone."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from annpipes.errors import WorkerError
from annpipes.messages.progress import Progress
from annpipes.stores import Damage, Found, Remote, check_file

__all__ = ["CrashError", "apart", "check_apart"]

_ENDING_SECONDS = 5


def check_apart(path: str | Remote, progress: Progress) -> Found:
    """As `check_file`; a crash is damage to the file."""
    try:
        found: Found = apart(check_file, path, progress=progress)
    except CrashError as error:
        found = Found((Damage("file", f"reading it crashes HDF5 ({error})"),), (), (), 0)
    return found


class CrashError(Exception):
    """A signal ended the process; ``str`` says which."""


def apart(function: Callable[..., Any], *arguments: Any, progress: Progress) -> Any:
    """What ``function(*arguments, progress)`` returns or raises, there.

    A crash raises `CrashError`, any other end without an answer `WorkerError`. The process is spawned: a script must
    guard its own work by ``__name__ == "__main__"``.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, function, arguments), daemon=True)
    process.start()
    there.close()  # or a crash would not end the pipe
    try:
        while True:
            kind, content = here.recv()
            if kind == "answer":
                process.join(_ENDING_SECONDS)  # by itself, so that it clears up
                return content
            if kind == "error":
                raise content
            progress(*content)
    except EOFError:
        process.join()
        raise _ending(process.exitcode or 0) from None
    finally:
        process.terminate()
        process.join()
        here.close()


def _answer(there: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        answer = ("answer", function(*arguments, lambda done, total: there.send(("progress", (done, total)))))
    except Exception as error:
        answer = ("error", error)
    there.send(answer)


def _ending(code: int) -> Exception:
    if code < 0:
        return CrashError(f"signal {-code}")
    return WorkerError(
        f"the process that checks a file ended with exit code {code}: a script that calls check(own_process=True) "
        f"must do so under `if __name__ == '__main__':`"
    )
