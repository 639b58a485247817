"""Programs that run one after the other in two processes of one torchrun, and what each process reports of each."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from torch import distributed

__all__ = ["code_of", "run_alone", "run_in_two"]

PAGES = Path(__file__).parent.parent.parent / "docs" / "integrations"


def code_of(page: str) -> str:
    """The code blocks of a page, as one program."""
    return "\n\n".join(re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(), re.DOTALL))


def run_in_two(folder: Path, *programs: list[str]) -> list[tuple[Any, Any]]:
    """What each program, given with its arguments, has as ``report`` in the end, by rank; they run in that folder."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run_alone(folder, *launcher, __file__, json.dumps([*zip(free_ports(len(programs)), programs, strict=True)]))
    left, right = (json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2))
    return [*zip(left, right, strict=True)]


def run_alone(folder: Path, *arguments: str, seconds: float = 250) -> str:
    """What a program of Python says, which ends in time and well."""
    job = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    said = hangs = None
    try:
        said = job.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGTERM)  # upon which torchrun ends its ranks, which lead groups of their own
        with suppress(subprocess.TimeoutExpired):
            hangs = job.communicate(timeout=40)[0]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)  # what the job started, too
    if said is None:
        pytest.fail(f"the job hangs: {hangs}")
    assert job.returncode == 0, said
    return str(said)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody uses right now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def main(programs: list[tuple[int, list[str]]]) -> None:
    finished = []  # and kept: who lets go of a model waits for gloo's threads, which may wait for Python's lock
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"
    for port, program in programs:
        # A store for each: in that of torchrun, ranks would find addresses of the program before, and wait forever.
        os.environ["MASTER_PORT"] = str(port)
        sys.argv[:] = program
        finished.append(runpy.run_path(program[0], run_name="__main__"))
    reports = [left.get("report") for left in finished]
    Path(f"rank-{os.environ['RANK']}.json").write_text(json.dumps(reports))
    if distributed.is_initialized():
        distributed.destroy_process_group()
    # Gloo's threads outlive their group. One that lets go of a tensor while Python ends aborts the process:
    # https://github.com/pytorch/pytorch/pull/179291
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
