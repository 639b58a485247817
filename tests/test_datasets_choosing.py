"""Which cells an AnnDataset holds, and what is done to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from builders import adata_of, dense, tiny, write

from annpipes import AnnDataset, Compose, Log1p, NormalizeTotal, Transform
from annpipes.errors import FieldError, ParameterError, ParameterTypeError, RowIndexError

SHARED = tiny(10)


def numbers(items: Any) -> list[int]:
    """Which cells items are."""
    return [int(item["obs_number"]) for item in items]


class TestSubset:
    @pytest.mark.filterwarnings("ignore:.*chooses no row")
    @pytest.mark.parametrize(
        ("subset", "expected"),
        [
            (None, list(range(10))),
            ([3, 1, 3], [3, 1, 3]),
            (np.array([9, 0], np.uint8), [9, 0]),
            (torch.tensor([5, 2]), [5, 2]),
            (pd.Series([5, 2], index=[7, 8]), [5, 2]),
            (range(8, 2, -3), [8, 5]),
            (slice(None, None, 4), [0, 4, 8]),
            ([True] + [False] * 8 + [True], [0, 9]),
            (SHARED.obs["number"] > 6, [7, 8, 9]),
            ((SHARED.obs["number"].astype("Int64") > 6), [7, 8, 9]),
            (np.zeros(10, bool), []),
            ([], []),
            (np.array([], int), []),
            (["c7", "c2", "c7"], [7, 2, 7]),
            (SHARED.obs_names[[4, 1]], [4, 1]),
            (SHARED.obs_names[SHARED.obs["number"] > 7], [8, 9]),
            (np.array(["c3"]), [3]),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_whatever_names_cells(self, tmp_path: Path, subset: Any, expected: list[int]) -> None:
        for data in (SHARED, write(SHARED, tmp_path / "cells.h5ad")):
            ds = AnnDataset(data, obs_subset=subset)
            assert (len(ds), ds.shape) == (len(expected), (len(expected), 3))
            assert numbers(ds) == numbers(ds[:]) == expected
            if expected:
                assert numbers([ds[-1]]) == expected[-1:]

    @pytest.mark.parametrize(
        ("subset", "error", "message"),
        [
            ([0, 10], RowIndexError, r"obs_subset must lie in 0 … 9 \(10 rows\), got 10"),
            ([-1], RowIndexError, r"obs_subset must lie in 0 … 9 \(10 rows\), got -1"),
            (range(5, 12), RowIndexError, r"obs_subset must lie in 0 … 9 \(10 rows\), got 11"),
            ([True] * 9, ParameterError, "obs_subset is a mask of length 9, but there are 10 rows"),
            (np.ones(11, bool), ParameterError, "obs_subset is a mask of length 11, but there are 10 rows"),
            (["c1", "x9"], FieldError, r"no obs name 'x9' in AnnData\(10 × 3\) \(1 of 2 names unknown\)"),
            (pd.Index(["x9"]), FieldError, r"no obs name 'x9' in AnnData\(10 × 3\) \(1 of 1 names unknown\)"),
            ([1.5], ParameterTypeError, "obs_subset must be positions, a mask or obs names"),
            ([2**70], RowIndexError, "obs_subset must lie in 0 … 9"),
            ("c1", ParameterError, "obs_subset must be a list of positions, a mask or obs names"),
            (4, ParameterError, "obs_subset must be a list of positions, a mask or obs names"),
            ([[1, 2]], ParameterError, "obs_subset must be a list of positions, a mask or obs names"),
        ],
    )
    def test_what_names_no_cells_is_told(self, subset: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            AnnDataset(SHARED, obs_subset=subset)

    @pytest.mark.filterwarnings("ignore:Observation names are not unique:UserWarning")  # anndata's, and meant here
    def test_names_that_stand_twice_choose_nothing(self) -> None:
        adata = tiny(3)
        adata.obs_names = ["a", "b", "a"]
        with pytest.raises(ParameterError, match=r"obs names of .* are not unique \('a' occurs twice\): .* position"):
            AnnDataset(adata, obs_subset=["b"])
        assert len(AnnDataset(adata)) == 3

    def test_the_list_given_may_change_later(self) -> None:
        chosen = np.array([1, 2])
        ds = AnnDataset(SHARED, obs_subset=chosen)
        chosen[:] = 7
        assert numbers(ds) == [1, 2]


class Share(Transform):
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x / torch.sum(x, dim=-1, keepdim=True)


class PlainShare(Transform):
    """Divides by the largest total there is if it is given more than one cell."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.sum()


class Largest(Transform):
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.max()


class TestTransform:
    @pytest.mark.parametrize("transform", [Share(), PlainShare(), Compose([PlainShare()])], ids=repr)
    @pytest.mark.parametrize("x", [np.asarray, "csr"])
    def test_a_cell_fetched_alone_or_among_others_has_the_same_numbers(self, transform: Transform, x: Any) -> None:
        data = SHARED if x is not np.asarray else anndata.AnnData(SHARED.X, obs=SHARED.obs)
        ds = AnnDataset(data, transform=transform)
        whole = torch.stack([item["X"] for item in ds[:]])
        torch.testing.assert_close(whole, torch.from_numpy(SHARED.X / SHARED.X.sum(axis=1, keepdims=True)))
        for batch in ([0], [3, 9], list(range(10))):
            items = ds.__getitems__(batch)
            assert all(torch.equal(item["X"], whole[row]) for item, row in zip(items, batch, strict=True))

    def test_shipped_ones_apply_to_every_source(self, h5ad: Path) -> None:
        x = dense(adata_of().X)
        expected = np.log1p(x / np.maximum(x.sum(axis=1, keepdims=True), 1e-9) * 10)
        for data in (h5ad, adata_of(), adata_of(x="dense"), adata_of()[:], anndata.read_h5ad(h5ad, backed="r")):
            ds = AnnDataset(data, transform=Compose([NormalizeTotal(10), Log1p()]))
            np.testing.assert_allclose(np.stack([item["X"] for item in ds[:]]), expected, rtol=1e-5)

    def test_obs_is_left_alone(self) -> None:
        assert numbers(AnnDataset(SHARED, transform=Log1p())[:]) == list(range(10))

    @pytest.mark.filterwarnings("ignore:.*chooses no row")
    def test_no_cells_are_no_reason_to_call_it(self) -> None:
        for transform in (Largest(), Share(), Compose([Largest(), Log1p()])):
            assert AnnDataset(SHARED, transform=transform)[:0] == []
            assert AnnDataset(SHARED, transform=transform, obs_subset=[])[:] == []

    @pytest.mark.parametrize("transform", [np.log1p, torch.nn.Identity(), "log1p", Log1p, lambda x: x, [Log1p()]])
    def test_only_instances_of_transform_are_taken(self, transform: Any) -> None:
        with pytest.raises(ParameterTypeError, match=r"transform takes instances"):
            AnnDataset(SHARED, transform=transform)
