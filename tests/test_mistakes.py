"""The mistakes that are made most, and what annpipes says to each: the whole message, as a user reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from annpipes import AnnDataset, Collection, IndexSource, Loader, stream
from annpipes.errors import FieldError, FormatError, ParameterError, RowIndexError, SourceError


def cells(genes: list[str], cell_types: list[str]) -> anndata.AnnData:
    n_obs = len(cell_types)
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical(cell_types), "n_counts": np.arange(n_obs), "quality": np.arange(n_obs) / 4},
        index=[f"c{i}" for i in range(n_obs)],
    )
    x = sparse.csr_matrix(np.ones((n_obs, len(genes)), np.float32))
    return anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=genes), obsm={"X_pca": np.zeros((n_obs, 3))})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: two files of one lab, ``a.h5ad`` with a layer that ``b.h5ad`` lacks, and odd ones."""
    monkeypatch.chdir(tmp_path)
    a = cells(["CD3E", "CD3D", "LYZ", "NKG7"], ["B", "T", "T"])
    a.layers["counts"] = a.X.copy()
    a.write_h5ad("a.h5ad")
    b = cells(["LYZ", "CD3E", "MS4A1"], ["T", "NK"])
    b.write_h5ad("b.h5ad")
    ensembl = cells(["ENSG00000198851", "ENSG00000090382"], ["T", "B"])
    ensembl.write_h5ad("ensembl.h5ad")
    b.X = b.X.tocsc()
    b.write_h5ad("csc.h5ad")
    del b.X
    b.obsm["X_pca"] = np.zeros((2, 5))
    b.write_h5ad("wide.h5ad")
    return tmp_path


@contextmanager
def refused(kind: type[Exception], message: str) -> Iterator[None]:
    """Fail unless the block raises this error with exactly this message."""
    with pytest.raises(kind) as refusal:
        yield
    assert str(refusal.value) == message


def test_a_misspelt_obs_column() -> None:
    with refused(FieldError, "no obs column 'celltype' in a.h5ad; columns: cell_type, n_counts, quality"):
        stream("a.h5ad", fields=["X", "obs/celltype"])


def test_a_misspelt_obs_column_asked_for_as_codes() -> None:
    with refused(FieldError, "no obs column 'celltype' in a.h5ad; columns: cell_type, n_counts, quality"):
        stream("a.h5ad", fields=["X", "obs/celltype:code"])


def test_a_column_without_its_slot() -> None:
    with refused(
        FieldError,
        "no field 'cell_type' in a.h5ad; fields: X, layers/counts, obsm/X_pca, obs/cell_type, obs/n_counts, "
        "obs/quality, obs_names, rows",
    ):
        stream("a.h5ad", fields=["X", "cell_type"])


def test_a_misspelt_gene() -> None:
    with refused(FieldError, "no gene 'CD3' in a.h5ad (1 of 2 unknown); did you mean CD3E, CD3D?"):
        stream("a.h5ad", genes=["LYZ", "CD3"])


def test_a_gene_twice() -> None:
    with refused(ParameterError, "genes name 'LYZ' more than once"):
        stream("a.h5ad", genes=["LYZ", "CD3E", "LYZ"])


def test_one_gene_that_is_no_list() -> None:
    with refused(ParameterError, "genes must be a list of positions, a mask or names, got 'LYZ'"):
        stream("a.h5ad", genes="LYZ")


def test_a_gene_beyond_the_last() -> None:
    with refused(RowIndexError, "genes must lie in 0 … 3 (4 genes), got 4"):
        stream("a.h5ad", genes=[4])


def test_a_layer_that_one_file_lacks() -> None:
    with refused(
        FieldError,
        "no field 'layers/counts' in b.h5ad (1 of 2 files); Collection(…, missing='fill') fills it in, missing='skip' "
        "leaves it out",
    ):
        stream(["a.h5ad", "b.h5ad"], fields=["layers/counts"])


def test_files_without_a_common_gene() -> None:
    with refused(
        ParameterError,
        "no gene is in all 2 files (CD3E, CD3D, LYZ … in a.h5ad, ENSG00000198851, ENSG00000090382 in ensembl.h5ad): "
        "are var_names of one kind?",
    ):
        IndexSource(["a.h5ad", "ensembl.h5ad"])


