"""A training that is killed ten times sees what one sees that is never killed: promise 4."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import tiny, write
from jobs.train import EPOCHS, GLOBAL_BATCH, learn, loaders_of
from passes import living

N = 997
"""Neither batches nor blocks nor chunks divide it."""

THREADS, FORK = {"method": "thread"}, {"method": "process", "multiprocessing_context": "fork"}

LIVES = [
    {"world_size": 2, "num_workers": 0},
    {"world_size": 4, "num_workers": 3, **THREADS},
    {"world_size": 4, "num_workers": 2, **FORK},
    {"world_size": 1, "num_workers": 0, "prefetch": 0},
    {"world_size": 3, "num_workers": 1, "prefetch": 4},
    {"world_size": 2, "num_workers": 2, **FORK, "prefetch": 0},
    {"world_size": 2, "num_workers": 3, **THREADS, "prefetch": 4},
    {"world_size": 1, "num_workers": 1, "method": "process"},
    {"world_size": 6, "num_workers": 1, **FORK},
    {"world_size": 8, "num_workers": 0},
]


def start(folder: Path, life: dict[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).parent / "jobs" / "train.py"), str(folder), json.dumps(life)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def end_of(job: subprocess.Popen[str]) -> int:
    """The job's exit code; nothing that it started is left afterwards."""
    try:
        return job.wait(timeout=90)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        job.communicate()


def uninterrupted(folder: Path) -> tuple[list[list[int]], torch.Tensor]:
    """All global batches, and what was learned from them."""
    rows, weight = [], torch.zeros(3, dtype=torch.double)
    loaders = loaders_of(folder, LIVES[0]["world_size"])
    for _ in range(EPOCHS):
        for batches in zip(*loaders, strict=True):
            rows.append([row for batch in batches for row in batch["rows"].tolist()])
            weight = learn(weight, torch.cat([batch["X"] for batch in batches]))
    return rows, weight


def test_ten_kills_change_nothing(tmp_path: Path) -> None:
    write(tiny(N), tmp_path / "cells.h5ad", "gzip")
    chance = random.Random(1)
    logged = []
    for life in LIVES:
        doom = {"kill_after": chance.randint(2, 9), "delay": chance.uniform(0, 0.02)}
        assert end_of(start(tmp_path, {**life, **doom})) == -signal.SIGKILL
        logged.append(len((tmp_path / "ids").read_text().splitlines()))
    assert logged == sorted(set(logged))  # every life came further
    last = {"world_size": 4, "num_workers": 2, "kill_after": None, "delay": 0}
    assert end_of(start(tmp_path, last)) == 0

    rows, weight = uninterrupted(tmp_path)
    assert len(rows) == EPOCHS * -(-N // GLOBAL_BATCH)
    assert [json.loads(line) for line in (tmp_path / "ids").read_text().splitlines()] == rows
    assert torch.equal(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["weight"], weight)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_do_not_outlive_a_program_that_was_killed(tmp_path: Path, context: str) -> None:
    write(tiny(N), tmp_path / "cells.h5ad")
    workers = {"num_workers": 2, "method": "process", "multiprocessing_context": context}
    job = start(tmp_path, {"world_size": 1, **workers, "kill_after": 3, "delay": 0.0})
    try:
        assert job.wait(timeout=90) == -signal.SIGKILL
        begin = time.monotonic()
        while living(job.pid):
            assert time.monotonic() - begin < 15, "the workers wait for ever"
            time.sleep(0.05)
    finally:
        end_of(job)
