"""The command as a person at a terminal sees it."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios
from contextlib import suppress

__all__ = ["on_a_terminal"]


def on_a_terminal(*arguments: str, columns: int = 80, **environment: str) -> tuple[str, int]:
    """What a person sees of the command, and its exit code."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "annpipes", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**clean, "TERM": "xterm", **environment},
    )
    os.close(theirs)
    seen = b""
    with suppress(OSError):  # Linux's word for the end of a terminal
        while read := os.read(ours, 4096):
            seen += read
    os.close(ours)
    return seen.decode().replace("\r\n", "\n").removesuffix("\x1b[0m"), process.wait()  # the last one is numba's
