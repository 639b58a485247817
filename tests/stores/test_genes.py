"""Some genes of X and of layers, chosen while reading; the oracle is anndata's own column indexing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from builders import adata_of, dense, tiny, write
from contracts import StageContract, chunk_of
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from annpipes import IndexSource, stream
from annpipes.errors import FieldError, ParameterError, RowIndexError
from annpipes.stores import open_store

FIELDS = ["X", "layers/counts", "layers/logged", "raw/X", "obsm/X_pca", "obs/donor"]


class TestRowReaderWithGenes(StageContract):
    shuffled = True

    def chained(self, path: Path) -> Any:
        chunks = IndexSource(path, block_size=3).shuffle_blocks().sort_within_chunks(7)
        return chunks.read_rows(["rows", "X"], genes=["gene-3", "gene-0"])

    constructed = chained

    def test_repr_could_be_typed_back(self, h5ad: Path) -> None:
        assert repr(self.chained(h5ad)).endswith(".read_rows(fields=('rows', 'X'), genes=['gene-3', 'gene-0'])")
        super().test_repr_could_be_typed_back(h5ad)


@pytest.fixture(params=["csr", "dense", "file csr None", "file csr gzip", "file dense gzip", "csr_array", "view"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    kind = request.param.split()
    if kind[0] == "file":
        return write(adata_of(x=kind[1]), tmp_path / "cells.h5ad", None if kind[2] == "None" else kind[2])
    return adata_of()[::-1] if kind == ["view"] else adata_of(x=kind[0])


@pytest.mark.parametrize(
    ("genes", "positions"),
    [
        ([3, 0, 10], [3, 0, 10]),
        ([], []),
        ([7], [7]),
        (slice(None, None, -5), [10, 5, 0]),
        (range(4, 9), [4, 5, 6, 7, 8]),
        (["gene-9", "gene-1"], [9, 1]),
        (pd.Index(["gene-9"]), [9]),
        (np.arange(11) % 4 == 0, [0, 4, 8]),
        ([False] * 11, []),
    ],
    ids=repr,
)
def test_the_genes_chosen_in_the_order_given(source: Any, genes: Any, positions: list[int]) -> None:
    adata = anndata.read_h5ad(source) if isinstance(source, Path) else source.copy()
    drawn, kept = [5, 28, 0, 5, 7, 12], np.array(positions, np.int64)
    store = open_store(source)
    read = store.read(chunk_of(drawn), FIELDS, store.genes(genes))
    layers = {key: adata.layers[key] for key in adata.layers if key is not None}  # which is X
    for field, values in {"X": adata.X, **layers}.items():
        rows = read[field if field == "X" else f"layers_{field}"]
        assert rows.shape == (6, len(kept))
        np.testing.assert_array_equal(dense(rows), dense(values)[drawn][:, kept])
    np.testing.assert_array_equal(dense(read["raw_X"]), dense(adata.raw.X)[drawn])  # has genes of its own
    np.testing.assert_array_equal(read["obsm_X_pca"], adata.obsm["X_pca"][drawn])


@given(
    values=st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=6),
    genes=st.lists(st.integers(0, 4), unique=True),
    kind=st.sampled_from(["uint8", "int16", "float32", "float64", "bool"]),
)
def test_any_genes_of_any_rows(values: list[list[int]], genes: list[int], kind: str) -> None:
    matrix = np.array(values, kind)
    for x in (matrix, sparse.csr_matrix(matrix)):
        store = open_store(anndata.AnnData(x))
        read = store.read(chunk_of(range(len(matrix))), ["X"], store.genes(genes))["X"]
        np.testing.assert_array_equal(dense(read), matrix[:, np.array(genes, np.int64)])


def test_choosing_genes_leaves_the_data_as_it_was(adata: anndata.AnnData) -> None:
    before = adata.X.copy()
    store = open_store(adata)
    for _ in range(2):
        store.read(chunk_of(range(29)), ["X", "layers/logged"], store.genes([2, 1]))
    assert (before != adata.X).nnz == 0


@pytest.mark.parametrize(
    ("genes", "error", "message"),
    [
        (["gene-1", "gene-x"], FieldError, r"no gene 'gene-x' in AnnData.* \(1 of 2 unknown\); did you mean gene-"),
        (["zz"], FieldError, r"no gene 'zz' in AnnData.* \(1 of 1 unknown\)"),
        ([1, 2, 1], ParameterError, "genes name 'gene-1' more than once"),
        (["gene-1", "gene-1"], ParameterError, "genes name 'gene-1' more than once"),
        ([11], RowIndexError, "genes must lie in 0 … 10 .*, got 11"),
        ([-1], RowIndexError, "genes must lie in 0 … 10 .*, got -1"),
        ([True], ParameterError, "genes is a mask of length 1, but there are 11"),
        ("gene-1", ParameterError, "genes must be a list"),
    ],
)
def test_wrong_genes_are_named(adata: anndata.AnnData, genes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        IndexSource(adata).sort_within_chunks(4).read_rows(genes=genes)


@pytest.mark.filterwarnings("ignore:Variable names are not unique:UserWarning")  # anndata's, and meant here
def test_a_gene_name_that_stands_twice_is_refused() -> None:
    adata = tiny(3)
    adata.var_names = ["a", "b", "a"]
    with pytest.raises(ParameterError, match=r"gene 'a' occurs more than once .*: choose genes by position"):
        open_store(adata).genes(["b", "a"])
    assert open_store(adata).read(chunk_of([1]), ["X"], open_store(adata).genes(["b"]))["X"].tolist() == [[101]]


@pytest.mark.parametrize("x", ["dense", "csr"])
def test_a_stream_of_some_genes(h5ad: Path, x: Any) -> None:
    expected = dense(anndata.read_h5ad(h5ad).X)[:, [6, 2]]
    for batch in stream(h5ad, 5, fields=["X", "rows"], genes=["gene-6", "gene-2"], form=x):
        rows = batch["X"] if x == "dense" else batch["X"].to_dense()
        np.testing.assert_allclose(rows, expected[batch["rows"]], rtol=1e-6)
