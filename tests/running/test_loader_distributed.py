"""Real jobs of several ranks under torchrun: they end, or all fail alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from builders import tiny, write
from passes import joined, loader_of, side_by_side

N = 103
"""Neither 16 nor 24 rows at a time divide it."""


def torchrun(folder: Path, ranks: int, trainings: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """For each training what each rank reports."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command = [*launcher, str(Path(__file__).parent / "jobs" / "ddp.py"), str(folder), json.dumps(trainings)]
    job = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        said = job.communicate(timeout=120)[0]
    except subprocess.TimeoutExpired:
        job.terminate()  # the launcher then ends its ranks
        pytest.fail(f"the job hangs: {job.communicate()[0]}")
    assert job.returncode == 0, said
    reports = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(ranks)]
    return [list(training) for training in zip(*reports, strict=True)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tiny(N), tmp_path / "cells.h5ad", "gzip")
    return tmp_path


def check_training(folder: Path, reports: list[dict[str, Any]], length: int, tail: str) -> None:
    """All ranks saw equally many batches, and together every row of each epoch."""
    for report in reports:
        assert report["length"] == length
        assert [[len(batch) for batch in epoch] for epoch in report["epochs"]] == [[8] * length] * 2
        for alike in ("weights", "state", "tails"):
            assert report[alike] == reports[0][alike]
    assert (reports[0]["state"]["epoch"], reports[0]["state"]["batch"]) == (2, 0)
    assert reports[0]["tails"][0] != reports[0]["tails"][1]
    by_hand = [
        loader_of(folder / "cells.h5ad", seed=1, rank=rank, world_size=len(reports), tail=tail)
        for rank in range(len(reports))
    ]
    for epoch in range(2):
        seen = Counter(row for report in reports for batch in report["epochs"][epoch] for row in batch)
        left_out_or_twice = Counter(reports[0]["tails"][epoch])
        assert (seen + left_out_or_twice if tail == "drop" else seen - left_out_or_twice) == Counter(range(N))
        detected = [joined(batches) for batches in zip(*(report["epochs"][epoch] for report in reports), strict=True)]
        assert detected == list(side_by_side(by_hand))


def test_two_ranks_train_over_an_uneven_file(folder: Path) -> None:
    (reports,) = torchrun(folder, 2, [{"num_workers": 2}])
    check_training(folder, reports, length=7, tail="repeat")


def test_three_ranks_that_differ_say_so_and_then_train(folder: Path) -> None:
    differing = [{"of rank 2": {"seed": 5}}, {"of rank 0": {"rows": list(range(50))}}]
    *refused, reports = torchrun(folder, 3, [*differing, {"tail": "drop"}])
    for report in (report for reports in refused for report in reports):
        assert report["seconds"] < 30  # and not when gloo gives up, after 60
    assert [report["error"] for report in refused[0]] == ["rank 2 differs from rank 0: seed was 1 and is 5"] * 3
    assert all(report["error"].startswith("rank 1 differs from rank 0: rows was '50 rows") for report in refused[1])
    check_training(folder, reports, length=4, tail="drop")
