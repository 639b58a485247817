"""Genes chosen where values are decoded: the same rows as when they are chosen afterwards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anndata
import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from storage_files import chunk_of, create, csr_file, csr_of, matrix_values, refused, relayout, stored_x, write

from annpipes.errors import ChangedError, DamageError
from annpipes.stores import gene_subsets as selecting
from annpipes.stores import open_store
from annpipes.stores.genes import Genes

N_OBS, N_VARS = 60, 25
LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "plain storage chunks": {"chunks": 32},
    "gzip": {"chunks": 32, "compression": "gzip"},
    "gzip + shuffle": {"chunks": 32, "compression": "gzip", "shuffle": True},
    "lz4": {"chunks": 32, **hdf5plugin.LZ4()},
    "blosc": {"chunks": 32, **hdf5plugin.Blosc(cname="lz4")},
    "one storage chunk": {"chunks": 100_000, "maxshape": None, "compression": "gzip"},
    "lzf, through h5py": {"chunks": 32, "compression": "lzf"},
}


@pytest.fixture(params=LAYOUTS, scope="module")
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write(tmp_path_factory.mktemp("genes") / "cells.h5ad", csr_of(matrix_values(N_OBS, N_VARS)))
    for name in ("data", "indices"):
        relayout(made, f"X/{name}", create(**LAYOUTS[request.param]))
    return made


def chosen(path: Path, drawn: Any, genes: Any) -> Any:
    store = open_store(path)
    return store.read(chunk_of(drawn), ["X"], store.genes(genes))["X"]


@given(
    drawn=st.lists(st.integers(0, N_OBS - 1), max_size=150),
    genes=st.lists(st.integers(0, N_VARS - 1), unique=True),
)
def test_rows_and_genes_are_anndatas(path: Path, drawn: list[int], genes: list[int]) -> None:
    rows = chosen(path, drawn, genes)
    assert rows.shape == (len(drawn), len(genes))
    expected = stored_x(path).toarray()[np.ix_(drawn, genes)]
    np.testing.assert_array_equal(rows.to_dense(), expected)
    assert len(rows.data) == np.count_nonzero(expected)


@pytest.mark.parametrize("layout", ["contiguous", "gzip"])
@pytest.mark.parametrize("data", ["bool", "u1", "i2", "f2", "f4", "f8", "i8"])
@pytest.mark.parametrize("indices", ["u1", "i2", "i4", "i8"])
def test_every_type_of_number(tmp_path: Path, layout: str, data: str, indices: str) -> None:
    path = write(tmp_path / "cells.h5ad", csr_of(matrix_values(N_OBS, N_VARS)))
    for name, dtype in (("data", data), ("indices", indices)):
        with h5py.File(path) as file:
            values = file[f"X/{name}"][()].astype(dtype)
        relayout(path, f"X/{name}", create(**LAYOUTS[layout]), values)
    drawn, genes = np.random.default_rng(0).permutation(N_OBS), [7, 3, 24, 0]
    store = open_store(path)
    whole = store.read(chunk_of(drawn), ["X"])["X"]
    rows = store.read(chunk_of(drawn), ["X"], store.genes(genes))["X"]
    assert (rows.data.dtype, rows.indices.dtype) == (np.dtype(data), np.dtype(indices))
    np.testing.assert_array_equal(rows.to_dense(), whole.to_dense()[:, genes])


def test_without_isal_rows_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = csr_file(tmp_path / "cells.h5ad", chunks=16, compression="gzip")
    with_isal = chosen(path, range(23), [5, 1])
    monkeypatch.setattr(selecting, "loop_of", lambda *chunks: None)
    without = chosen(path, range(23), [5, 1])
    np.testing.assert_array_equal(with_isal.to_dense(), without.to_dense())


def test_genes_are_chosen_while_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("annpipes.stores.matrices.take_genes", lambda *_: pytest.fail("rows were copied whole"))
    for layout in ("contiguous", "gzip", "lz4", "blosc"):
        path = csr_file(tmp_path / f"{layout}.h5ad", **LAYOUTS[layout])
        assert chosen(path, range(23), [5, 1]).shape == (23, 2)


@pytest.mark.parametrize("options", [{}, {"chunks": 4, "compression": "gzip"}], ids=["plain", "gzip"])
def test_a_file_that_changed_is_refused_whichever_genes_are_read(tmp_path: Path, options: dict[str, Any]) -> None:
    store = open_store(path := csr_file(tmp_path / "changed.h5ad", **options))
    chunk, genes = chunk_of(range(23)), store.genes([5, 1])
    store.read(chunk, ["X"], genes)
    os.utime(path, ns=(1, 1))
    with pytest.raises(ChangedError, match="changed since it was first opened"):
        store.read(chunk, ["X"], genes)


@pytest.mark.parametrize("options", [{}, {"chunks": 16, "compression": "gzip"}], ids=["plain", "gzip"])
def test_a_column_outside_names_its_row(tmp_path: Path, options: dict[str, Any]) -> None:
    path = csr_file(tmp_path / "outside.h5ad", **options)
    with h5py.File(path) as file:
        indices, indptr = file["X/indices"][()], file["X/indptr"][()]
    indices[indptr[11]] = 9
    relayout(path, "X/indices", create(**options), indices)
    with pytest.raises(DamageError, match=r"X/indices of .*outside\.h5ad, rows 11 … 11: a column is not in 0 … 8"):
        chosen(path, range(23), [5, 1])


def test_a_damaged_storage_chunk_is_told_and_others_are_read(tmp_path: Path) -> None:
    path = csr_file(tmp_path / "broken.h5ad", chunks=16, compression="gzip")
    with h5py.File(path) as file:
        place = file["X/data"].id.get_chunk_info(2)
    octets = bytearray(path.read_bytes())
    octets[place.byte_offset + place.size // 2] ^= 0xFF
    path.write_bytes(octets)
    with pytest.raises(DamageError, match=r"X/data of .*broken\.h5ad, rows \d+ … \d+: storage chunk 2"):
        chosen(path, range(23), [5, 1])
    assert chosen(path, [0], [5, 1]).shape == (1, 2)
    assert "storage chunk 2" in refused(path)


def test_genes_of_genes() -> None:
    first, second = Genes.of(np.array([4, -1, 0, 2]), 6), Genes.of(np.array([3, 1, 0]), 4)
    both = first.then(second)
    assert both.positions.tolist() == [2, -1, 4]
    assert both.columns.tolist() == [-1, -1, 0, -1, 2, -1]
    assert both.absent.tolist() == [1]


@pytest.mark.parametrize("options", [{}, {"chunks": 1000, "compression": "gzip"}], ids=["plain", "gzip"])
@pytest.mark.parametrize("kept", [32_766, 32_767, 32_768, 40_000])
def test_many_genes_have_the_columns_that_they_are_given(tmp_path: Path, options: dict[str, Any], kept: int) -> None:
    values = sparse.random(6, 40_000, 0.2, "csr", "float32", random_state=0)
    path = write(tmp_path / "wide.h5ad", values)
    for name in ("data", "indices"):
        relayout(path, f"X/{name}", create(**options))
    genes = np.random.default_rng(1).permutation(40_000)[:kept]
    np.testing.assert_array_equal(chosen(path, [5, 0, 3], genes).to_dense(), values[[5, 0, 3]][:, genes].toarray())


def test_many_genes_in_another_order_are_those_of_the_first_file(tmp_path: Path) -> None:
    values = sparse.random(6, 40_000, 0.2, "csr", "float32", random_state=0)
    first = write(tmp_path / "first.h5ad", values)
    order = np.random.default_rng(1).permutation(40_000)
    anndata.read_h5ad(first)[:, order].copy().write_h5ad(tmp_path / "second.h5ad")
    both = open_store([first, tmp_path / "second.h5ad"]).read(chunk_of(range(12)), ["X"])["X"].to_dense()
    np.testing.assert_array_equal(both[:6], values.toarray())
    np.testing.assert_array_equal(both[6:], values.toarray())
