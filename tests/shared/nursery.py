"""A program that has imported annpipes and begins others by forking: they are as new as any, and seconds sooner.

It reads one line for each program, ``["SCRIPT", "ARGUMENT", …]`` as JSON, and writes two: its process's number when
it begins, its exit code when it has ended. Each leads a process group of its own.
"""

from __future__ import annotations

import json
import os
import runpy
import sys

import annpipes

for name in annpipes.__all__:
    getattr(annpipes, name)  # imports what it comes from, which takes seconds


def main() -> None:
    for line in sys.stdin:
        script, *args = json.loads(line)
        child = os.fork()
        if not child:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)  # whoever reads our output waits for exit codes
            sys.argv, sys.path[0] = [script, *args], os.path.dirname(script)
            runpy.run_path(script, run_name="__main__")
            return
        print(child, flush=True)  # noqa: T201 (whoever started this reads it)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
