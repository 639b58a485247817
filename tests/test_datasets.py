from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from builders import adata_of, dense, expected_column, tiny, write
from hypothesis import given
from hypothesis import strategies as st

from annpipes import AnnDataset, Compose, Log1p, NormalizeTotal, Scale
from annpipes.errors import (
    FieldError,
    FormatError,
    ParameterError,
    ParameterTypeError,
    RowIndexError,
    SourceError,
)

SHARED = tiny(10)


def numbers(items: Any) -> list[int]:
    """Which cells items are."""
    return [int(item["obs_number"]) for item in items]


@pytest.fixture(params=["csr", "dense", "view", "backed csr", "backed dense", "path", "str", "gzip", "lzf"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The same cells in every form that is taken."""
    kind = request.param
    if kind in ("csr", "dense"):
        return adata_of(x=kind)
    if kind == "view":
        return adata_of()[::-1][::-1]
    x = "dense" if kind == "backed dense" else "csr"
    path = write(adata_of(x=x), tmp_path / "cells.h5ad", kind if kind in ("gzip", "lzf") else None)
    if not kind.startswith("backed"):
        return str(path) if kind == "str" else path
    return anndata.read_h5ad(path, backed="r")  # closed when it is forgotten


class TestItems:
    def test_every_value_is_anndatas(self, source: Any) -> None:
        ds, expected = AnnDataset(source), adata_of()
        x = dense(expected.X)
        assert (len(ds), ds.shape, ds.chunk_size) == (29, (29, 11), 6000)
        for row in (0, 1, 13, 28):
            item = ds[row]
            assert list(item) == ["X", *(f"obs_{column}" for column in expected.obs)]
            assert item["X"].shape == (11,)
            assert item["X"].dtype == torch.float32
            np.testing.assert_array_equal(item["X"], x[row].astype(np.float32))
            for column in expected.obs:
                assert_value(item[f"obs_{column}"], expected_column(expected.obs[column])[row])

    def test_many_at_once_come_in_the_order_asked_duplicates_and_all(self, source: Any) -> None:
        x = dense(adata_of().X)
        for chunk_size in (1, 3, 6000):
            ds, asked = AnnDataset(source, chunk_size=chunk_size), [5, 28, 5, 0, -1, 13, 5]
            items = ds.__getitems__(asked)
            assert len(items) == 7
            np.testing.assert_array_equal(np.stack([item["X"] for item in items]), x[asked])
            assert [item["obs_barcode"] for item in items] == [ds[row]["obs_barcode"] for row in asked]

    @pytest.mark.parametrize("dtype", ["float64", "int32", "int64", "uint16", "uint8", "bool"])
    @pytest.mark.parametrize("x", ["csr", "dense"])
    def test_x_is_float32_whatever_is_stored(self, tmp_path: Path, x: str, dtype: str) -> None:
        adata = adata_of(x=x, dtype=dtype)
        for data in (adata, write(adata, tmp_path / "cells.h5ad")):
            items = AnnDataset(data)[:]
            assert {item["X"].dtype for item in items} == {torch.float32}
            np.testing.assert_array_equal(np.stack([item["X"] for item in items]), dense(adata.X).astype(np.float32))

    def test_an_item_is_ones_own(self) -> None:
        ds = AnnDataset(SHARED)
        ds[3]["X"][:] = -1
        ds[2:4][1]["X"][:] = -1
        assert ds[3]["X"].tolist() == SHARED.X[3].tolist() == [300, 301, 302]

    def test_missing_values_are_the_documented_ones(self) -> None:
        adata = tiny(2)
        adata.obs["label"] = pd.Categorical(["a", None])
        adata.obs["text"] = pd.array(["b", None], dtype="string")
        adata.obs["count"] = pd.array([1, None], dtype="Int64")
        adata.obs["flag"] = pd.array([True, None], dtype="boolean")
        adata.obs["size"] = [0.5, np.nan]
        known, missing = AnnDataset(adata)[:]
        assert (known["obs_label"], known["obs_text"]) == ("a", "b")
        assert (missing["obs_label"], missing["obs_text"]) == ("", "")
        for name, value in (("count", 1), ("flag", 1), ("size", 0.5)):
            assert known[f"obs_{name}"].dtype == missing[f"obs_{name}"].dtype == torch.float64
            assert known[f"obs_{name}"] == value
            assert torch.isnan(missing[f"obs_{name}"])

    def test_without_obs_columns_there_is_x_alone(self) -> None:
        assert list(AnnDataset(anndata.AnnData(np.eye(2, dtype=np.float32)))[0]) == ["X"]


def assert_value(value: Any, expected: Any) -> None:
    if isinstance(expected, str):
        assert type(value) is str
        assert value == expected
    else:
        assert value.shape == ()
        assert value.dtype.is_floating_point == (np.asarray(expected).dtype.kind == "f")
        assert (value.dtype == torch.bool) == (np.asarray(expected).dtype.kind == "b")
        np.testing.assert_array_equal(value, expected)


class TestIndexing:
    @given(st.integers(-10, 9))
    def test_any_position_from_either_end(self, index: int) -> None:
        ds = AnnDataset(SHARED)
        for kind in (int, np.int64, np.int8, torch.tensor):
            assert numbers([ds[kind(index)]]) == [range(10)[index]]

    @given(st.slices(10))
    def test_slices_are_those_of_a_list(self, part: slice) -> None:
        assert numbers(AnnDataset(SHARED)[part]) == list(range(10))[part]
        assert numbers(AnnDataset(SHARED).__getitems__(range(10))[part]) == list(range(10))[part]

    @given(st.lists(st.integers(-10, 9)))
    def test_any_positions_at_once(self, asked: list[int]) -> None:
        ds = AnnDataset(SHARED, chunk_size=4)
        for kind in (list, np.array, torch.tensor, tuple):
            if asked or kind in (list, tuple):
                assert numbers(ds.__getitems__(kind(asked))) == [range(10)[index] for index in asked]

    @pytest.mark.parametrize("index", [10, -11, 2**40, 2**70, -(2**70), np.int64(10)])
    def test_a_position_outside_is_an_index_error(self, index: Any) -> None:
        with pytest.raises(RowIndexError, match=f"index {index} is out of range for 10 cells"):
            AnnDataset(SHARED)[index]
        with pytest.raises(RowIndexError, match=f"index {index} is out of range for 10 cells"):
            AnnDataset(SHARED).__getitems__([0, index])

    @pytest.mark.parametrize("index", [1.0, "c1", None, [1.5], [[1, 2]]])
    def test_what_is_no_position_is_a_type_error(self, index: Any) -> None:
        with pytest.raises(TypeError):
            AnnDataset(SHARED)[index]

    def test_it_is_iterated_as_any_sequence(self) -> None:
        ds = AnnDataset(SHARED, obs_subset=[4, 2])
        assert numbers(ds) == [4, 2]
        assert numbers(reversed(ds)) == [2, 4]

    def test_an_item_of_items_lies_within_them(self) -> None:
        items = AnnDataset(SHARED).__getitems__([3, 1])
        assert numbers([items[-1], items[0]]) == [1, 3]
        with pytest.raises(IndexError):
            items[2]


class TestMaking:
    @pytest.mark.parametrize(
        ("make", "error", "message"),
        [
            (lambda: AnnDataset("nowhere.h5ad"), SourceError, "no file 'nowhere.h5ad'"),
            (
                lambda: AnnDataset(None),
                ParameterTypeError,
                "a list of these, got NoneType",
            ),
            (
                lambda: AnnDataset(SHARED.X),
                ParameterTypeError,
                "a list of these, got ndarray",
            ),
            (lambda: AnnDataset(SHARED, chunk_size=0), ParameterError, "chunk_size must be at least 1, got 0"),
            (
                lambda: AnnDataset(SHARED, chunk_size=1.5),
                ParameterTypeError,
                r"chunk_size must be an integer, got 1\.5",
            ),
            (lambda: AnnDataset(anndata.AnnData(obs=SHARED.obs)), FieldError, "no field 'X' in AnnData"),
            (lambda: AnnDataset(SHARED, None), TypeError, "positional"),
        ],
    )
    def test_a_wrong_argument_is_named(self, make: Callable[[], Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            make()

    def test_columns_on_disk_are_told_at_once_with_the_remedy(self, tmp_path: Path) -> None:
        path = write(adata_of(x="csc"), tmp_path / "cells.h5ad")
        for data in (path, anndata.read_h5ad(path, backed="r")):
            with pytest.raises(FormatError, match=r"stored by columns \(CSC\).*\.tocsr\(\)"):
                AnnDataset(data)

    def test_repr_tells_source_shape_and_transform(self, h5ad: Path) -> None:
        assert repr(AnnDataset(h5ad)) == f"AnnDataset({str(h5ad)!r}, n_obs=29, n_vars=11, chunk_size=6000)"
        ds = AnnDataset(SHARED, transform=Compose([NormalizeTotal(5), Log1p()]), obs_subset=[1], chunk_size=7)
        assert repr(ds) == (
            "AnnDataset(<AnnData(10 × 3)>, n_obs=1, n_vars=3, "
            "transform=Compose([NormalizeTotal(target_sum=5), Log1p()]), chunk_size=7)"
        )

    def test_pickles_and_copies_before_and_after_use(self, source: Any) -> None:
        ds = AnnDataset(source, transform=Scale(np.zeros(11), np.ones(11)), obs_subset=[4, 2, 2], chunk_size=2)
        for _ in range(2):
            for twin in (pickle.loads(pickle.dumps(ds)), copy.deepcopy(ds), copy.copy(ds)):
                assert (len(twin), twin.shape, twin.chunk_size) == (3, (3, 11), 2)
                for mine, theirs in zip(twin, ds, strict=True):
                    assert torch.equal(mine["X"], theirs["X"])
                    assert mine["obs_cell_type"] == theirs["obs_cell_type"]

    def test_a_relative_path_outlives_a_change_of_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "elsewhere").mkdir()
        write(SHARED, tmp_path / "cells.h5ad")
        monkeypatch.chdir(tmp_path)
        ds = AnnDataset("cells.h5ad")
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert numbers(ds) == list(range(10))
        assert numbers(pickle.loads(pickle.dumps(ds))) == list(range(10))
