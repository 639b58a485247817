"""A program that makes requests for this process, which was forked off one that has used obstore."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any

from annpipes.stores.bytes import calls

__all__ = ["call_there"]

_helpers: dict[int, Helper] = {}  # by process


def call_there(*arguments: Any) -> tuple[bool, Any]:
    """As `calls.call`, in the program that this process has for it."""
    process = os.getpid()
    if process not in _helpers:
        _helpers.clear()
        _helpers[process] = Helper()
    return _helpers[process].call(*arguments)


class Helper:
    """The program, which ends with this process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", calls.__file__, str(theirs.fileno())]
            self.program: subprocess.Popen[bytes] = subprocess.Popen(command, pass_fds=[theirs.fileno()])  # noqa: S603 (our own)
        self.connection: Connection[Any, Any] = Connection(ours.detach())
        self.lock: threading.Lock = threading.Lock()
        self.waiting: dict[int, Future[tuple[bool, Any]]] = {}
        self.number: int = 0
        threading.Thread(target=self._receive, daemon=True, name="annpipes-requests").start()

    def call(self, *arguments: Any) -> tuple[bool, Any]:
        """What the program answers."""
        answer: Future[tuple[bool, Any]] = Future()
        with self.lock:
            self.number += 1
            self.waiting[self.number] = answer
            try:
                self.connection.send((self.number, arguments))
            except OSError:
                return False, ("HelperError", "the program that makes requests for a forked process has ended")
        return answer.result()

    def _receive(self) -> None:
        while True:
            try:
                number, found = self.connection.recv()
            except (EOFError, OSError):
                for waiting in list(self.waiting.values()):
                    waiting.set_result((False, ("HelperError", "the program that makes requests has ended")))
                _helpers.pop(os.getpid(), None)  # another is started for what is asked next
                return
            self.waiting.pop(number).set_result(found)
