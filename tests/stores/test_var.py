"""What is known about the genes of a batch; the oracle is anndata's own column indexing."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from builders import adata_of, dense, write

from annpipes import AnnDataset, Collection, IndexSource, stream

GENES = {
    "all": (None, list(range(11))),
    "positions": ([3, 0, 10], [3, 0, 10]),
    "names": (["gene-9", "gene-1"], [9, 1]),
    "a mask": (np.arange(11) % 4 == 0, [0, 4, 8]),
    "a slice": (slice(None, None, -5), [10, 5, 0]),
    "one": ([7], [7]),
    "none": ([], []),
}


def described() -> anndata.AnnData:
    """29 cells whose genes have a column of every kind."""
    adata = adata_of()
    adata.var["chromosome"] = pd.Categorical(list("abcabcabcab"), list("xcba"))
    adata.var["variable"] = np.arange(11) % 3 == 0
    adata.var["mean"] = np.where(np.arange(11) == 4, np.nan, np.arange(11) / 3).astype(np.float32)
    adata.var["symbol"] = [f"SYM{i}" for i in range(10, -1, -1)]
    adata.var["n_cells"] = pd.array([None, *range(10)], dtype="Int64")
    adata.var["alias"] = pd.array([f"alias {i}" for i in range(11)], dtype="string")
    adata.var.index.name = "gene"
    return adata


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(described(), tmp_path_factory.mktemp("var") / "cells.h5ad", "gzip")


@pytest.fixture(params=["file", "memory", "view", "backed", "one in a list"])
def source(request: pytest.FixtureRequest, path: Path) -> Any:
    if request.param == "backed":
        backed = anndata.read_h5ad(path, backed="r")
        yield backed
        backed.file.close()
    elif request.param in ("memory", "view"):
        adata = anndata.read_h5ad(path)
        yield adata[::-1] if request.param == "view" else adata
    else:
        yield path if request.param == "file" else [path]


def held(source: Any, path: Path) -> anndata.AnnData:
    """What the source holds; a view, for instance, has fewer categories than the whole."""
    return source if isinstance(source, anndata.AnnData) and not source.isbacked else anndata.read_h5ad(path)


def same_frame(found: Any, expected: pd.DataFrame) -> None:
    assert isinstance(found, pd.DataFrame)
    pd.testing.assert_frame_equal(found, expected, check_names=False)


def answering(source: Any, **how: Any) -> list[Any]:
    """All that have ``var``, for the same batches."""
    return [
        IndexSource(source).shuffle_blocks().sort_within_chunks(8).read_rows(**how),
        stream(source, 8, **how),
        stream(source, 8, num_workers=2, form="csr", **how),
        AnnDataset(source, **how),
    ]


class TestVar:
    def test_of_a_source_is_anndatas(self, source: Any, path: Path) -> None:
        same_frame(IndexSource(source).var, held(source, path).var)

    @pytest.mark.parametrize("genes", GENES)
    def test_is_in_the_order_of_the_columns(self, source: Any, path: Path, genes: str) -> None:
        chosen, positions = GENES[genes]
        expected = held(source, path).var.iloc[positions]
        for answers in answering(source, genes=chosen):
            same_frame(answers.var, expected)

    def test_of_names_is_loc(self, source: Any, path: Path) -> None:
        names = ["gene-10", "gene-2", "gene-7"]
        for answers in answering(source, genes=names):
            same_frame(answers.var, held(source, path).var.loc[names])
            assert answers.var.index.tolist() == names

    @pytest.mark.parametrize("genes", GENES)
    def test_has_a_row_for_each_column_of_x(self, source: Any, path: Path, genes: str) -> None:
        chosen, _ = GENES[genes]
        adata = anndata.read_h5ad(path)
        loader, dataset = stream(path, 29, fields=["X", "rows"], genes=chosen), AnnDataset(path, genes=chosen)
        (batch,) = loader
        expected = dense(adata[:, loader.var.index].X)
        np.testing.assert_array_equal(batch["X"], expected[batch["rows"].numpy()])
        assert dataset.shape == (29, len(dataset.var))
        np.testing.assert_array_equal(dataset[5]["X"], expected[5])

    def test_does_not_depend_on_fields_or_rows(self, source: Any, path: Path) -> None:
        expected = held(source, path).var.iloc[[4, 2]]
        for answers in (
            stream(source, fields=["obs/donor", "layers/counts"], rows=[3, 1], genes=[4, 2]),
            AnnDataset(source, fields=["obs/donor", "rows"], obs_subset=[3, 1], genes=[4, 2]),
        ):
            same_frame(answers.var, expected)

    def test_after_pickling(self, source: Any, path: Path) -> None:
        expected = held(source, path).var.iloc[[4, 2]]
        reader, _, _, dataset = answering(source, genes=["gene-4", "gene-2"])
        for answers in (reader, dataset):
            same_frame(pickle.loads(pickle.dumps(answers)).var, expected)

    @pytest.mark.filterwarnings("ignore:Variable names are not unique:UserWarning")  # anndata's, and meant here
    def test_of_genes_that_share_a_name(self, tmp_path: Path) -> None:
        adata = described()
        adata.var_names = ["same", *adata.var_names[1:-1], "same"]
        path = write(adata, tmp_path / "twice.h5ad")
        expected = anndata.read_h5ad(path).var
        for answers in answering(path, genes=[10, 3, 0]):
            same_frame(answers.var, expected.iloc[[10, 3, 0]])

    def test_without_columns(self, tmp_path: Path) -> None:
        adata = adata_of()
        for source in (adata, write(adata, tmp_path / "bare.h5ad")):
            for answers in answering(source, genes=[5, 1]):
                assert answers.var.index.tolist() == ["gene-5", "gene-1"]
                assert answers.var.shape == (2, 0)

    def test_of_files_that_are_aligned(self, path: Path, tmp_path: Path) -> None:
        """The oracle is ``anndata.concat(merge="same")``, which keeps the columns on which all agree."""
        some = described()[:, ::-2].copy()
        some.var["mean"] = 0.0
        data = Collection([path, write(some, tmp_path / "some.h5ad")])
        both = [anndata.read_h5ad(path), anndata.read_h5ad(tmp_path / "some.h5ad")]
        expected = anndata.concat(both, merge="same", index_unique="-").var
        for answers in answering(data, genes=["gene-8", "gene-0"]):
            assert set(answers.var) - {"chromosome"} == set(expected)  # "mean" differs
            assert answers.var["chromosome"].tolist() == ["c", "a"]  # the same in categories of other tables
            same_frame(answers.var[list(expected)], expected.loc[["gene-8", "gene-0"]])

    def test_is_not_read_before_it_is_asked_for(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Before Python 3.12, ``isinstance`` of a runtime protocol evaluates each of its properties."""
        data, asked = Collection([path, path]), []
        for name in ("var", "obs_names"):
            monkeypatch.setattr(Collection, name, property(lambda _, name=name: asked.append(name)))
        for use in (IndexSource, stream, AnnDataset):
            use(data)
        assert asked == []


