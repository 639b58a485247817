"""Processes that live from pass to pass: the same ones, until they are lost or have something else to do."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from builders import tiny, write
from passes import ids, joined, mapped, with_pid

import annpipes as ap
from annpipes.errors import WorkerError

METHODS = ["fork", "spawn"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tiny(101), tmp_path_factory.mktemp("pool") / "cells.h5ad")


def pids(loader: ap.Loader) -> set[int]:
    return {batch["pid"] for batch in loader}


def children() -> set[int | None]:
    return {child.pid for child in multiprocessing.active_children()}


def passes(loader: ap.Loader, count: int) -> None:
    for _ in range(count):
        pids(loader)


class Shifted(ap.Transform):
    batched = True

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, x: Any) -> Any:
        return x + self.by


@pytest.mark.parametrize("method", METHODS)
def test_epochs_have_the_same_processes_which_end_with_the_loader(path: Path, method: str) -> None:
    before = children()  # of others
    loader = mapped(path, with_pid, num_workers=2, method="process", multiprocessing_context=method)
    first = pids(loader)
    started = children() - before
    assert first <= started
    assert pids(loader) <= started
    next(iter(loader))  # given up
    assert pids(loader) <= started
    del loader
    begin = time.monotonic()
    while started & children() and time.monotonic() - begin < 30:
        time.sleep(0.05)
    assert not started & children()


def test_a_lost_process_ends_a_pass_and_not_the_next_one(path: Path) -> None:
    loader = mapped(path, with_pid, num_workers=1, method="process", multiprocessing_context="fork")
    (victim,) = pids(loader)
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(WorkerError, match="ended without an error message"):
        passes(loader, 20)  # until the pool has noticed
    assert victim not in pids(loader)


def test_what_was_changed_between_two_passes_counts(path: Path) -> None:
    shift = Shifted(0)
    loader = ap.stream(path, 64, transform=shift, shuffle=False, num_workers=1, method="process")
    assert next(iter(loader))["X"][0, 0] == 0
    shift.by = 5
    assert next(iter(loader))["X"][0, 0] == 5


def test_two_passes_at_once_and_a_pickled_loader_have_their_own(path: Path) -> None:
    options: dict[str, Any] = {"num_workers": 1, "method": "process", "multiprocessing_context": "fork"}
    loader = ap.stream(path, 64, fields=["rows"], **options)
    one, other = iter(loader), iter(loader)
    rows = [joined([batch["rows"].tolist() for batch in each]) for each in (one, other)]
    assert sorted(rows[0]) == sorted(rows[1]) == list(range(101))
    again = pickle.loads(pickle.dumps(loader))
    again.set_epoch(0)
    assert joined(ids(again)) == rows[0]


NOTEBOOK = """
import annpipes as ap
class Mine(ap.Transform):
    def __call__(self, x):
        return x
if __name__ == "__main__":
    for options in ({}, {"multiprocessing_context": "fork"}):
        try:
            print(len(list(ap.stream("cells.h5ad", 64, transform=Mine(), num_workers=1, method="process", **options))))
        except ap.errors.WorkerError as error:
            print(error)
"""


def test_what_a_notebook_defines_gets_the_sentence_that_helps(path: Path) -> None:
    command = [sys.executable, "-c", NOTEBOOK]  # as in a notebook, the main module has no file
    ran = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=120, check=True)
    told, inherited = ran.stdout.splitlines()
    assert told.startswith("a transform or function that was defined in a notebook cannot be found")
    assert "put it into a module and import it, or use threads" in told
    assert inherited == "2"
