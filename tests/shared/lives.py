"""Programs that begin, are killed and begin again, each a life."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["Life", "Nursery"]


class Life:
    """A program that was begun, in a process group of its own."""

    def __init__(self, pid: int, said: Any) -> None:
        self.pid = pid
        self._said = said
        self._code: int | None = None

    def ended(self, seconds: float = 0) -> bool:
        """Whether it has ended, or does so within that time."""
        return self._code is not None or bool(select.select([self._said], [], [], seconds)[0])

    def code(self, seconds: float = 90) -> int:
        """Its exit code, negative for a signal; it fails a test if it takes longer."""
        hangs = not self.ended(seconds)
        code = self.kill()
        assert not hangs, "the program hangs"
        return code

    def kill(self) -> int:
        """Its exit code; nothing that it started is left afterwards."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        if self._code is None:
            self._code = int(self._said.readline())
        return self._code


class Nursery:
    """Begins programs, one after another, from a process that has imported annpipes once (see ``nursery.py``)."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).parent / "nursery.py")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Nursery]:
        """One until the block ends; the life that is running then ends with it."""
        nursery = cls()
        try:
            yield nursery
        finally:
            nursery._process.communicate()

    def begin(self, script: Path, *args: Any) -> Life:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(script), *map(str, args)]).encode() + b"\n")
        return Life(int(self._process.stdout.readline()), self._process.stdout)
