"""Every kind of source through one contract; the oracle is what anndata holds in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from builders import N_OBS, adata_of, dense, write
from contracts import StoreContract, chunk_of, matrices

from annpipes import SparseRows
from annpipes.stores import Store, open_store

FILES = [
    ("csr", "float32", None),
    ("csr", "float32", "gzip"),
    ("csr", "float32", "lzf"),
    ("csr", "float64", "gzip"),
    ("csr", "int64", None),
    ("csr", "int32", "gzip"),
    ("csr", "uint16", "lzf"),
    ("csr", "uint8", None),
    ("csr", "bool", None),
    ("csr_array", "float32", None),
    ("dense", "float32", None),
    ("dense", "float32", "gzip"),
    ("dense", "float64", "lzf"),
    ("dense", "int64", "gzip"),
    ("dense", "int32", None),
    ("dense", "uint16", None),
    ("dense", "bool", "gzip"),
]


class TestFile(StoreContract):
    @pytest.fixture(scope="class", params=FILES, ids=lambda kind: "-".join(map(str, kind)))
    @classmethod
    def path(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
        x, dtype, compression = request.param
        return write(adata_of(x=x, dtype=dtype), tmp_path_factory.mktemp("store") / "cells.h5ad", compression)

    @pytest.fixture(scope="class")
    @classmethod
    def adata(cls, path: Path) -> anndata.AnnData:
        return anndata.read_h5ad(path)

    @pytest.fixture
    def store(self, path: Path) -> Store:
        return open_store(path)


class TestMemory(StoreContract):
    @pytest.fixture(params=["csr-float32", "csr_array-float64", "dense-float32", "dense-int64", "csr-int32"])
    def adata(self, request: pytest.FixtureRequest) -> anndata.AnnData:
        x, dtype = request.param.split("-")
        return adata_of(x=x, dtype=dtype)

    @pytest.fixture
    def store(self, adata: anndata.AnnData) -> Store:
        return open_store(adata)

    def test_the_object_is_not_changed(self, store: Store, adata: anndata.AnnData) -> None:
        before = {field: dense(values).copy() for field, values in matrices(adata).items()}
        for values in store.read(chunk_of(range(N_OBS)), list(before)).values():
            numbers = values.data if isinstance(values, SparseRows) else values
            numbers[...] = 7  # as a transform might
        for field, values in matrices(adata).items():
            np.testing.assert_array_equal(dense(values), before[field])


VIEWS = {
    "rows": (np.s_[::-1], np.s_[:]),
    "scattered rows twice": (np.arange(N_OBS) * 5 % 7, np.s_[:]),
    "genes": (np.s_[:], np.s_[2:9]),
    "rows and genes": (np.arange(N_OBS)[::-1], [3, 1, 0]),
}


@pytest.mark.filterwarnings("ignore:Observation names are not unique:UserWarning")  # anndata's, and meant here
class TestView(StoreContract):
    @pytest.fixture(params=VIEWS.values(), ids=VIEWS)
    def view(self, request: pytest.FixtureRequest) -> anndata.AnnData:
        rows, genes = request.param
        return adata_of()[rows, genes]

    @pytest.fixture
    def adata(self, view: anndata.AnnData) -> anndata.AnnData:
        return view.copy()

    @pytest.fixture
    def store(self, view: anndata.AnnData) -> Iterator[Store]:
        yield open_store(view)
        assert view.is_view  # looking at it must not have made a copy of everything


class TestBacked(StoreContract):
    @pytest.fixture(params=["csr", "dense"])
    def path(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        return write(adata_of(x=request.param), tmp_path / "cells.h5ad", "gzip")

    @pytest.fixture
    def adata(self, path: Path) -> anndata.AnnData:
        return anndata.read_h5ad(path)

    @pytest.fixture(params=["r", "r+"])
    def store(self, path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
        backed = anndata.read_h5ad(path, backed=request.param)
        yield open_store(backed)
        backed.file.close()
