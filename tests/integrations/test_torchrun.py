"""The program of the page on torchrun, stopped and called again; the oracle is the loader, with ranks by hand."""

from __future__ import annotations

from pathlib import Path

from passes import side_by_side
from ranked_jobs import code_of, run_in_two

import annpipes as ap


def test_ranks_share_batches_and_go_on_with_the_next(tmp_path: Path, pbmc_folder: Path) -> None:
    (tmp_path / "pbmc.h5ad").symlink_to(pbmc_folder / "pbmc.h5ad")
    (tmp_path / "train.py").write_text(code_of("torchrun.md"))
    first, second = run_in_two(tmp_path, ["train.py", "8"], ["train.py", "20"])
    assert [len(of_rank) for of_rank in (*first, *second)] == [8, 8, 12, 12]

    by_hand = [ap.stream(pbmc_folder / "pbmc.h5ad", 64, fields=["rows"], rank=rank, world_size=2) for rank in range(2)]
    expected = [rows for _ in range(4) for rows in side_by_side(by_hand)]
    seen = [[*left, *right] for together in (first, second) for left, right in zip(*together, strict=True)]
    assert len(by_hand[0]) == 6
    assert seen == expected[:20]
    assert {row for rows in seen[:6] for row in rows} == set(range(700))
