"""Begin a pass and leave it in one of the ways in which a program ends: ``leave.py FILE WAY OPTIONS``."""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Any

from annpipes import stream


def main(path: str, way: str, options: str) -> Any:
    loader = stream(path, 4, fields=["X", "rows"], block_size=4, chunk_size=8, **json.loads(options))
    running = iter(loader)
    next(running)
    print("begun", flush=True)  # noqa: T201 (whoever started this waits for it)
    if way == "raise":
        raise ZeroDivisionError("in the loop's body")
    if way == "wait":
        for _ in running:
            time.sleep(1)
    return running


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs tests in the background has it ignored
    abandoned = main(*sys.argv[1:])
