"""Batches of sets parted into rows and their controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from builders import dense
from draws import WithReplacement, drawn
from perturbations import (
    GENE,
    SHARED,
    cells,  # noqa: F401 (fixtures)
    sampler,
)

from annpipes import ControlPairer, IndexSource, Loader
from annpipes.errors import PipelineError

OPTIONS = {"replace": True, "num_sets": 12, "control": "stage == 'late'", "match": "donor"}


class TestControlPairer(WithReplacement):
    """Of an epoch's 48 rows half are controls, and in fields of their own."""

    def n_rows(self, path: Path) -> int:
        return 24

    def read(self, path: Path) -> Any:
        sets = IndexSource(path, block_size=4).sample_groups(["donor", "lane"], 2, **OPTIONS)
        return sets.sort_within_chunks(8).read_rows(["rows", "X"]).batch_rows(8)

    def chained(self, path: Path) -> Any:
        return self.read(path).pair_controls()

    def constructed(self, path: Path) -> Any:
        return ControlPairer(self.read(path))

    def complete(self, pipe: Any) -> Any:
        return pipe


class TestPairs:
    FIELDS = ("X", "layers/counts", "obsm/X_pca", "obs/donor", "obs/stage:code", "obs/int32", "rows", "obs_names")

    @pytest.mark.parametrize("x", ["dense", "csr"])
    @pytest.mark.parametrize("batch_size", [4, 8, 20])
    @pytest.mark.parametrize("workers", [0, 2])
    def test_every_field_of_a_control_is_anndatas_and_matches_its_row(
        self, cells: tuple[Path, anndata.AnnData], x: str, batch_size: int, workers: int
    ) -> None:
        path, adata = cells
        sets = IndexSource(path).sample_groups(["donor", "lane"], 2, **OPTIONS)
        read = sets.sort_within_chunks(16).read_rows(self.FIELDS).batch_rows(batch_size)
        loader = Loader(read.pair_controls().collate_rows(form=x), num_workers=workers)
        expected = dense(adata.X), dense(adata.layers["counts"]), adata.obsm["X_pca"]
        codes = pd.Categorical(adata.obs["stage"]).codes
        drawn_rows = drawn(sets.plan).reshape(-1, 2, 2)
        seen: list[int] = []
        for batch in loader:
            for prefix in ("", "control_"):
                rows = batch[f"{prefix}rows"].numpy()
                assert len(rows) <= batch_size // 2
                for key, values in zip(("X", "layers_counts", "obsm_X_pca"), expected, strict=True):
                    found = batch[f"{prefix}{key}"]
                    found = found.to_dense() if hasattr(found, "to_dense") else found
                    np.testing.assert_allclose(np.asarray(found), values[rows], rtol=1e-6)
                assert list(batch[f"{prefix}obs_donor"]) == adata.obs["donor"].iloc[rows].tolist()
                assert batch[f"{prefix}obs_stage"].tolist() == codes[rows].tolist()
                assert batch[f"{prefix}obs_int32"].tolist() == adata.obs["int32"].iloc[rows].tolist()
                assert list(batch[f"{prefix}obs_names"]) == adata.obs_names[rows].tolist()
            assert list(batch["obs_donor"]) == list(batch["control_obs_donor"])
            assert set(adata.obs["stage"].iloc[batch["control_rows"].numpy()]) == {"late"}
            assert set(adata.obs["stage"].iloc[batch["rows"].numpy()]) == {"early"}
            seen += (
                np.stack([batch["rows"], batch["control_rows"]], axis=1)
                .reshape(-1, 2, 2)
                .swapaxes(1, 2)
                .ravel()
                .tolist()
            )
        assert seen == drawn_rows.ravel().tolist()

    def test_a_plain_pass_gives_the_same_pairs(self, cells: tuple[Path, anndata.AnnData]) -> None:
        path, adata = cells
        sets = IndexSource(path).sample_groups(["donor", "lane"], 2, **OPTIONS)
        pipe = sets.sort_within_chunks(7).read_rows(["X", "rows", "obs/donor"]).batch_rows(8).pair_controls()
        for batch in pipe:  # chunks of 7 cut sets, which the batcher puts together again
            donors = adata.obs["donor"].to_numpy()
            assert donors[batch["rows"]].tolist() == donors[batch["control_rows"]].tolist()
            np.testing.assert_array_equal(dense(batch["control_X"]), dense(adata.X)[batch["control_rows"]])

    @pytest.mark.parametrize("tail", ["drop", "repeat", "fill"])
    def test_rows_that_fill_up_the_last_batch_are_pairs_too(self, tail: str) -> None:
        stage = sampler("gene", 3, control="gene == 'control'", short="repeat")
        read = stage.sort_within_chunks(48).read_rows(["rows"]).batch_rows(24).pair_controls()
        for batch in Loader(read.collate_rows(), tail=tail):
            assert len(batch["rows"]) == len(batch["control_rows"]) == 12
            assert "control" not in GENE[batch["rows"]]
            assert set(GENE[batch["control_rows"]]) == {"control"}

    @pytest.mark.parametrize("options", [{}, {"control": "gene == 'control'"}], ids=["sets", "with controls"])
    def test_batches_that_cut_sets_are_refused(self, options: dict[str, Any]) -> None:
        stage = sampler("gene", 3, **options)
        read = stage.sort_within_chunks(24).read_rows(["rows"])
        for batch_size in (1, 2, 4, stage.set_rows + 1, 3 * stage.set_rows - 1):
            with pytest.raises(
                PipelineError,
                match=f"whole sets, a multiple of {stage.set_rows} rows, got batch_size={batch_size} after",
            ):
                read.batch_rows(batch_size)
        assert {len(batch) for batch in read.batch_rows(stage.set_rows)} == {stage.set_rows}

    @pytest.mark.parametrize(
        "pipe",
        [
            IndexSource(SHARED).shuffle_blocks().sort_within_chunks(8).read_rows(["rows"]).batch_rows(4),
            sampler("gene", 2).sort_within_chunks(8).read_rows(["rows"]).batch_rows(4),
            sampler("gene", 2, control="gene == 'control'").sort_within_chunks(8).read_rows(["rows"]),
        ],
        ids=["no sets", "no controls", "no batches"],
    )
    def test_a_pipe_without_pairs_is_refused(self, pipe: Any) -> None:
        with pytest.raises(PipelineError, match=r"pair_controls needs a pipe with sample_groups\(…, control=…\)"):
            pipe.pair_controls()