@pytest.mark.filterwarnings("ignore:Variable names are not unique:UserWarning")  # anndata's, and meant here
def test_gene_names_that_repeat_in_a_file_of_a_collection() -> None:
    cells(["LYZ", "CD3E", "LYZ"], ["B"]).write_h5ad("twice.h5ad")
    with refused(
        ParameterError,
        "twice.h5ad has the gene 'LYZ' twice, so its genes cannot be aligned with those of the other files: "
        "adata.var_names_make_unique() and write it again",
    ):
        IndexSource(["a.h5ad", "twice.h5ad"])


@pytest.mark.parametrize("data", ["csc.h5ad", ["csc.h5ad", "a.h5ad"]], ids=["alone", "among others"])
def test_x_stored_by_columns(data: str | list[str]) -> None:
    with refused(
        FormatError,
        "X of csc.h5ad is stored by columns (CSC) and cannot be read by rows. Write it as CSR once: "
        "adata = anndata.read_h5ad('csc.h5ad'); adata.X = adata.X.tocsr(); adata.write_h5ad(…)",
    ):
        stream(data)


def test_a_label_that_the_given_table_lacks() -> None:
    with refused(
        ParameterError,
        "obs column 'cell_type' has 1 label that the given categories lack ('NK'): add them, or pass "
        "unknown='missing' to give them code -1",
    ):
        stream(["a.h5ad", "b.h5ad"], fields=["X", "obs/cell_type:code"], categories={"cell_type": ["B", "T"]})


def test_a_table_for_a_column_that_is_not_read_as_codes() -> None:
    with refused(
        ParameterError,
        "categories are given for 'cell_type', but fields has no 'obs/cell_type:code' (it has X, obs/cell_type)",
    ):
        stream("a.h5ad", fields=["X", "obs/cell_type"], categories={"cell_type": ["B", "T"]})


def test_floats_asked_for_as_codes() -> None:
    told = (
        "obs column 'quality' holds numbers that are not whole; categories, strings, integers and booleans have codes: "
        "ask for 'obs/quality', or make them labels, adata.obs['quality'] = adata.obs['quality'].astype('category')"
    )
    with refused(FieldError, told):
        stream(["a.h5ad", "b.h5ad"], fields=["obs/quality:code"])


def test_a_pattern_that_matches_nothing() -> None:
    with refused(SourceError, "no file matches 'atlas/*.h5ad'"):
        IndexSource("atlas/*.h5ad")


def test_a_list_of_no_files() -> None:
    with refused(ParameterError, "data is an empty list: a collection needs at least one file"):
        AnnDataset([])


def test_a_misspelt_path_among_several() -> None:
    with refused(SourceError, "no file 'c.h5ad'"):
        IndexSource(["a.h5ad", "c.h5ad"])


def test_an_embedding_of_another_width() -> None:
    with refused(FormatError, "obsm/X_pca has 3 columns in a.h5ad and 5 in wide.h5ad: leave it out"):
        stream(["a.h5ad", "wide.h5ad"], fields=["obsm/X_pca"])


def test_an_expression_with_a_misspelt_column() -> None:
    with refused(
        ParameterError,
        "rows=\"celltype == 'B'\" mentions no obs column of 2 files; columns: cell_type, n_counts, quality",
    ):
        IndexSource(["a.h5ad", "b.h5ad"], rows="celltype == 'B'")


def test_names_of_cells_that_both_files_have() -> None:
    with refused(ParameterError, "obs names of 2 files are not unique ('c0' occurs twice): choose rows by position"):
        IndexSource(["a.h5ad", "b.h5ad"], rows=["c1"])


def test_a_gene_that_the_join_has_dropped() -> None:
    # The inner join keeps what both files have; the remedy is join="outer", or a list.
    with refused(FieldError, "no gene 'NKG7' in 2 files (1 of 1 unknown)"):
        stream(["a.h5ad", "b.h5ad"], genes=["NKG7"])
    assert isinstance(stream(Collection(["a.h5ad", "b.h5ad"], join="outer"), genes=["NKG7"]), Loader)
