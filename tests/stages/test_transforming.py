from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch
from builders import dense, tiny
from contracts import StageContract
from toolz import compose_left, pipe

from annpipes import (
    Batch,
    Clip,
    Compose,
    IndexSource,
    Log1p,
    NormalizeTotal,
    RowTransformer,
    Scale,
    SparseRows,
    Transform,
)
from annpipes.errors import ParameterError, ParameterTypeError
from annpipes.transforms.applying import transform_x


class TestRowTransformer(StageContract):
    shuffled = True

    def chained(self, path: Path) -> Any:
        chunks = IndexSource(path, block_size=3).shuffle_blocks().sort_within_chunks(7)
        return chunks.read_rows(["rows", "X"]).batch_rows(4).transform(Compose([NormalizeTotal(10), Log1p()]))

    def constructed(self, path: Path) -> Any:
        return RowTransformer(self.chained(path).source_datapipe, Compose([NormalizeTotal(10), Log1p()]))


class Doubled(Transform):
    """Written for one cell."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        assert x.ndim == 1
        return x * 2


class Widened(Transform):
    batched = True

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x.sum(dim=-1, keepdim=True)], dim=-1)


def read(adata: anndata.AnnData, *fields: str) -> Any:
    return IndexSource(adata).sort_within_chunks(7).read_rows(["X", *fields]).batch_rows(4)


def test_only_x_changes(adata: anndata.AnnData) -> None:
    plain = list(read(adata, "layers/counts", "obs/int32"))
    for before, after in zip(plain, read(adata, "layers/counts", "obs/int32").transform(Log1p()), strict=True):
        np.testing.assert_allclose(dense(after["X"]), np.log1p(dense(before["X"])), rtol=1e-6)
        np.testing.assert_array_equal(dense(after["layers_counts"]), dense(before["layers_counts"]))
        assert after["obs_int32"].tolist() == before["obs_int32"].tolist()
        assert after.rows.tolist() == before.rows.tolist()


def test_the_batch_received_is_not_edited(adata: anndata.AnnData) -> None:
    for values in (dense(adata.X), adata.X):
        matrix = anndata.AnnData(values)
        (batch,) = read(matrix).batch_rows(29)
        before = dense(batch["X"]).copy()
        for transform in (NormalizeTotal(), Log1p(), Clip(high=1), Scale(np.ones(11), np.ones(11), zero_center=False)):
            transform_x(transform, batch["X"])
            np.testing.assert_array_equal(dense(batch["X"]), before)
        np.testing.assert_array_equal(dense(matrix.X), dense(values))


def test_rows_stay_sparse_for_as_long_as_every_step_can(adata: anndata.AnnData) -> None:
    (rows,) = (batch["X"] for batch in read(adata).batch_rows(29))
    assert isinstance(transform_x(Compose([NormalizeTotal(), Log1p()]), rows), SparseRows)
    assert isinstance(transform_x(Compose([NormalizeTotal(), Doubled(), Log1p()]), rows), np.ndarray)
    assert isinstance(transform_x(Clip(low=1), rows), np.ndarray)


@pytest.mark.parametrize("kind", ["int64", "uint16", "float64", "bool", ">f4"])
def test_a_transform_is_given_float32_whatever_is_stored(kind: str) -> None:
    seen = []

    class Look(Transform):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.dtype)
            return x

    result = transform_x(Look(), np.ones((2, 3), kind))
    assert set(seen) == {torch.float32}
    assert result.tolist() == np.ones((2, 3)).tolist()


def test_values_stored_twice_for_one_place_are_one_value_to_a_transform() -> None:
    rows = SparseRows(np.array([3.0, 1.0], np.float32), np.array([1, 1]), np.array([0, 2]), 2)
    np.testing.assert_allclose(dense(transform_x(Log1p(), rows)), np.log1p([[0, 4]]), rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4, 29])
def test_numbers_do_not_depend_on_the_batch(adata: anndata.AnnData, batch_size: int) -> None:
    expected = dense(adata.X) * 2
    batches = IndexSource(adata).sort_within_chunks(7).read_rows(["X", "rows"]).batch_rows(batch_size)
    for batch in batches.transform(Doubled()):
        np.testing.assert_array_equal(batch["X"], expected[batch.rows])


def test_rows_may_become_wider(adata: anndata.AnnData) -> None:
    (batch,) = read(adata).batch_rows(29).transform(Widened())
    np.testing.assert_allclose(batch["X"][:, -1], np.asarray(adata.X.sum(axis=1)).ravel(), rtol=1e-6)


def test_no_rows_are_transformed_to_no_rows() -> None:
    for x in (np.zeros((0, 4), np.float32), SparseRows(np.zeros(0, "f4"), np.zeros(0, "i4"), np.zeros(1, int), 4)):
        for transform in (NormalizeTotal(), Log1p(), Doubled(), Scale(np.ones(4), np.ones(4)), Clip(low=1)):
            assert transform_x(transform, x).shape == (0, 4)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ("log1p", r"transform takes instances of annpipes\.Transform, got 'log1p'"),
        (None, r"transform takes instances of annpipes\.Transform, got None"),
        (Log1p, r"transform takes instances: Log1p\(…\), not the class itself"),
    ],
)
def test_only_a_transform_is_taken(transform: Any, message: str) -> None:
    with pytest.raises(ParameterTypeError, match=message):
        read(tiny(3)).transform(transform)


def test_a_transform_that_does_not_fit_the_data_names_both() -> None:
    with pytest.raises(ParameterError, match="Scale was made for 5 genes, got rows of 3"):
        list(read(tiny(3)).transform(Scale(np.zeros(5), np.ones(5))))


def with_library_size(batch: Batch) -> Batch:
    return batch.replace(size=dense(batch["X"]).sum(axis=1))


def test_toolz_composes_stages_and_transforms(adata: anndata.AnnData) -> None:
    chained = read(adata, "rows").transform(Log1p()).map(with_library_size).collate_rows()
    steps = [
        lambda source: source.sort_within_chunks(7),
        lambda chunks: chunks.read_rows(["X", "rows"]),
        lambda chunks: chunks.batch_rows(4),
        lambda batches: RowTransformer(batches, Log1p()),
        lambda batches: batches.map(with_library_size),
        lambda batches: batches.collate_rows(),
    ]
    for made in (pipe(IndexSource(adata), *steps), compose_left(IndexSource, *steps)(adata)):
        for ours, theirs in zip(made, chained, strict=True):
            assert ours["rows"].tolist() == theirs["rows"].tolist()
            assert torch.equal(ours["X"], theirs["X"])
            assert torch.equal(ours["size"], theirs["size"])
    x = torch.tensor([1.0, 3.0])
    assert torch.equal(pipe(x, NormalizeTotal(8), Log1p()), Compose([NormalizeTotal(8), Log1p()])(x))
    assert torch.equal(compose_left(NormalizeTotal(8), Log1p())(x), torch.log1p(torch.tensor([2.0, 6.0])))
