"""Transforms as people write them: functions, lists, any matrix, scanpy's totals, and never NaN in silence."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import scanpy
import torch
from builders import adata_of, dense, tiny, write
from scipy import sparse

import annpipes as ap
from annpipes.errors import FieldError, ParameterError, ParameterTypeError, PipelineError


def counts(n_obs: int = 40, n_vars: int = 30) -> anndata.AnnData:
    """Counts of which the last genes have most; the last cell has none."""
    rng = np.random.default_rng(8)
    values = rng.poisson(np.linspace(0.1, 6, n_vars), (n_obs, n_vars)).astype(np.float32)
    values[-1] = 0
    adata = anndata.AnnData(sparse.csr_matrix(values))
    adata.layers["counts"] = adata.X.copy()
    adata.obs["n_counts"] = values.sum(1)
    adata.obs["group"] = "a"
    return adata


@pytest.fixture(params=["csr", "dense", "file", "gzip", "collection"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    adata = counts()
    if request.param == "csr":
        return adata
    if request.param == "dense":
        return anndata.AnnData(adata.X.toarray(), obs=adata.obs, layers={"counts": adata.X.toarray()})
    if request.param == "collection":
        return [adata[:15].copy(), adata[15:].copy()]
    return write(adata, tmp_path / "cells.h5ad", "gzip" if request.param == "gzip" else None)


def x_of(data: Any, field: str = "X", **options: Any) -> np.ndarray[Any, Any]:
    loader = ap.stream(data, batch_size=16, fields=[field], shuffle=False, **options)
    return np.concatenate([batch[field.replace("/", "_")].numpy() for batch in loader])


def log_normalised(adata: anndata.AnnData) -> np.ndarray[Any, Any]:
    copy = adata.copy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some cells have zero counts")
        scanpy.pp.normalize_total(copy, target_sum=1e4)
    scanpy.pp.log1p(copy)
    return dense(copy.X)


class TestFunctions:
    def test_a_function_sees_one_row(self) -> None:
        def centred(row: torch.Tensor) -> torch.Tensor:
            assert row.shape == (30,)
            return row - row.mean()

        expected = counts().X.toarray()
        np.testing.assert_allclose(
            x_of(counts(), transform=centred), expected - expected.mean(1, keepdims=True), 1e-5, 1e-5
        )

    def test_torchs_own(self) -> None:
        np.testing.assert_allclose(x_of(counts(), transform=torch.log1p), np.log1p(counts().X.toarray()), 1e-6)

    def test_a_list_is_applied_in_order(self) -> None:
        chain = ap.IndexSource(counts()).sort_within_chunks(64).read_rows().batch_rows(64)
        (batch,) = chain.transform([ap.Clip(high=3), torch.sqrt, ap.Log1p()]).collate_rows()
        np.testing.assert_allclose(batch["X"], np.log1p(np.sqrt(counts().X.toarray().clip(max=3))), 1e-6)

    def test_a_batched_function_sees_all_rows(self) -> None:
        shapes = []

        def look(x: torch.Tensor) -> torch.Tensor:
            shapes.append(x.shape)
            return x

        x_of(counts(), transform=ap.Lambda(look, batched=True))
        assert shapes == [(16, 30), (16, 30), (8, 30)]

    def test_reprs_and_pickles(self) -> None:
        lambda_ = ap.Lambda(torch.log1p, batched=True)
        assert repr(ap.Compose([ap.Clip(low=0), lambda_])) == "Compose([Clip(low=0), Lambda(log1p, batched=True)])"
        assert torch.equal(pickle.loads(pickle.dumps(lambda_))(torch.ones(2)), torch.ones(2).log1p())

    def test_a_dataset_keeps_to_instances(self) -> None:
        for transform in (torch.log1p, [ap.Log1p()]):
            with pytest.raises(ParameterTypeError, match="transform takes instances of annpipes"):
                ap.AnnDataset(counts(), transform=transform)
        assert ap.AnnDataset(counts(), transform=ap.Lambda(torch.log1p))[0]["X"].shape == (30,)

    @pytest.mark.parametrize("transform", [3, None, [], [ap.Log1p], "log1p"])
    def test_others_are_refused(self, transform: Any) -> None:
        batches = ap.IndexSource(counts()).sort_within_chunks(64).read_rows().batch_rows(64)
        with pytest.raises((ParameterTypeError, ParameterError), match="transform"):
            batches.transform(transform)


class TestFields:
    def test_any_matrix(self, tmp_path: Path) -> None:
        path = write(adata_of(x="csr"), tmp_path / "cells.h5ad")
        adata = anndata.read_h5ad(path)
        pipe = (
            ap.IndexSource(path).sort_within_chunks(29).read_rows(["X", "layers/counts", "obsm/X_pca"]).batch_rows(29)
        )
        pipe = pipe.transform(torch.log1p, field="layers/counts").transform(torch.abs, field="obsm/X_pca")
        (batch,) = pipe.collate_rows()
        np.testing.assert_allclose(batch["layers_counts"], np.log1p(dense(adata.layers["counts"])), 1e-5)
        np.testing.assert_allclose(batch["obsm_X_pca"], np.abs(adata.obsm["X_pca"]), 1e-6)
        assert torch.equal(batch["X"], torch.from_numpy(dense(adata.X)))
        assert ".transform(Lambda(log1p), field='layers/counts')" in repr(pipe)

    @pytest.mark.parametrize(
        ("field", "message"),
        [
            ("layers/counts", r"applied to layers/counts, which is not among fields \(X, obs/number\)"),
            ("obs/number", "field must be a matrix, such as 'X' or 'layers/counts', got 'obs/number'"),
        ],
    )
    def test_others_are_refused(self, field: str, message: str) -> None:
        batches = ap.IndexSource(tiny(4)).sort_within_chunks(4).read_rows(["X", "obs/number"]).batch_rows(4)
        with pytest.raises(ParameterError, match=message):
            batches.transform(torch.log1p, field=field)

    def test_x_that_is_not_read(self) -> None:
        with pytest.raises(ParameterError, match=r"transform is applied to X, which is not among fields \(rows\)"):
            ap.stream(tiny(4), fields=["rows"], transform=ap.Log1p())


GENES = [3, 0, 12]


class TestTotals:
    """scanpy normalises, and then genes are chosen."""

    @pytest.mark.parametrize("genes", [None, GENES])
    def test_the_default_is_scanpys_recipe(self, data: Any, genes: Any) -> None:
        expected = log_normalised(counts())
        got = x_of(data, genes=genes, transform=[ap.NormalizeTotal(1e4), ap.Log1p()])
        np.testing.assert_allclose(got, expected if genes is None else expected[:, genes], 1e-5, 1e-6)

    def test_of_the_genes_that_are_read(self, data: Any) -> None:
        expected = log_normalised(counts()[:, GENES].copy())
        got = x_of(data, genes=GENES, transform=[ap.NormalizeTotal(1e4, total="genes"), ap.Log1p()])
        np.testing.assert_allclose(got, expected, 1e-5, 1e-6)
        assert abs(got - log_normalised(counts())[:, GENES]).max() > 1

    def test_of_a_column(self, data: Any) -> None:
        got = x_of(data, genes=GENES, transform=[ap.NormalizeTotal(1e4, total="obs/n_counts"), ap.Log1p()])
        np.testing.assert_allclose(got, log_normalised(counts())[:, GENES], 1e-5, 1e-6)

    def test_of_a_layer(self, data: Any) -> None:
        pipe = ap.IndexSource(data).sort_within_chunks(7).read_rows(["layers/counts"], genes=GENES).batch_rows(40)
        (batch,) = pipe.transform([ap.NormalizeTotal(), ap.Log1p()], field="layers/counts").collate_rows()
        np.testing.assert_allclose(batch["layers_counts"], log_normalised(counts())[:, GENES], 1e-5, 1e-6)

    def test_of_a_dataset(self, data: Any) -> None:
        dataset = ap.AnnDataset(
            data, genes=GENES, transform=ap.Compose([ap.NormalizeTotal(), ap.Log1p()]), fields=["X"]
        )
        expected = log_normalised(counts())[:, GENES]
        np.testing.assert_allclose(dataset[[5, 39, 2]]["X"], expected[[5, 39, 2]], 1e-5, 1e-6)
        np.testing.assert_allclose(dataset[7]["X"], expected[7], 1e-5, 1e-6)

    def test_in_a_loader_with_workers_and_a_stage_between(self, data: Any) -> None:
        chunks = ap.IndexSource(data).shuffle_blocks().sort_within_chunks(16).read_rows(["X", "rows"], genes=GENES)
        pipe = chunks.batch_rows(8).map(with_a_field).transform([ap.NormalizeTotal(), ap.Log1p()]).collate_rows("csr")
        for batch in ap.Loader(pipe, num_workers=2):
            expected = log_normalised(counts())[batch["rows"]][:, GENES]
            np.testing.assert_allclose(batch["X"].to_dense(), expected, 1e-5, 1e-6)
            assert set(batch) == {"X", "rows", "twice"}

    def test_it_says_which_one_it_uses(self) -> None:
        assert repr(ap.NormalizeTotal(100, total="genes")) == "NormalizeTotal(target_sum=100, total='genes')"
        assert repr(ap.NormalizeTotal()) == "NormalizeTotal()"

    @pytest.mark.parametrize(
        ("transform", "error", "message"),
        [
            ([ap.Clip(high=2), ap.NormalizeTotal()], ParameterError, "put it first, or say total='genes'"),
            (ap.NormalizeTotal(total="obs/depth"), FieldError, "no obs column 'depth'"),
            (ap.NormalizeTotal(total="obs/group"), FieldError, "obs/group holds labels, but totals must be numbers"),
        ],
    )
    def test_what_cannot_be_right_is_refused(self, data: Any, transform: Any, error: Any, message: str) -> None:
        with pytest.raises(error, match=message):
            ap.stream(data, genes=GENES, transform=transform)

    def test_another_total_is_refused(self) -> None:
        with pytest.raises(ParameterError, match="total must be 'all', 'genes' or a column such as 'obs/n_counts'"):
            ap.NormalizeTotal(total="n_counts")

    def test_a_stage_that_loses_the_totals_is_told(self) -> None:
        batches = ap.IndexSource(counts()).sort_within_chunks(40).read_rows(genes=GENES).batch_rows(40).map(made_anew)
        with pytest.raises(PipelineError, match=r"needs X:total of each row, .* batch\.replace"):
            list(batches.transform(ap.NormalizeTotal()))


def with_a_field(batch: ap.Batch) -> ap.Batch:
    return batch.replace(twice=batch.rows * 2)


def made_anew(batch: ap.Batch) -> ap.Batch:
    return ap.Batch(batch.rows, dict(batch))


class TestNeverNaNInSilence:
    def scaled(self) -> anndata.AnnData:
        return anndata.AnnData(np.array([[0.5, -2.5], [1, -0.5], [3, 2]], np.float32))

    def test_it_is_told_once_with_transform_field_and_reason(self) -> None:
        with pytest.warns(UserWarning, match="into NaN") as told:
            x_of(self.scaled(), transform=[ap.Clip(high=3), ap.Log1p()], block_size=1)
        text = "Log1p() turns finite values of X into NaN or infinity: it has negative values, down to -2.5: scaled, "
        assert [str(one.message) for one in told] == [f"{text}not counts"]

    def test_once_for_many_batches_and_epochs(self) -> None:
        data = anndata.AnnData(np.full((40, 2), -2, np.float32))
        loader = ap.stream(data, batch_size=4, transform=ap.Log1p())
        with pytest.warns(UserWarning, match="into NaN") as told:
            assert sum(len(list(loader)) for _ in range(2)) == 20
        assert len(told) == 1

    def test_a_dataset_tells_it_too(self) -> None:
        with pytest.warns(UserWarning, match=r"Log1p\(\) turns .* into NaN"):
            ap.AnnDataset(self.scaled(), transform=ap.Log1p())[:]

    def test_infinity_of_positive_values(self) -> None:
        with pytest.warns(UserWarning, match=r"Lambda\(reciprocal\) turns finite values of X into NaN or infinity$"):
            x_of(counts(), transform=torch.reciprocal)

    def test_sparse_rows_too(self) -> None:
        with pytest.warns(UserWarning, match="down to -4: scaled"):
            x_of(anndata.AnnData(sparse.csr_matrix([[0, -4.0], [1, 0]])), transform=ap.Log1p())

    def test_nothing_is_told_where_nothing_is_made(self) -> None:
        missing = anndata.AnnData(np.array([[np.nan, 1], [2, np.inf]], np.float32))
        large = anndata.AnnData(np.full((4, 4), 3e38, np.float32))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for data in (missing, large, counts()):
                x_of(data, transform=ap.Log1p())