class TestDatasetOfSomeFields:
    def test_items_hold_these_and_no_others(self, source: Any, path: Path) -> None:
        here = held(source, path)
        dataset = AnnDataset(source, fields=["X", "raw/X", "obsm/X_pca", "obs/donor", "rows"], genes=[6, 2])
        for place in (0, 11, -1):
            item = dataset[place]
            assert list(item) == ["X", "raw_X", "obsm_X_pca", "obs_donor", "rows"]
            row = int(item["rows"])
            assert row == place % 29
            np.testing.assert_array_equal(item["X"], dense(here.X)[row, [6, 2]])
            np.testing.assert_array_equal(item["raw_X"], dense(here.raw.X)[row])
            np.testing.assert_array_equal(item["obsm_X_pca"], here.obsm["X_pca"][row].astype(np.float32))
            assert item["obs_donor"] == here.obs["donor"].iloc[row]

    def test_genes_go_for_layers_too(self, source: Any, path: Path) -> None:
        here = held(source, path)
        for genes, positions in GENES.values():
            dataset = AnnDataset(source, fields=["layers/counts", "layers/logged"], genes=genes, obs_subset=[7, 2, 7])
            assert dataset.shape == (3, len(positions))
            for item, row in zip(dataset[:], [7, 2, 7], strict=True):
                for layer in ("counts", "logged"):
                    expected = dense(here.layers[layer])[row, positions].astype(np.float32)
                    np.testing.assert_array_equal(item[f"layers_{layer}"], expected)
