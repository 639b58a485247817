"""Tables that anndata wrote before version 0.8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from builders import dense, expected_column, write
from contracts import chunk_of, labelled, matrices
from old_tables import (
    write_05,
    write_06,
    write_07,
    write_before_07,
    write_matrix,
)
from table_files import (
    DRAWN,
    cells,
    modern,  # noqa: F401 (fixtures)
)

from annpipes import AnnDataset, Collection, IndexSource, stream
from annpipes.errors import FieldError, FormatError
from annpipes.stores import open_store

# What anndata says of files older than itself; users see it from annpipes only where they see it from anndata.
of_old_files = pytest.mark.filterwarnings("ignore::FutureWarning:anndata", "ignore::anndata.OldFormatWarning")


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
        assert store.categories("n") == tuple(sorted(set(adata.obs["n"].tolist())))
        assert store.categories("flag") == (False, True)
        with pytest.raises(FieldError, match="obs column 'share' holds numbers that are not whole"):
            store.check(["obs/share:code"])

    def test_var(self, path: Path, adata: anndata.AnnData) -> None:
        pd.testing.assert_frame_equal(open_store(path).var, adata.var, check_names=False)

    def test_in_a_stream_and_as_a_dataset(self, path: Path, adata: anndata.AnnData) -> None:
        fields = ["X", "raw/X", "obsm/X_pca", "obs/cell_type:code", "obs/donor", "rows"]
        dataset = AnnDataset(path, fields=fields, genes=[2, 0])
        loader = stream(path, 3, fields=fields, genes=[2, 0], num_workers=2)
        batches = [*loader, *torch.utils.data.DataLoader(dataset, 4, collate_fn=dataset.get_collate_fn())]
        assert len(batches) == 5
        for batch in batches:
            rows = batch["rows"].numpy()
            np.testing.assert_array_equal(batch["X"], dense(adata.X)[rows][:, [2, 0]])
            np.testing.assert_array_equal(batch["raw_X"], dense(adata.raw.X)[rows])
            np.testing.assert_array_equal(batch["obsm_X_pca"], adata.obsm["X_pca"][rows])
            assert batch["obs_cell_type"].tolist() == adata.obs["cell_type"].cat.codes.iloc[rows].tolist()
            assert batch["obs_donor"] == adata.obs["donor"].iloc[rows].tolist()

    def test_genes_of_raw_by_name(self, path: Path, adata: anndata.AnnData) -> None:
        names = adata.raw.var_names[[2, 0]].tolist()
        (batch,) = stream(path, 9, fields=["raw/X", "rows"], genes=names)
        np.testing.assert_array_equal(batch["raw_X"], dense(adata.raw.X)[batch["rows"].numpy()][:, [2, 0]])

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


@of_old_files
def test_old_tables_are_read_column_by_column(tmp_path: Path) -> None:
    """One column of them needs that column and its categories, and nothing else."""
    write_07(tmp_path / "old.h5ad", "csr")
    with h5py.File(tmp_path / "old.h5ad", "r+") as file:
        del file["obs/__categories/donor"]  # of another column
    expected = ["late", "early"] * 3 + [""]
    (batch,) = stream(tmp_path / "old.h5ad", 7, fields=["obs/stage"], shuffle=False)
    assert batch["obs_stage"] == expected
