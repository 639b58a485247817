"""A training that is killed ten times sees what one sees that is never killed: promise 4."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import pytest
import torch
from builders import tiny, write
from jobs.train import EPOCHS, GLOBAL_BATCH, learn, loaders_of
from lives import Nursery
from passes import still_living

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


TRAIN = Path(__file__).parent / "jobs" / "train.py"


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
    with Nursery.open() as nursery:
        for life in LIVES:
            doom = {"kill_after": chance.randint(2, 9), "delay": chance.uniform(0, 0.02)}
            assert nursery.begin(TRAIN, tmp_path, json.dumps({**life, **doom})).code() == -signal.SIGKILL
            logged.append(len((tmp_path / "ids").read_text().splitlines()))
        assert logged == sorted(set(logged))  # every life came further
        last = {"world_size": 4, "num_workers": 2, "kill_after": None, "delay": 0}
        assert nursery.begin(TRAIN, tmp_path, json.dumps(last)).code() == 0

    rows, weight = uninterrupted(tmp_path)
    assert len(rows) == EPOCHS * -(-N // GLOBAL_BATCH)
    assert [json.loads(line) for line in (tmp_path / "ids").read_text().splitlines()] == rows
    assert torch.equal(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["weight"], weight)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_do_not_outlive_a_program_that_was_killed(tmp_path: Path, context: str) -> None:
    write(tiny(N), tmp_path / "cells.h5ad")
    workers = {"num_workers": 2, "method": "process", "multiprocessing_context": context}
    life = {"world_size": 1, **workers, "kill_after": 3, "delay": 0.0}
    with Nursery.open() as nursery:
        training = nursery.begin(TRAIN, tmp_path, json.dumps(life))
        assert training.ended(90)
        left = still_living(training.pid, seconds=30)
        assert training.code() == -signal.SIGKILL
    assert not left, "the workers wait forever"
