"""Two processes under Lightning's ``strategy="ddp"``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from passes import joined, side_by_side
from ranked_jobs import run_alone

import annpipes as ap

runs = pytest.importorskip("lightning_runs", reason="Lightning is not installed: tox -e integrations")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank saw."""
    folder = tmp_path_factory.mktemp("ddp")
    shared = Path(__file__).parent.parent / "shared"
    run_alone(folder, str(shared / "lightning_ddp.py"), str(folder))
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


def test_the_ranks_are_those_of_the_trainer(reports: list[dict[str, Any]]) -> None:
    assert [report["ranks"] for report in reports] == [[0, 2, True], [1, 2, True]]


def test_they_share_each_epoch_of_the_loader(reports: list[dict[str, Any]]) -> None:
    by_hand = [ap.stream(**runs.TRAIN, rank=rank, world_size=2) for rank in range(2)]
    seen = zip(*(report["whole"] for report in reports), strict=True)
    together = [[*left, *right] for (_, _, left), (_, _, right) in seen]
    assert together == [rows for _ in range(3) for rows in side_by_side(by_hand)]
    for epoch in range(3):
        rows = Counter(row for report in reports for row in runs.rows_of(report["whole"], epoch))
        assert rows.keys() == set(range(43))
        assert rows.total() == 54  # global batches of 18


def test_they_go_on_where_max_steps_stopped_them(reports: list[dict[str, Any]]) -> None:
    for report in reports:
        assert len(report["first"]) == 4
        assert report["first"] + report["second"] == report["whole"]


def test_they_share_the_rows_to_validate_with(reports: list[dict[str, Any]]) -> None:
    for report in reports:
        assert len(report["val"]) == 1 + 3 * 2  # a sanity check, and three passes
        assert report["val"][0] == report["val"][1] == report["val"][3]
    assert set(joined(reports[0]["val"] + reports[1]["val"])) == set(range(20))
