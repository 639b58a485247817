"""What people who know PyTorch and scanpy write: each line works, or says what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from builders import adata_of, dense, tiny, write
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, Subset

import annpipes as ap
from annpipes.errors import ParameterError, ParameterTypeError, PipelineError, RowIndexError


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(adata_of(x="csr"), tmp_path_factory.mktemp("idioms") / "cells.h5ad")


@pytest.fixture(scope="module")
def adata(path: Path) -> anndata.AnnData:
    return anndata.read_h5ad(path)


class TestPositionsOfADataset:
    @pytest.mark.parametrize(
        "places",
        [
            [3, 1],
            (3, 1),
            np.array([3, 1]),
            np.array([3, 1], np.uint8),
            torch.tensor([3, 1]),
            pd.Index([3, 1]),
            [3, -28],
        ],
        ids=lambda places: type(places).__name__,
    )
    def test_several_give_a_batch(self, path: Path, adata: anndata.AnnData, places: Any) -> None:
        batch = ap.AnnDataset(path, fields=["X", "obs_names"])[places]
        assert torch.equal(batch["X"], torch.from_numpy(dense(adata.X)[[3, 1]]))
        assert batch["obs_names"] == adata.obs_names[[3, 1]].tolist()

    @pytest.mark.parametrize("kind", [list, np.array, torch.tensor, pd.Series])
    def test_a_mask_gives_a_batch(self, path: Path, adata: anndata.AnnData, kind: Any) -> None:
        chosen = (adata.obs["int8"] > 50).tolist()
        batch = ap.AnnDataset(path, fields=["obs_names"])[kind(chosen)]
        assert batch["obs_names"] == adata.obs_names[chosen].tolist()

    @pytest.mark.parametrize("place", [3, np.int64(3), torch.tensor(3), -26])
    def test_one_gives_an_item(self, path: Path, adata: anndata.AnnData, place: Any) -> None:
        assert ap.AnnDataset(path, fields=["obs_names"])[place] == {"obs_names": adata.obs_names[3]}

    @pytest.mark.parametrize(
        ("places", "error", "message"),
        [
            ([3, 29], RowIndexError, "index 29 is out of range for 29 cells"),
            ([-30], RowIndexError, "index -30 is out of range for 29 cells"),
            ([True, False], ParameterError, "the mask has 2 cells, but there are 29"),
            ([0.5], ParameterTypeError, r"chosen by integers or a mask, got \[0.5\]"),
            (["c1"], ParameterTypeError, "chosen by integers or a mask"),
            ([[1, 2]], ParameterTypeError, "whose sampler yields lists of integers needs batch_size=None"),
        ],
    )
    def test_others_are_refused(self, path: Path, places: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            ap.AnnDataset(path)[places]

    def test_a_sampler_of_batches(self, path: Path) -> None:
        dataset = ap.AnnDataset(path, fields=["rows"])
        sampler = BatchSampler(RandomSampler(dataset), batch_size=8, drop_last=False)
        batches = [batch["rows"].tolist() for batch in DataLoader(dataset, sampler=sampler, batch_size=None)]
        assert [len(batch) for batch in batches] == [8, 8, 8, 5]
        assert sorted(row for batch in batches for row in batch) == list(range(29))
        with pytest.raises(ParameterTypeError, match="needs batch_size=None"):
            next(iter(DataLoader(dataset, sampler=BatchSampler(SequentialSampler(dataset), 8, False))))

    def test_torchs_subsets(self, path: Path) -> None:
        subset = Subset(ap.AnnDataset(path, fields=["rows"]), [5, 2, 9])
        assert [item["rows"].item() for item in subset] == [5, 2, 9]
        assert next(iter(DataLoader(subset, batch_size=3)))["rows"].tolist() == [5, 2, 9]


def test_rows_chooses_as_everywhere(path: Path) -> None:
    by_rows, by_subset = ap.AnnDataset(path, rows=[4, 2]), ap.AnnDataset(path, obs_subset=[4, 2])
    assert by_rows.rows.tolist() == by_subset.rows.tolist() == [4, 2]
    with pytest.raises(RowIndexError, match="rows must lie in 0 … 28"):
        ap.AnnDataset(path, rows=[29])
    with pytest.raises(ParameterError, match="two names for the same parameter"):
        ap.AnnDataset(path, rows=[1], obs_subset=[1])


class TestDataLoaderAroundOurs:
    def pipe(self) -> Any:
        return ap.IndexSource(tiny(8)).sort_within_chunks(8).read_rows(["X", "rows"]).batch_rows(4).collate_rows()

    def test_around_a_loader(self) -> None:
        loader = ap.Loader(self.pipe())
        around = DataLoader(loader, batch_size=None)
        assert len(around) == 2
        assert [batch["rows"].tolist() for batch in around] == [[0, 1, 2, 3], [4, 5, 6, 7]]

    def test_workers_around_a_loader_are_refused(self) -> None:
        with pytest.raises(PipelineError, match=r"has workers of its own: .*Loader\(…, num_workers=n\)"):
            next(iter(DataLoader(ap.Loader(self.pipe()), batch_size=None, num_workers=1)))

    @pytest.mark.parametrize("form", ["pipe", "loader"])
    def test_a_forgotten_batch_size_adds_no_dimension(self, form: str) -> None:
        data = self.pipe() if form == "pipe" else ap.Loader(self.pipe())
        assert [batch["X"].shape for batch in DataLoader(data)] == [(4, 3), (4, 3)]
        with pytest.raises(PipelineError, match=r"would put 2 batches into one.* pass batch_size=None"):
            next(iter(DataLoader(data, batch_size=2)))

    def test_nor_does_it_before_collating(self) -> None:
        pipe = ap.IndexSource(tiny(8)).sort_within_chunks(8).read_rows().batch_rows(4)
        assert [len(batch) for batch in DataLoader(pipe)] == [4, 4]


class TestObs:
    """The oracle is the obs of the AnnData."""

    @pytest.fixture(params=["file", "memory", "collection"])
    def data(self, request: pytest.FixtureRequest, path: Path, adata: anndata.AnnData) -> Any:
        return {"file": path, "memory": adata, "collection": [adata[:10].copy(), adata[10:].copy()]}[request.param]

    @pytest.mark.parametrize("column", ["int8", "float64", "cell_type", "nullable_int_absent", "bool"])
    def test_a_column_is_that_of_the_data(self, data: Any, adata: anndata.AnnData, column: str) -> None:
        source, loader, dataset = ap.IndexSource(data, rows=[5, 3]), ap.stream(data, rows=[5, 3]), ap.AnnDataset(data)
        for answers in (source, loader, dataset):
            found, kept = answers.obs[column], adata.obs[column]  # of which each part has its own categories
            pd.testing.assert_series_equal(found, kept, check_dtype=False, check_categorical=False)
            assert isinstance(answers.obs[column].dtype, type(adata.obs[column].dtype))

    def test_that_of_a_dataset_has_its_cells(self, data: Any, adata: anndata.AnnData) -> None:
        dataset = ap.AnnDataset(data, rows=[5, 3, 5])
        pd.testing.assert_series_equal(dataset.obs["int8"], adata.obs["int8"].iloc[[5, 3, 5]])
        assert (dataset.n_obs, dataset.n_vars, len(dataset.obs)) == (3, adata.n_vars, 3)

    def test_several_columns_are_a_table(self, data: Any, adata: anndata.AnnData) -> None:
        table = ap.IndexSource(data).obs[["int8", "bool"]]
        pd.testing.assert_frame_equal(table, adata.obs[["int8", "bool"]])

    def test_what_a_table_has(self, data: Any, adata: anndata.AnnData) -> None:
        obs = ap.IndexSource(data).obs
        assert (obs.columns, obs.shape, list(obs)) == (list(adata.obs), adata.obs.shape, list(adata.obs))
        assert obs.index.equals(adata.obs_names)
        assert "int8" in obs
        assert "int9" not in obs
        assert f"29 rows × {adata.obs.shape[1]} columns: int8" in repr(obs)
        with pytest.raises(LookupError, match=r"no obs column 'int9' in .*; columns: int8"):
            obs["int9"]

    def test_only_what_is_asked_for_is_read(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = ap.IndexSource(path)
        asked: list[str] = []
        kind = type(source.store)
        plain = kind.series
        monkeypatch.setattr(kind, "series", lambda self, column: asked.append(column) or plain(self, column))
        obs = source.obs
        assert (repr(obs), obs.shape[0], asked) == (repr(obs), 29, [])
        assert len(obs["int8"]) == 29
        assert asked == ["int8"]

    def test_it_gives_weights(self, path: Path, adata: anndata.AnnData) -> None:
        source = ap.IndexSource(path, rows=range(20))
        weights = source.obs["int8"].clip(lower=0)
        drawn = np.concatenate(list(source.sample_rows(weights=weights, num_rows=400).set_seed(0)))
        assert set(drawn.tolist()) <= set(np.flatnonzero(adata.obs["int8"].to_numpy() > 0).tolist()) & set(range(20))


def test_loaders_say_what_they_read(path: Path, adata: anndata.AnnData) -> None:
    loader = ap.stream(path, batch_size=7, genes=[2, 0])
    assert (loader.batch_size, loader.n_obs, loader.n_vars) == (7, 29, 2)
    assert (loader.source.n_obs, loader.source.n_vars) == adata.shape
