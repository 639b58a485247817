"""Matrices in memory: by the engine where it can read them, as numpy and scipy do, whatever is done to them."""

from __future__ import annotations

from typing import Any

import anndata
import numpy as np
import pytest
from builders import dense
from scipy import sparse
from storage_files import chunk_of, matrix_values

from annpipes.errors import ChangedError, DamageError
from annpipes.stores import open_store
from annpipes.stores.arrays import _LONG_ROW, CsrMemory, DenseByNumpy, SparseByScipy
from annpipes.stores.matrices import DenseRows

DRAWN = [39, 0, 7, 7, 12]
VALUES = matrix_values(40)


def csr(dtype: Any = np.float32, index: Any = np.int32) -> Any:
    matrix = sparse.csr_matrix(VALUES.astype(dtype))
    matrix.indices, matrix.indptr = matrix.indices.astype(index), matrix.indptr.astype(index)
    return matrix


def read(adata: anndata.AnnData, rows: list[int] = DRAWN, **options: Any) -> Any:
    return dense(open_store(adata).read(chunk_of(rows), ["X"], **options)["X"])


def read_only(values: Any) -> Any:
    values.flags.writeable = False
    return values


FORMS = {
    "csr": (csr(), CsrMemory),
    "csr_array": (sparse.csr_array(csr()), CsrMemory),
    "csr of int64": (csr(np.int64, np.int64), CsrMemory),
    "csr of bool": (csr(bool), CsrMemory),
    "csr of float16": (sparse.csr_matrix(VALUES), SparseByScipy),
    "csr of foreign byte order": (csr(), SparseByScipy),
    "dense": (VALUES.copy(), DenseRows),
    "dense of float16": (VALUES.astype(np.float16), DenseRows),
    "dense in Fortran's order": (np.asfortranarray(VALUES), DenseByNumpy),
    "dense with strides": (np.repeat(VALUES, 2, axis=1)[:, ::2], DenseByNumpy),
    "dense of foreign byte order": (VALUES.astype(">f4"), DenseByNumpy),
    "dense and read-only": (read_only(VALUES.copy()), DenseRows),
}
FORMS["csr of float16"][0].data = FORMS["csr of float16"][0].data.astype(np.float16)
FORMS["csr of foreign byte order"][0].data = FORMS["csr of foreign byte order"][0].data.astype(">f4")


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_those_of_numpy_by_the_engine_where_it_can(form: str) -> None:
    x, reader = FORMS[form]
    adata = anndata.AnnData(x)
    assert type(open_store(adata).matrix("X")) is reader  # type: ignore[attr-defined]
    expected = (VALUES.astype(bool) if form == "csr of bool" else VALUES).astype(float)
    np.testing.assert_array_equal(read(adata).astype(float), expected[DRAWN])
    genes = open_store(adata).genes([5, 0])
    np.testing.assert_array_equal(read(adata, genes=genes).astype(float), expected[DRAWN][:, [5, 0]])


@pytest.mark.parametrize("genes", [None, [700, 3, 12]])
@pytest.mark.parametrize("first", [0, 2])
def test_long_rows_come_in_the_drawn_order(first: int, genes: list[int] | None) -> None:
    values = np.random.default_rng(0).poisson(2.0, (40, 1000)).astype(np.float32)
    store = open_store(anndata.AnnData(sparse.csr_matrix(values)))
    matrix = store.matrix("X")  # type: ignore[attr-defined]
    assert matrix.row_bytes > _LONG_ROW
    begun = matrix.begin(chunk_of(DRAWN), first, None if genes is None else store.genes(genes))
    parts = [begun.first, *([begun.rest()] if first else [])]
    expected = values[DRAWN] if genes is None else values[DRAWN][:, genes]
    np.testing.assert_array_equal(np.concatenate([dense(part) for part in parts]), expected)


def test_batches_are_no_views_of_the_data() -> None:
    for x in (csr(), VALUES.copy()):
        adata = anndata.AnnData(x)
        found = open_store(adata).read(chunk_of([0, 1, 2]), ["X"])["X"]
        (found.data if sparse.issparse(x) else found)[:] = -1
        np.testing.assert_array_equal(read(adata, [0, 1, 2]), VALUES[:3])


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.data.__setitem__(slice(None), x.data * 2),
        lambda x: (x.data.__setitem__(slice(0, None, 3), 0), x.eliminate_zeros()),
        lambda x: x.sort_indices(),
        lambda x: x.resize(x.shape),
        lambda x: setattr(x, "data", x.data + 1),
    ],
    ids=["values set", "zeros eliminated", "sorted", "resized", "array replaced"],
)
def test_what_is_changed_within_a_matrix_is_read_as_scipy_reads_it(change: Any) -> None:
    adata = anndata.AnnData(csr())
    store = open_store(adata)
    dense(store.read(chunk_of(DRAWN), ["X"])["X"])
    change(adata.X)
    np.testing.assert_array_equal(dense(store.read(chunk_of(DRAWN), ["X"])["X"]), adata.X[DRAWN].toarray())


@pytest.mark.parametrize("wrong", [2**30, -5, 10**6])
def test_rows_that_lead_outside_of_the_values_are_refused(wrong: int) -> None:
    adata = anndata.AnnData(csr())
    store = open_store(adata)
    store.check(["X"])
    adata.X.indptr[8] = wrong
    with pytest.raises(ChangedError, match="points outside the stored values"):
        store.read(chunk_of([7]), ["X"])
    np.testing.assert_array_equal(dense(store.read(chunk_of([0]), ["X"])["X"]), VALUES[[0]])


@pytest.mark.parametrize("genes", [None, [5, 0]])
@pytest.mark.parametrize("rows", [[7], [7, 0]])
def test_rows_whose_end_overflows_are_refused(rows: list[int], genes: list[int] | None) -> None:
    adata = anndata.AnnData(csr(index=np.int64))
    store = open_store(adata)
    chosen = None if genes is None else store.genes(genes)
    adata.X.indptr[[7, 8]] = 2**63 - 1 - 2**10, -(2**63) + 5  # 2^10 + 6 values by their difference in 64 bits
    with pytest.raises(ChangedError, match="points outside the stored values"):
        store.read(chunk_of(rows), ["X"], genes=chosen)


def test_columns_that_lie_outside_are_refused() -> None:
    adata = anndata.AnnData(csr())
    adata.X.indices[adata.X.indptr[8]] = 10**6
    with pytest.raises(DamageError, match=r"X/indices of AnnData.*, rows 8 … 8: a column is not in 0"):
        read(adata, [8])


def test_a_state_is_asked_for_after_every_batch_and_names_are_read_once() -> None:
    adata = anndata.AnnData(csr())
    store = open_store(adata)
    first = store.fingerprint()
    assert store.fingerprint()["obs_names"] is first["obs_names"]
    renamed = anndata.AnnData(csr())
    renamed.obs_names = [f"other-{i}" for i in range(40)]
    assert open_store(renamed).fingerprint() != first
    adata.obs_names = renamed.obs_names
    assert store.fingerprint() == open_store(renamed).fingerprint()
