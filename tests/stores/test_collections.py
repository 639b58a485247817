"""Many files as one: the contract of every store, and what anndata.concat makes of the same files."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from builders import adata_of, dense, tiny, write
from contracts import StoreContract, chunk_of
from small_collections import N_ROWS, compare, concatenated, pieces, written

import annpipes
from annpipes import Collection, IndexSource
from annpipes.errors import ParameterError, ParameterTypeError, SourceError
from annpipes.stores import Store, open_store

FIELDS = ["X", "layers/counts", "obsm/X_pca", "obs/donor", "obs/n_genes", "obs/quality", "obs/batch"]
N = sum(N_ROWS)
REQUESTS: dict[str, Sequence[int]] = {
    "all": range(N),
    "backwards": range(N - 1, -1, -1),
    "one of each": [15, 0, 7],
    "of one file": [6, 5, 9],
    "twice and thrice": [3, 12, 3, 0, 12, 3],
    "at the edges": [4, 5, 11, 12],
    "nothing": [],
}
KINDS = {
    "sparse": ("csr float32",) * 3,
    "sparse of many dtypes": ("csr float32", "csr int64", "csr float64"),
    "dense": ("dense float32",) * 3,
    "dense of many dtypes": ("dense float32", "dense int64", "dense float64"),
    "sparse and dense": ("csr float32", "dense float64", "csr_array int32"),
    "dense and sparse": ("dense float32", "dense float32", "csr float32"),
    "small integers": ("csr uint8", "csr uint16", "csr uint8"),
    "one dtype wider": ("csr float32", "csr float32", "csr float64"),
}
JOINS: dict[str, Any] = {"inner": "inner", "outer": "outer", "list": ["CD14", "LYZ", "PPBP", "CD3E"]}


@pytest.fixture(params=[(None,) * 3, ("gzip", None, "lzf")], ids=["plain", "mixed"])
def compressions(request: pytest.FixtureRequest) -> tuple[str | None, ...]:
    found: tuple[str | None, ...] = request.param
    return found


class TestCollection(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def cut(cls) -> list[anndata.AnnData]:
        """The cells in three parts, each with the whole table of categories."""
        whole = adata_of()
        with anndata.settings.override(remove_unused_categories=False):
            return [whole[start:stop].copy() for start, stop in ((0, 12), (12, 20), (20, 29))]

    @pytest.fixture(scope="class", params=["files", "files gzip", "file, memory, file", "memory"])
    @classmethod
    def data(
        cls, request: pytest.FixtureRequest, cut: list[anndata.AnnData], tmp_path_factory: pytest.TempPathFactory
    ) -> list[Any]:
        folder, where = tmp_path_factory.mktemp("cut"), request.param.split(", ")
        where = where * 3 if len(where) == 1 else where
        return [
            adata if kind == "memory" else write(adata, folder / f"{i}.h5ad", "gzip" if "gzip" in kind else None)
            for i, (adata, kind) in enumerate(zip(cut, where, strict=True))
        ]

    @pytest.fixture(scope="class")
    @classmethod
    def adata(cls, data: list[Any], tmp_path_factory: pytest.TempPathFactory) -> anndata.AnnData:
        """The whole as anndata has it; strings that repeat become categories in a file, and "9" comes before "12"."""
        if not any(isinstance(one, Path) for one in data):
            return adata_of()
        return anndata.read_h5ad(write(adata_of(), tmp_path_factory.mktemp("whole") / "cells.h5ad"))

    @pytest.fixture
    def store(self, data: list[Any]) -> Store:
        return open_store(data)

    def test_knows_what_it_holds(self, store: Store, adata: anndata.AnnData) -> None:
        # A collection has one field more: the number of the file.
        assert "file" in store.fields
        store.fields = tuple(field for field in store.fields if field != "file")  # type: ignore[misc]
        super().test_knows_what_it_holds(store, adata)

    def test_codes_are_pandas_codes(self, store: Store, adata: anndata.AnnData, data: list[Any]) -> None:
        if len(set(map(type, data))) > 1:
            # A file's note is categories ("note 9" before "note 12", as anndata writes them), an object's is
            # strings; together they are strings, whose table is sorted.
            adata = adata.copy()
            adata.obs["note"] = adata_of().obs["note"]
        super().test_codes_are_pandas_codes(store, adata)


@pytest.mark.parametrize("join", JOINS.values(), ids=JOINS)
@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
def test_rows_are_those_of_anndata_concat(
    tmp_path: Path, kinds: tuple[str, ...], join: Any, compressions: tuple[str | None, ...]
) -> None:
    adatas = pieces(*kinds)
    expected = concatenated(adatas, join)
    store = Collection(written(adatas, tmp_path, compressions), join=join)
    assert store.var_names.tolist() == expected.var_names.tolist()
    for drawn in REQUESTS.values():
        compare(store, expected, drawn, FIELDS)
    read = store.read(chunk_of([0]), ["X"])["X"]
    assert dense(read).dtype == np.result_type(*(kind.split()[1] for kind in kinds))
    assert isinstance(read, annpipes.SparseRows) == any(kind.startswith("csr") for kind in kinds)


@pytest.mark.parametrize("join", JOINS.values(), ids=JOINS)
@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("on_disk", [(), (0, 2)], ids=["memory", "mixed"])
def test_objects_in_memory_are_joined_alike(
    tmp_path: Path, kinds: tuple[str, ...], join: Any, on_disk: tuple[int, ...]
) -> None:
    adatas = pieces(*kinds)
    before = [dense(adata.X).copy() for adata in adatas]
    paths = written(adatas, tmp_path)
    store = Collection([paths[i] if i in on_disk else adatas[i] for i in range(3)], join=join)
    for drawn in REQUESTS.values():
        compare(store, concatenated(adatas, join), drawn, FIELDS)
    for adata, values in zip(adatas, before, strict=True):
        np.testing.assert_array_equal(dense(adata.X), values)


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("join", JOINS.values(), ids=JOINS)
@pytest.mark.parametrize("fill", [0.0, 7.0])
def test_some_genes_of_the_join(tmp_path: Path, kinds: tuple[str, ...], join: Any, fill: float) -> None:
    adatas = pieces(*kinds)
    expected = dense(concatenated(_densified(adatas), join, fill).X)
    store = Collection(written(adatas, tmp_path), join=join, fill_value=fill)
    for chosen in ([1, 0], [store.n_vars - 1], [], list(store.var_names[::-1])):
        genes = store.genes(chosen)
        for drawn in REQUESTS.values():
            read = store.read(chunk_of(drawn), ["X"], genes)["X"]
            np.testing.assert_array_equal(dense(read), expected[list(drawn)][:, genes.positions])


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("fill", [-1.0, 0.5, 300.0, np.nan])
@pytest.mark.parametrize("on_disk", [True, False], ids=["files", "memory"])
def test_what_stands_for_a_gene_that_a_file_lacks(
    tmp_path: Path, kinds: tuple[str, ...], fill: float, on_disk: bool
) -> None:
    adatas = pieces(*kinds)
    expected = dense(concatenated(_densified(adatas), "outer", fill).X)
    store = Collection(written(adatas, tmp_path) if on_disk else adatas, join="outer", fill_value=fill)
    for drawn in REQUESTS.values():
        read = dense(store.read(chunk_of(drawn), ["X"])["X"])
        np.testing.assert_array_equal(read, expected[list(drawn)])


def _densified(adatas: list[anndata.AnnData]) -> list[anndata.AnnData]:
    """The same with X as float64 arrays, for which anndata can fill in any number."""
    return [anndata.AnnData(dense(one.X).astype(float), obs=one.obs[[]], var=one.var) for one in adatas]


class TestConstructing:
    def test_patterns_lists_and_collections_are_one(self, tmp_path: Path) -> None:
        paths = written(pieces(), tmp_path)
        pattern = str(tmp_path / "*.h5ad")
        for data in (pattern, paths, tuple(map(str, paths)), Collection(pattern), Collection(paths)):
            assert IndexSource(data).files == tuple(map(str, paths))

    def test_a_path_with_brackets_is_a_path_where_it_exists(self, tmp_path: Path) -> None:
        path = write(tiny(3), tmp_path / "donor[1].h5ad")
        assert IndexSource(str(path)).files == (str(path),)
        assert Collection(str(path)).files == (str(path),)

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ({"join": "left"}, "join must be 'inner', 'outer' or a list of genes, got 'left'"),
            ({"missing": "ignore"}, "missing must be one of error, fill, skip, got 'ignore'"),
            ({"max_open_files": 0}, "max_open_files must be at least 1, got 0"),
        ],
    )
    def test_wrong_parameters_are_named(self, how: dict[str, Any], message: str) -> None:
        with pytest.raises(ParameterError, match=message):
            Collection(pieces(), **how)

    def test_nothing_at_all_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ParameterError, match="data is an empty list"):
            IndexSource([])
        with pytest.raises(SourceError, match=r"no file '.*gone.h5ad'"):
            Collection([tmp_path / "gone.h5ad"])
        with pytest.raises(ParameterTypeError, match="data must be a path, an AnnData or a list of these, got int"):
            Collection([3])

    @pytest.mark.parametrize("data", [tiny(3), None, 3], ids=["an AnnData", "None", "a number"])
    def test_what_is_no_list_of_data_is_refused(self, data: Any) -> None:
        # list(adata) would be one view for each of its rows
        with pytest.raises(ParameterTypeError, match=f"data must be .*, got {type(data).__name__}"):
            Collection(data)

    @pytest.mark.parametrize("kind", [str, Path])
    def test_repr_could_be_typed_back(self, tmp_path: Path, kind: Any) -> None:
        store = Collection([kind(path) for path in written(pieces(), tmp_path)], join="outer", missing="fill")
        typed = eval(repr(store), dict(vars(annpipes)))  # noqa: S307 (our own repr)
        assert repr(typed) == repr(store)
        assert typed.fingerprint() == store.fingerprint()

    def test_a_backed_object_among_them_pickles(self, tmp_path: Path) -> None:
        adatas = pieces()
        backed = anndata.read_h5ad(written(adatas, tmp_path)[1], backed="r")
        store = Collection([adatas[0], backed, adatas[2]])
        copy = pickle.loads(pickle.dumps(store))
        for one in (store, copy):
            compare(one, concatenated(adatas, "inner"), range(N), ["X", "obs/donor"])
        backed.file.close()
