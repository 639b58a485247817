"""The program of the page on Ray Train, in which a process fails; the oracle is the loader, with ranks by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from passes import ids
from ranked_jobs import code_of, run_alone

import annpipes as ap

pytest.importorskip("ray.train.torch", reason="Ray is not installed: tox -e ray")


# A cluster of its own, with no more than it needs; a busy machine takes a while to start it.
ALONE = "import ray\nray.init(num_cpus=2, include_dashboard=False)\n"
QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "120"}


def test_a_run_that_is_started_again_goes_on_with_the_next_batch(
    tmp_path: Path, pbmc_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pbmc.h5ad").symlink_to(pbmc_folder / "pbmc.h5ad")
    (tmp_path / "train.py").write_text(ALONE + code_of("ray.md"))
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    said = run_alone(tmp_path, "train.py", seconds=900)
    assert "a process is gone" in said
    for rank in range(2):
        loader = ap.stream(pbmc_folder / "pbmc.h5ad", 64, fields=["rows"], rank=rank, world_size=2)
        expected = [*ids(loader), *ids(loader)]
        seen = [[*map(int, line.split())] for line in (tmp_path / f"seen-{rank}.txt").read_text().splitlines()]
        assert seen == [*expected[:6], *expected[4:]]
