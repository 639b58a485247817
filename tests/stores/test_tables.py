"""Tables and matrices as anndata has written them since version 0.5; the oracle is anndata reading the same file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from builders import dense, expected_column, tiny, write
from contracts import chunk_of, labelled, matrices
from numpy.typing import NDArray
from scipy import sparse

from annpipes import AnnDataset, Collection, IndexSource, check, inspect, stream
from annpipes.errors import DamageError, FieldError, FormatError
from annpipes.stores import open_store

DRAWN = [6, 0, 3, 3, 1]

# What anndata says of files older than itself; users see it from annpipes only where they see it from anndata.
of_old_files = pytest.mark.filterwarnings("ignore::FutureWarning:anndata", "ignore::anndata.OldFormatWarning")


def cells() -> anndata.AnnData:
    """Seven cells with what files of every age can hold."""
    obs = pd.DataFrame({"n": np.arange(5, 12, dtype=np.int32)}, index=[f"cell-{i}" for i in range(7)])
    obs["share"] = np.array([0.5, np.nan, 2, 3, 4, 5, 1 / 3])
    obs["flag"] = np.arange(7) % 3 == 0
    obs["barcode"] = [f"{base}{i}" for i, base in enumerate("TGCATGC")]
    obs["donor"] = pd.Categorical(list("xyxyyxx"))
    obs["cell_type"] = pd.Categorical(["T", None, "B", "T", "NK", "B", "T"], ["T", "never seen", "B", "NK"])
    obs["lane"] = pd.Categorical([10, 2, 10, 2, 2, 2, 10])
    obs["batch"] = pd.Categorical(["only"] * 7)
    var = pd.DataFrame({"n_cells": [3, 5, 7, 1], "kind": pd.Categorical(["coding", "lnc", "lnc", "coding"])})
    values = np.random.default_rng(0).poisson(1.0, (7, 4)).astype(np.float32)
    adata = anndata.AnnData(
        values,
        obs=obs,
        var=var.assign(variable=[True, False, True, True]).set_axis([f"gene-{i}" for i in range(4)]),
        obsm={"X_pca": np.arange(21, dtype=np.float32).reshape(7, 3), "X_umap": np.arange(14.0).reshape(7, 2)},
        layers={"counts": values * 2},
    )
    adata.raw = anndata.AnnData(np.hstack([values, values + 1]))
    return adata


def write_matrix(file: h5py.File, path: str, values: NDArray[Any], form: str, modern: bool = False) -> None:
    """A matrix without encoding attributes, or a sparse one with those of h5sparse or (modern) of anndata 0.7."""
    if form == "dense":
        file[path] = values
        return
    matrix = sparse.csr_matrix(values) if form == "csr" else sparse.csc_matrix(values)
    group = file.create_group(path)
    if modern:
        group.attrs.update({"encoding-type": f"{form}_matrix", "encoding-version": "0.1.0", "shape": matrix.shape})
    else:
        group.attrs.update({"h5sparse_format": form, "h5sparse_shape": matrix.shape})
    for name in ("data", "indices", "indptr"):
        group[name] = getattr(matrix, name)


def strings_of(values: Iterable[Any], kind: str) -> NDArray[Any]:
    """Bytes of one length, as anndata wrote strings until 0.6.20, or of any length."""
    texts = [str(value) for value in values]
    return np.array([text.encode() for text in texts], "S") if kind == "S" else np.array(texts, h5py.string_dtype())


def write_records(file: h5py.File, path: str, frame: pd.DataFrame, kind: str, categories: str = "uns") -> None:
    """A table as ``df_to_records_fixed_width`` of anndata < 0.7 had it: records, and categories elsewhere."""
    columns = {"index": strings_of(frame.index, kind)}
    for name, values in frame.items():
        if isinstance(values.dtype, pd.CategoricalDtype):
            columns[name], labels = values.cat.codes.to_numpy(), values.cat.categories
            plain = labels.to_numpy() if pd.api.types.is_numeric_dtype(labels) else strings_of(labels, kind)
            file[f"{categories}/{name}_categories"] = plain
        else:
            columns[name] = values.to_numpy() if pd.api.types.is_numeric_dtype(values) else strings_of(values, kind)
    records = np.empty(len(frame), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        records[name] = values
    file[path] = records


def write_before_07(path: Path, adata: anndata.AnnData, form: str, kind: str) -> None:
    """``_to_dict_fixed_width_arrays`` of anndata 0.5 and 0.6, as a file."""
    with h5py.File(path, "w") as file:
        write_matrix(file, "X", adata.X, form)
        write_records(file, "obs", adata.obs, kind)
        write_records(file, "var", adata.var, kind)
        write_matrix(file, "raw.X", adata.raw.X, form)
        write_records(file, "raw.var", adata.raw.var, kind, "raw.cat")
        embeddings = np.empty(adata.n_obs, [(name, each.dtype, each.shape[1:]) for name, each in adata.obsm.items()])
        for name, values in adata.obsm.items():
            embeddings[name] = values
        file["obsm"] = embeddings  # BoundRecArr: one dataset of all
        for name, values in adata.layers.items():
            write_matrix(file, f"layers/{name}", values, form)
        file["uns/pca_variance"] = [0.5, 0.25]


def write_05(path: Path, form: str) -> None:
    adata = cells()
    del adata.layers["counts"]  # they came with 0.6
    write_before_07(path, adata, form, "S")


def write_06(path: Path, form: str) -> None:
    write_before_07(path, cells(), form, "any length")


def write_07(path: Path, form: str) -> None:
    """``write_dataframe`` and ``write_series`` of anndata 0.7: codes that refer to categories in a group aside."""
    adata = cells()
    adata.obs["stage"] = pd.Categorical(["late", "early"] * 3 + [None], ["early", "late"], ordered=True)
    adata.obs.index.name = "cell"
    with h5py.File(path, "w") as file:
        write_matrix(file, "X", adata.X, form, modern=True)
        file.create_group("raw").attrs.update({"encoding-type": "raw", "encoding-version": "0.1.0"})
        write_matrix(file, "raw/X", adata.raw.X, form, modern=True)
        frames = {"obs": adata.obs, "var": adata.var, "raw/var": adata.raw.var}
        for place, frame in {**frames, "obsm/scores": adata.obs[["n", "share"]]}.items():
            write_group(file, place, frame)
        for name, values in adata.obsm.items():
            file[f"obsm/{name}"] = values
        write_matrix(file, "layers/counts", adata.layers["counts"], form, modern=True)
        file.create_group("uns")


def write_group(file: h5py.File, path: str, frame: pd.DataFrame) -> None:
    group, index = file.create_group(path), frame.index.name or "_index"
    group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.1.0", "_index": index})
    group.attrs["column-order"] = np.array(list(frame), h5py.string_dtype())
    group[index] = strings_of(frame.index, "any length")
    for name, values in frame.items():
        if isinstance(values.dtype, pd.CategoricalDtype):
            labels = values.cat.categories.to_numpy()
            aside = f"__categories/{name}"
            group[aside] = strings_of(labels, "any length") if labels.dtype == object else labels
            group[aside].attrs["ordered"] = values.cat.ordered
            group[name] = values.cat.codes.to_numpy()
            group[name].attrs["categories"] = group[aside].ref
        else:
            group[name] = strings_of(values, "any length") if values.dtype == object else values.to_numpy()


@of_old_files
@pytest.mark.parametrize("form", ["dense", "csr"])
@pytest.mark.parametrize("write_old", [write_05, write_06, write_07])
class TestOldFiles:
    @pytest.fixture
    def path(self, tmp_path: Path, write_old: Callable[[Path, str], None], form: str) -> Path:
        write_old(tmp_path / "old.h5ad", form)
        return tmp_path / "old.h5ad"

    @pytest.fixture
    def adata(self, path: Path) -> anndata.AnnData:
        return anndata.read_h5ad(path)

    def test_it_holds_what_was_written(self, adata: anndata.AnnData) -> None:
        """So that the oracle of the tests below is none that reads nothing."""
        written = cells()
        assert adata.obs_names.tolist() == written.obs_names.tolist()
        pd.testing.assert_frame_equal(adata.obs[list(written.obs)], written.obs, check_names=False)
        np.testing.assert_array_equal(dense(adata.X), written.X)
        np.testing.assert_array_equal(dense(adata.raw.X), written.raw.X)

    def test_its_fields(self, path: Path, adata: anndata.AnnData) -> None:
        store = open_store(path)
        assert (store.n_obs, store.n_vars) == adata.shape
        assert store.obs_names.tolist() == adata.obs_names.tolist()
        assert store.var_names.tolist() == adata.var_names.tolist()
        columns = [f"obs/{column}" for column in adata.obs]
        assert set(store.fields) == {"obs_names", "rows", *(field for field in matrices(adata)), *columns}
        assert [field for field in store.fields if field.startswith("obs/")] == columns

    def test_every_matrix(self, path: Path, adata: anndata.AnnData) -> None:
        expected = {field: dense(values)[DRAWN] for field, values in matrices(adata).items()}
        assert {"X", "raw/X", "obsm/X_pca", "obsm/X_umap"} <= set(expected)
        read = open_store(path).read(chunk_of(DRAWN), list(expected))
        for field, values in expected.items():
            rows = dense(read[field.replace("/", "_")])
            np.testing.assert_array_equal(rows, values, err_msg=field)
            assert rows.dtype == values.dtype, field

    def test_every_obs_column(self, path: Path, adata: anndata.AnnData) -> None:
        store = open_store(path)
        read = store.read(chunk_of(DRAWN), [*(f"obs/{column}" for column in adata.obs), "obs_names"])
        assert read["obs_names"].tolist() == adata.obs_names[DRAWN].tolist()
        for column in adata.obs:
            values = expected_column(adata.obs[column])[DRAWN]
            np.testing.assert_array_equal(read[f"obs_{column}"], values, err_msg=column)
            assert read[f"obs_{column}"].dtype == values.dtype, column

    def test_every_code(self, path: Path, adata: anndata.AnnData) -> None:
        store = open_store(path)
        assert {"barcode", "donor", "cell_type", "lane", "batch"} <= set(labelled(adata))
        for column in labelled(adata):
            labels = pd.Categorical(adata.obs[column])
            assert store.categories(column) == tuple(map(str, labels.categories)), column
            codes = store.read(chunk_of(DRAWN), [f"obs/{column}:code"])[f"obs_{column}"]
            assert codes.tolist() == labels.codes[DRAWN].tolist(), column
        for column in ("n", "share", "flag"):
            with pytest.raises(FieldError, match=f"obs column '{column}' holds numbers"):
                store.check([f"obs/{column}:code"])

    def test_var(self, path: Path, adata: anndata.AnnData) -> None:
        pd.testing.assert_frame_equal(open_store(path).var, adata.var, check_names=False)

    def test_in_a_stream_and_as_a_dataset(self, path: Path, adata: anndata.AnnData) -> None:
        fields = ["X", "raw/X", "obsm/X_pca", "obs/cell_type:code", "obs/donor", "rows"]
        dataset = AnnDataset(path, fields=fields, genes=["gene-2", "gene-0"])
        loader = stream(path, 3, fields=fields, genes=["gene-2", "gene-0"], num_workers=2)
        batches = [*loader, *torch.utils.data.DataLoader(dataset, 4, collate_fn=dataset.get_collate_fn())]
        assert len(batches) == 5
        for batch in batches:
            rows = batch["rows"].numpy()
            np.testing.assert_array_equal(batch["X"], dense(adata.X)[rows][:, [2, 0]])
            np.testing.assert_array_equal(batch["raw_X"], dense(adata.raw.X)[rows])
            np.testing.assert_array_equal(batch["obsm_X_pca"], adata.obsm["X_pca"][rows])
            assert batch["obs_cell_type"].tolist() == adata.obs["cell_type"].cat.codes.iloc[rows].tolist()
            assert batch["obs_donor"] == adata.obs["donor"].iloc[rows].tolist()

    def test_rows_by_expression_and_by_name(self, path: Path, adata: anndata.AnnData) -> None:
        chosen = np.flatnonzero(adata.obs.eval("donor == 'x' and n > 5")).tolist()
        assert np.concatenate(list(IndexSource(path, rows="donor == 'x' and n > 5"))).tolist() == chosen
        assert open_store(path).rows_named(np.array(["cell-4", "cell-0"])).tolist() == [4, 0]

    def test_the_same_as_the_object_that_anndata_makes_of_it(self, path: Path, adata: anndata.AnnData) -> None:
        ours, theirs = open_store(path), open_store(adata)
        assert set(ours.fields) == set(theirs.fields)
        one, other = (store.read(chunk_of(DRAWN), ours.fields) for store in (ours, theirs))
        for key in one:
            np.testing.assert_array_equal(dense(one[key]), dense(other[key]), err_msg=key)

    def test_backed(self, path: Path, adata: anndata.AnnData) -> None:
        """X and raw/X of an object that anndata has not read into memory."""
        backed = anndata.read_h5ad(path, backed="r")
        try:
            store = open_store(backed)
            for field, values in {"X": adata.X, "raw/X": adata.raw.X}.items():
                read = store.read(chunk_of(DRAWN), [field])[field.replace("/", "_")]
                np.testing.assert_array_equal(dense(read), dense(values)[DRAWN])
        finally:
            backed.file.close()

    def test_together_with_a_new_file(self, path: Path, adata: anndata.AnnData, tmp_path: Path) -> None:
        new = cells()[::-1].copy()
        new.obs["cell_type"] = new.obs["cell_type"].cat.reorder_categories(["NK", "B", "T"])
        source = Collection([path, write(new, tmp_path / "new.h5ad")])
        read = source.read(chunk_of([1, 7, 13, 0, 2]), ["X", "obsm/X_pca", "raw/X", "obs/cell_type:code"])
        np.testing.assert_array_equal(dense(read["X"]), dense(adata.X)[[1, 6, 0, 0, 2]])
        np.testing.assert_array_equal(read["obsm_X_pca"], adata.obsm["X_pca"][[1, 6, 0, 0, 2]])
        np.testing.assert_array_equal(dense(read["raw_X"]), dense(adata.raw.X)[[1, 6, 0, 0, 2]])
        assert read["obs_cell_type"].tolist() == adata.obs["cell_type"].cat.codes.iloc[[1, 6, 0, 0, 2]].tolist()


@of_old_files
class TestOddOldFiles:
    def test_letters_beyond_ascii(self, tmp_path: Path) -> None:
        """Installed anndata cannot decode these, so what was written is the oracle."""
        adata = cells()
        adata.obs["barcode"] = ["é", "größer", "µ", "d", "e", "f", "g"]
        adata.obs["donor"] = adata.obs["donor"].cat.rename_categories({"x": "Müller", "y": "Øre"})
        write_before_07(tmp_path / "old.h5ad", adata, "csr", "S")
        read = open_store(tmp_path / "old.h5ad").read(chunk_of(DRAWN), ["obs/barcode", "obs/donor"])
        assert read["obs_barcode"].tolist() == adata.obs["barcode"].iloc[DRAWN].tolist()
        assert read["obs_donor"].tolist() == adata.obs["donor"].iloc[DRAWN].tolist()

    @pytest.mark.parametrize("kind", ["S", "any length"])
    def test_no_columns_in_var_nor_obs(self, tmp_path: Path, kind: str) -> None:
        adata = cells()
        adata.obs, adata.var = adata.obs[[]], adata.var[[]]
        write_before_07(tmp_path / "old.h5ad", adata, "csr", kind)
        store = open_store(tmp_path / "old.h5ad")
        expected = anndata.read_h5ad(tmp_path / "old.h5ad")
        pd.testing.assert_frame_equal(store.var, expected.var, check_names=False, check_column_type=False)
        assert store.obs_names.tolist() == expected.obs_names.tolist()
        assert not [field for field in store.fields if field.startswith("obs/")]

    @pytest.mark.parametrize("column", ["n", "share"])
    def test_categories_of_a_var_column_leave_an_obs_column_of_that_name_alone(
        self, tmp_path: Path, column: str
    ) -> None:
        """``_clean_uns`` of anndata: categories that cannot be those of obs are not."""
        write_05(tmp_path / "old.h5ad", "csr")
        with h5py.File(tmp_path / "old.h5ad", "r+") as file:
            file[f"uns/{column}_categories"] = np.array([b"coding", b"lnc"])
        expected = anndata.read_h5ad(tmp_path / "old.h5ad").obs[column].to_numpy()
        read = open_store(tmp_path / "old.h5ad").read(chunk_of(DRAWN), [f"obs/{column}"])
        np.testing.assert_array_equal(read[f"obs_{column}"], expected[DRAWN])

    def test_an_embedding_of_one_column(self, tmp_path: Path) -> None:
        """The element of such a record is a number, not an array of one; anndata makes it ``(n, 1)``."""
        write_05(tmp_path / "old.h5ad", "csr")
        with h5py.File(tmp_path / "old.h5ad", "r+") as file:
            del file["obsm"]
            file["obsm"] = np.array([(float(i), [i, i]) for i in range(7)], [("X_dm", "f8"), ("X_pca", "f4", (2,))])
        expected = np.reshape(anndata.read_h5ad(tmp_path / "old.h5ad").obsm["X_dm"], (7, -1))  # (7,) in anndata 0.11
        assert expected.shape == (7, 1)
        store = open_store(tmp_path / "old.h5ad")
        np.testing.assert_array_equal(store.read(chunk_of(DRAWN), ["obsm/X_dm"])["obsm_X_dm"], expected[DRAWN])
        assert store.row_bytes(["obsm/X_dm"]) == 8

    @pytest.mark.parametrize("place", ["X", "raw.X"])
    def test_columns_on_disk_are_refused_with_the_remedy(self, tmp_path: Path, place: str) -> None:
        write_05(tmp_path / "old.h5ad", "csr")
        with h5py.File(tmp_path / "old.h5ad", "r+") as file:
            del file[place]
            write_matrix(file, place, cells().X if place == "X" else cells().raw.X, "csc")
        field = place.replace(".", "/")
        with pytest.raises(FormatError, match=r"stored by columns \(CSC\)") as refusal:
            open_store(tmp_path / "old.h5ad").check([field])
        reached = f"adata.{place}"
        assert f"{reached} = {reached}.tocsr()" in str(refusal.value)

    def test_an_index_of_another_name(self, tmp_path: Path) -> None:
        """The index is the first column, whatever it is called."""
        with h5py.File(tmp_path / "old.h5ad", "w") as file:
            file["X"] = np.eye(2, 3, dtype=np.float32)
            file["obs"] = np.array([(b"a", 4), (b"b", 5)], [("cells", "S1"), ("index", "i4")])
            file["var"] = np.array([(b"g0",), (b"g1",), (b"g2",)], [("genes", "S2")])
        store, expected = open_store(tmp_path / "old.h5ad"), anndata.read_h5ad(tmp_path / "old.h5ad")
        assert store.obs_names.tolist() == expected.obs_names.tolist() == ["a", "b"]
        assert store.read(chunk_of([1, 0]), ["obs/index"])["obs_index"].tolist() == expected.obs["index"].tolist()[::-1]
        assert store.var_names.tolist() == expected.var_names.tolist()


def modern_obs() -> pd.DataFrame:
    """Seven rows of every encoding of a column; the first word of a name is what the file calls it."""
    absent = [False, True, False, False, True, False, False]
    obs = pd.DataFrame(index=[f"c{i}" for i in range(7)])
    for kind in ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"):
        obs[f"nullable-integer {kind}"] = pd.array(range(7), kind)
        obs[f"nullable-integer {kind} absent"] = pd.array(range(7), kind)
        obs.loc[absent, f"nullable-integer {kind} absent"] = pd.NA
    obs["nullable-boolean"] = pd.array([True, False] * 3 + [True], "boolean")
    obs["nullable-boolean absent"] = pd.array([True, None, False, True, None, False, True], "boolean")
    obs["nullable-string-array"] = pd.array(["b", None, "", "a", None, "Größe", "z"], "string")
    obs["string-array"] = list("gfedcba")
    obs["array bool"] = absent
    for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">f8", ">i4"):
        obs[f"array {kind}"] = np.arange(7).astype(kind)
    obs["array f2 nan"] = np.array([np.nan, 1, 2, np.inf, 4, 5, 6], np.float16)
    obs["categorical"] = pd.Categorical(["b", "a", None, "b", "b", "a", None])
    obs["categorical ordered"] = pd.Categorical(["b", "a", "b", "b", "b", "a", None], ["b", "a"], ordered=True)
    obs["categorical int"] = pd.Categorical([10, 2, 10, 2, 2, 10, 10])
    obs["categorical float"] = pd.Categorical([0.5, 2, None, 2, 2, 0.5, 0.5])
    obs["categorical bool"] = pd.Categorical([True, False, True, True, True, False, None])
    obs["categorical none"] = pd.Categorical([None] * 7, ["x"])
    return obs


@pytest.fixture(scope="module")
def modern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    adata = tiny(7)
    adata.obs = modern_obs()
    path = tmp_path_factory.mktemp("modern") / "cells.h5ad"
    with anndata.settings.override(allow_write_nullable_strings=True):
        adata.write_h5ad(path, convert_strings_to_categoricals=False)
    return path


@pytest.mark.parametrize("column", list(modern_obs()))
class TestColumnsOfToday:
    def test_it_is_encoded_as_its_name_says(self, modern: Path, column: str) -> None:
        with h5py.File(modern) as file:
            found, named = file["obs"][column].attrs["encoding-type"], column.split()[0]
            assert found == named or (named, found) == ("string-array", "nullable-string-array")  # with pandas 3

    def test_values(self, modern: Path, column: str) -> None:
        expected = expected_column(anndata.read_h5ad(modern).obs[column])[DRAWN]
        for source in (modern, anndata.read_h5ad(modern)):
            read = open_store(source).read(chunk_of(DRAWN), [f"obs/{column}"])[f"obs_{column}"]
            np.testing.assert_array_equal(read, expected)
            assert read.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")

    def test_codes(self, modern: Path, column: str) -> None:
        for source in (modern, anndata.read_h5ad(modern)):
            store = open_store(source)
            if column.split()[0] not in ("categorical", "string-array", "nullable-string-array"):
                with pytest.raises(FieldError, match=f"obs column '{column}' holds numbers"):
                    store.check([f"obs/{column}:code"])
                continue
            labels = pd.Categorical(anndata.read_h5ad(modern).obs[column])
            assert store.categories(column) == tuple(map(str, labels.categories))
            codes = store.read(chunk_of(DRAWN), [f"obs/{column}:code"])[f"obs_{column}"]
            assert codes.tolist() == labels.codes[DRAWN].tolist()

    def test_as_a_tensor_or_a_list(self, modern: Path, column: str) -> None:
        values = expected_column(anndata.read_h5ad(modern).obs[column])
        (batch,) = stream(modern, 7, fields=[f"obs/{column}", "rows"])
        if values.dtype == object:
            assert batch[f"obs_{column}"] == values[batch["rows"].numpy()].tolist()
        else:
            assert torch.is_tensor(batch[f"obs_{column}"])
            np.testing.assert_array_equal(batch[f"obs_{column}"], values[batch["rows"].numpy()])


class TestMatricesOfToday:
    @pytest.mark.parametrize("kind", ["bool", "float16", "float32", "float64", "int8", "int64", "uint16", ">f4"])
    def test_dense_matrices_keep_their_type_until_they_are_tensors(self, tmp_path: Path, kind: str) -> None:
        adata = tiny(7)
        adata.obsm["m"] = (np.arange(14).reshape(7, 2) % 5).astype(kind)
        adata.layers["m"] = (np.arange(21).reshape(7, 3) % 3).astype(kind)
        for source in (adata, write(adata, tmp_path / "cells.h5ad")):
            read = open_store(source).read(chunk_of(DRAWN), ["obsm/m", "layers/m"])
            for group in ("obsm", "layers"):
                values = getattr(adata, group)["m"][DRAWN]
                np.testing.assert_array_equal(read[f"{group}_m"], values)
                assert read[f"{group}_m"].dtype.newbyteorder("=") == values.dtype.newbyteorder("=")
            (batch,) = stream(source, 7, fields=["obsm/m", "rows"])
            assert batch["obsm_m"].dtype == torch.float32
            np.testing.assert_array_equal(batch["obsm_m"], adata.obsm["m"][batch["rows"].numpy()].astype(np.float32))

    @pytest.mark.parametrize("maker", [sparse.csr_matrix, sparse.csr_array])
    def test_sparse_obsm(self, tmp_path: Path, maker: Any) -> None:
        adata = tiny(7)
        adata.obsm["near"] = maker(sparse.random(7, 9, 0.3, "csr", random_state=np.random.default_rng(0)))
        for source in (adata, write(adata, tmp_path / "cells.h5ad")):
            store = open_store(source)
            read = store.read(chunk_of(DRAWN), ["obsm/near"])["obsm_near"]
            np.testing.assert_array_equal(dense(read), dense(adata.obsm["near"])[DRAWN])
            some = store.read(chunk_of(DRAWN), ["obsm/near", "X"], store.genes([1]))
            np.testing.assert_array_equal(dense(some["obsm_near"]), dense(adata.obsm["near"])[DRAWN])
            (batch,) = stream(source, 7, fields=["obsm/near", "rows"])
            expected = dense(adata.obsm["near"])[batch["rows"].numpy()].astype(np.float32)
            np.testing.assert_array_equal(batch["obsm_near"], expected)

    @pytest.mark.parametrize(
        "columns",
        [
            {"a": range(7)},
            {"a": range(7), "b": np.arange(7, dtype=np.float32)},
            {"a": np.arange(7, dtype=np.float32), "b": np.arange(7, dtype=np.float32) / 3},
            {"flag": [True, False] * 3 + [True]},
            {"flag": [True, False] * 3 + [True], "n": range(7)},
            {"n": pd.array([1, None, 3, 4, 5, None, 7], "Int32")},
            {"n": pd.array(range(7), "Int32"), "flag": pd.array([True, None] * 3 + [True], "boolean")},
            {},
        ],
        ids=lambda columns: ", ".join(columns) or "no columns",
    )
    def test_a_table_of_numbers_in_obsm(self, tmp_path: Path, columns: dict[str, Any]) -> None:
        adata = tiny(7)
        adata.obsm["table"] = pd.DataFrame(columns, index=adata.obs_names)
        expected = np.zeros((7, len(columns)))
        for number, column in enumerate(adata.obsm["table"]):
            expected[:, number] = adata.obsm["table"][column].to_numpy(np.float64, na_value=np.nan)
        for source in (adata, write(adata, tmp_path / "cells.h5ad")):
            read = open_store(source).read(chunk_of(DRAWN), ["obsm/table"])["obsm_table"]
            assert read.dtype.kind in "biuf"
            np.testing.assert_array_equal(read.astype(np.float64), expected[DRAWN])
            (batch,) = stream(source, 7, fields=["obsm/table", "rows"])
            np.testing.assert_array_equal(batch["obsm_table"], expected[batch["rows"].numpy()].astype(np.float32))

    @pytest.mark.parametrize(
        "words", [list("abcdefg"), pd.Categorical(list("abababa")), pd.Categorical([1, 2, 1, 2, 1, 2, 1])]
    )
    def test_a_table_of_other_things_in_obsm_is_refused_with_the_remedy(self, tmp_path: Path, words: Any) -> None:
        adata = tiny(7)
        adata.obsm["table"] = pd.DataFrame({"n": range(7), "words": words}, index=adata.obs_names)
        for source in (adata, write(adata, tmp_path / "cells.h5ad")):
            for use in (stream, AnnDataset):
                with pytest.raises(FormatError, match=r"obsm/table of .* column 'words' holds .*take it over into obs"):
                    use(source, fields=["obsm/table"])
            assert len(list(stream(source, fields=["X"]))) == 1  # the rest stays usable

    @pytest.mark.parametrize("place", ["layers/m", "obsm/m"])
    def test_columns_on_disk_are_refused_with_the_remedy(self, tmp_path: Path, place: str) -> None:
        adata = tiny(7)
        getattr(adata, place.split("/")[0])["m"] = sparse.csc_matrix(np.eye(7, 3, dtype=np.float32))
        path = write(adata, tmp_path / "cells.h5ad")
        reached = f"adata.{place.split('/')[0]}['m']"
        for use in (stream, AnnDataset, lambda data, fields: IndexSource(data).sort_within_chunks(2).read_rows(fields)):
            with pytest.raises(FormatError, match=f"{place} of .* by columns") as refusal:
                use(path, fields=[place])
            assert f"{reached} = {reached}.tocsr()" in str(refusal.value)

    def test_an_array_of_lists_of_any_length_is_refused(self, tmp_path: Path) -> None:
        """As anndata writes an awkward array; made by hand, as the package awkward may be missing."""
        path = write(tiny(7), tmp_path / "cells.h5ad")
        with h5py.File(path, "r+") as file:
            group = file.create_group("obsm/reads")
            group.attrs.update({"encoding-type": "awkward-array", "encoding-version": "0.1.0", "length": 7})
            group["node0-offsets"], group["node1-data"] = np.arange(8), np.arange(7)
        for use in (stream, AnnDataset):
            with pytest.raises(FormatError, match=r"obsm/reads of .* encoded as 'awkward-array', .*leave it out, or"):
                use(path, fields=["obsm/reads"])
        assert len(list(stream(path, fields=["X"]))) == 1

    def test_an_awkward_array_is_refused(self, tmp_path: Path) -> None:
        awkward = pytest.importorskip("awkward", reason="makes arrays of lists of any length")
        adata = tiny(7)
        adata.obsm["reads"] = awkward.Array([[1.0] * i for i in range(7)])
        for source in (adata, write(adata, tmp_path / "cells.h5ad")):
            with pytest.raises(FormatError, match=r"obsm/reads of .*leave it out, or store what you need"):
                stream(source, fields=["obsm/reads"])
            assert len(list(stream(source, fields=["X"]))) == 1

    @pytest.mark.parametrize("field", ["obsp/near", "varm/PCs", "varp/net", "uns/colors", "var/n"])
    def test_what_has_no_rows_along_obs_is_refused(self, tmp_path: Path, field: str) -> None:
        adata = tiny(7)
        adata.obsp["near"], adata.varm["PCs"], adata.varp["net"] = sparse.eye(7).tocsr(), np.eye(3), np.eye(3)
        adata.uns["colors"], adata.var["n"] = ["red"], range(3)
        group = field.split("/")[0]
        for source in (adata, write(adata, tmp_path / "cells.h5ad")):
            assert not [other for other in open_store(source).fields if other.startswith(f"{group}/")]
            for use in (stream, AnnDataset):
                with pytest.raises(FieldError, match=f"'{field}' has no rows along obs: {group} is not a field"):
                    use(source, fields=[field])


def test_attributes_of_fixed_length_are_strings_all_the_same(tmp_path: Path) -> None:
    """HDF5.jl and some R packages write them so, and anndata decodes them (``_read_attr``)."""
    adata = cells()
    adata.X = sparse.csr_matrix(adata.X)
    adata.obsm["scores"] = adata.obs[["n", "share"]]
    path = write(adata, tmp_path / "cells.h5ad")

    def shorten(_: str, element: h5py.HLObject) -> None:
        for name, value in list(element.attrs.items()):
            if isinstance(value, str):
                element.attrs.create(name, np.bytes_(value.encode()))
            elif isinstance(value, np.ndarray) and value.dtype.kind == "O":
                element.attrs.create(name, np.array([text.encode() for text in value], "S"))

    with h5py.File(path, "r+") as file:
        file.visititems(shorten)
        assert isinstance(file["obs"].attrs["_index"], bytes)
    expected = anndata.read_h5ad(path)
    store = open_store(path)
    assert store.obs_names.tolist() == expected.obs_names.tolist()
    read = store.read(chunk_of(DRAWN), ["X", "raw/X", "obsm/scores", "obs/cell_type", "obs/n"])
    np.testing.assert_array_equal(dense(read["X"]), dense(expected.X)[DRAWN])
    np.testing.assert_array_equal(dense(read["raw_X"]), dense(expected.raw.X)[DRAWN])
    np.testing.assert_array_equal(read["obsm_scores"], expected.obsm["scores"].to_numpy()[DRAWN])
    assert read["obs_cell_type"].tolist() == expected_column(expected.obs["cell_type"])[DRAWN].tolist()
    assert read["obs_n"].tolist() == expected.obs["n"].iloc[DRAWN].tolist()
    pd.testing.assert_frame_equal(store.var, expected.var)


def element(group: h5py.Group, name: str, data: Any, kind: str = "array", dtype: Any = None) -> None:
    """A dataset with the attributes that anndata gives it."""
    group.create_dataset(name, data=data, dtype=dtype)
    group[name].attrs.update({"encoding-type": kind, "encoding-version": "0.2.0"})


def strings(group: h5py.Group, name: str, values: Iterable[str], dtype: Any = None) -> None:
    dtype = dtype or h5py.string_dtype()
    element(group, name, np.array(list(values), object if dtype.kind == "O" else dtype), "string-array", dtype)


def nullable(group: h5py.Group, name: str, kind: str, values: Any, mask: Any, **attributes: Any) -> None:
    parts = group.create_group(name)
    parts.attrs.update({"encoding-type": kind, "encoding-version": "0.1.0", **attributes})
    (strings if kind == "nullable-string-array" else element)(parts, "values", values)
    element(parts, "mask", mask)


def categorical(group: h5py.Group, name: str, codes: Any, write_labels: Callable[[h5py.Group, str], None]) -> None:
    parts = group.create_group(name)
    parts.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False})
    element(parts, "codes", codes)
    write_labels(parts, "categories")


def write_with(path: Path, index: Callable[[h5py.Group, str], None], column: Any = None) -> Path:
    """Six rows with an index, and perhaps a column ``c``, written by hand."""
    write(tiny(6), path)
    with h5py.File(path, "r+") as file:
        obs = file["obs"]
        for name in list(obs):
            del obs[name]
        index(obs, str(obs.attrs["_index"]))
        obs.attrs["column-order"] = np.array(["c"] if column else [], h5py.string_dtype())
        if column:
            column(obs, "c")
    return path


NONE, SOME = np.zeros(6, bool), np.array([False, True, False, False, False, True])
LETTERS = list("uvwxyz")
INDEXES: dict[str, Callable[[h5py.Group, str], None]] = {
    "strings": lambda g, n: strings(g, n, LETTERS),
    "fixed strings": lambda g, n: strings(g, n, LETTERS, np.dtype("S1")),
    "bytes": lambda g, n: element(g, n, np.array(LETTERS, "S1")),
    "nullable strings": lambda g, n: nullable(g, n, "nullable-string-array", LETTERS, NONE),
    "nullable strings of pandas 3": lambda g, n: nullable(
        g, n, "nullable-string-array", LETTERS, NONE, **{"na-value": "NaN"}
    ),
    "nullable strings, some missing": lambda g, n: nullable(g, n, "nullable-string-array", LETTERS, SOME),
    "nullable integers": lambda g, n: nullable(g, n, "nullable-integer", np.arange(6), NONE),
    "integers": lambda g, n: element(g, n, np.arange(6)),
    "large integers": lambda g, n: element(g, n, np.arange(6, dtype="u8") + np.uint64(2**63)),
    "floats": lambda g, n: element(g, n, np.arange(6) / 2),
    "booleans": lambda g, n: element(g, n, np.arange(6) % 2 == 0),
    "categories": lambda g, n: categorical(g, n, np.arange(6, dtype="i1")[::-1], lambda p, q: strings(p, q, LETTERS)),
    "categories of integers": lambda g, n: categorical(
        g, n, np.arange(6, dtype="u1"), lambda p, q: element(p, q, np.arange(6))
    ),
    "categories of nullable strings": lambda g, n: categorical(
        g, n, np.arange(6, dtype="i4"), lambda p, q: nullable(p, q, "nullable-string-array", LETTERS, NONE)
    ),
}


@pytest.mark.parametrize("kind", list(INDEXES))
class TestNames:
    """Names of rows in every encoding of an index that anndata reads."""

    # anndata warns that it makes strings of other names.
    pytestmark = pytest.mark.filterwarnings("ignore::anndata.ImplicitModificationWarning", "ignore:.*not unique.*")

    def test_rows_and_names(self, tmp_path: Path, kind: str) -> None:
        path = write_with(tmp_path / "cells.h5ad", INDEXES[kind])
        expected = anndata.read_h5ad(path)
        dataset = AnnDataset(path, fields=["X", "obs_names"])
        assert dataset.shape == expected.shape
        assert [item["obs_names"] for item in dataset[:]] == [str(name) for name in expected.obs_names]
        np.testing.assert_array_equal(np.stack([item["X"] for item in dataset[:]]), dense(expected.X))

    def test_check_and_inspect_find_nothing(self, tmp_path: Path, kind: str) -> None:
        path = write_with(tmp_path / "cells.h5ad", INDEXES[kind])
        report = check(path)
        assert report.healthy, str(report)
        named = next(field for field in inspect(path).fields if field.field == "obs_names")
        assert (named.shape, named.error) == ((6,), "")


def test_genes_named_by_nullable_strings(tmp_path: Path) -> None:
    path = write(tiny(6), tmp_path / "cells.h5ad")
    with h5py.File(path, "r+") as file:
        key = str(file["var"].attrs["_index"])
        names = [f"gene-{i}" for i in range(tiny(6).n_vars)]
        del file["var"][key]
        nullable(file["var"], key, "nullable-string-array", names, np.zeros(len(names), bool))
    expected = anndata.read_h5ad(path)
    assert open_store(path).var.index.tolist() == names
    batch = next(iter(stream(path, 6, genes=[names[1], names[0]], shuffle=False)))
    np.testing.assert_array_equal(batch["X"], dense(expected[:, [names[1], names[0]]].X))


COLUMNS: dict[str, tuple[Callable[[h5py.Group, str], None], list[Any]]] = {
    "nullable booleans as integers": (
        lambda g, n: nullable(g, n, "nullable-boolean", np.array([0, 1, 1, 0, 1, 7], "u1"), SOME),
        [0, np.nan, 1, 0, 1, np.nan],
    ),
    "a mask of integers": (
        lambda g, n: nullable(g, n, "nullable-integer", np.arange(6), SOME.astype("i4")),
        [0, np.nan, 2, 3, 4, np.nan],
    ),
    "one number for all rows": (lambda g, n: element(g, n, np.array([2.5])), [2.5] * 6),
    "no array": (lambda g, n: element(g, n, 2.5, "numeric-scalar"), [2.5] * 6),
    "one string for all rows": (lambda g, n: element(g, n, "a", "string", h5py.string_dtype()), ["a"] * 6),
    "strings that call themselves ASCII": (
        lambda g, n: strings(g, n, [letter.encode() for letter in "éfghij"], h5py.string_dtype("ascii")),
        list("éfghij"),
    ),
    "codes of eight bytes": (
        lambda g, n: categorical(g, n, np.array([1, 0, -1, 1, 0, 0]), lambda p, q: strings(p, q, "ab")),
        ["b", "a", "", "b", "a", "a"],
    ),
    "no categories, and no dataspace": (
        lambda g, n: categorical(g, n, np.full(6, -1, "i1"), lambda p, q: element(p, q, h5py.Empty("f4"))),
        [""] * 6,
    ),
    "a category that is no array": (
        lambda g, n: categorical(
            g, n, np.zeros(6, "i1"), lambda p, q: element(p, q, "a", "string", h5py.string_dtype())
        ),
        ["a"] * 6,
    ),
}


@pytest.mark.parametrize("kind", list(COLUMNS))
def test_columns_as_other_languages_write_them(tmp_path: Path, kind: str) -> None:
    make, expected = COLUMNS[kind]
    path = write_with(tmp_path / "cells.h5ad", INDEXES["strings"], make)
    (batch,) = stream(path, 6, fields=["obs/c"], shuffle=False)
    np.testing.assert_array_equal(np.asarray(batch["obs_c"]), np.asarray(expected))
    report = check(path)
    assert report.healthy, str(report)


@pytest.mark.parametrize(
    "kind", ["one number for all rows", "no array", "one string for all rows", "codes of eight bytes"]
)
def test_what_anndata_reads_of_those(tmp_path: Path, kind: str) -> None:
    make, expected = COLUMNS[kind]
    found = anndata.read_h5ad(write_with(tmp_path / "cells.h5ad", INDEXES["strings"], make)).obs["c"]
    assert ["" if pd.isna(value) else value for value in found] == expected


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda g, n: element(g, n, np.zeros((6, 2))), "has 2 dimensions, but a column has one"),
        (lambda g, n: element(g, n, np.zeros(6, [("a", "i4")])), "neither numbers nor text"),
        (lambda g, n: element(g, n, np.arange(6), "martian"), "encoded as 'martian' '0.2.0', which the installed"),
        (lambda g, n: anndata.io.write_elem(g, n, {"a": 1}), "is a group encoded as 'dict'"),
        (lambda g, n: categorical(g, n, np.zeros(6), lambda p, q: strings(p, q, "ab")), "codes are whole numbers"),
        (lambda g, n: categorical(g, n, np.zeros(6, int), lambda p, q: strings(p, q, "aa")), "stands twice"),
        (lambda g, n: nullable(g, n, "nullable-boolean", np.arange(6), SOME), "must be booleans, or integers 0 and 1"),
        (lambda g, n: nullable(g, n, "nullable-integer", np.arange(6) / 2, SOME), "holds float64, not whole numbers"),
    ],
)
def test_columns_that_are_none_are_refused_where_they_are_asked_for(tmp_path: Path, make: Any, told: str) -> None:
    path = write_with(tmp_path / "cells.h5ad", INDEXES["strings"], make)
    assert next(iter(stream(path, 6, fields=["X"])))["X"].shape[0] == 6
    with pytest.raises(FormatError, match=f"obs/c of .*{told}"):
        stream(path, fields=["obs/c"])


@pytest.mark.parametrize(("code", "dtype"), [(-2, "i1"), (-128, "i1"), (2, "i1"), (255, "u1"), (2**31 + 1, "i8")])
def test_a_code_without_a_category_is_an_error_as_in_anndata(tmp_path: Path, code: int, dtype: str) -> None:
    codes = np.array([0, code, 1, 1, 1, 1], dtype)
    make = COLUMNS["codes of eight bytes"][0]
    path = write_with(tmp_path / "cells.h5ad", INDEXES["strings"], make)
    with h5py.File(path, "r+") as file:
        del file["obs/c/codes"]
        element(file["obs/c"], "codes", codes)
    with pytest.raises(ValueError, match="codes need to be between -1"):
        anndata.read_h5ad(path)
    with pytest.raises(DamageError, match=f"the code {code} in row 1, but only 2 categories"):
        stream(path, fields=["obs/c"])


@of_old_files
def test_old_tables_are_read_column_by_column(tmp_path: Path) -> None:
    """One column of them needs that column and its categories, and nothing else."""
    write_07(tmp_path / "old.h5ad", "csr")
    with h5py.File(tmp_path / "old.h5ad", "r+") as file:
        del file["obs/__categories/donor"]  # of another column
    expected = ["late", "early"] * 3 + [""]
    (batch,) = stream(tmp_path / "old.h5ad", 7, fields=["obs/stage"], shuffle=False)
    assert batch["obs_stage"] == expected
