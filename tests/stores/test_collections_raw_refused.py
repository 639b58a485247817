"""What is refused of raw of several files, and when; and that the remedies work."""

from __future__ import annotations

from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
from anndata.io import write_elem
from builders import dense
from contracts import chunk_of
from raw_collections import RAW_GENES, both, compare_both, raws, with_raw
from small_collections import N_ROWS, concatenated, pieces, written

from annpipes import Collection, IndexSource, stream
from annpipes.errors import ChangedError, DamageError, FieldError, ParameterError

N = sum(N_ROWS)


class TestRefusals:
    def test_no_gene_that_all_raw_have(self) -> None:
        adatas = with_raw()
        other = adatas[1].raw.to_adata()
        other.var_names = [f"other-{i}" for i in range(other.n_vars)]
        adatas[1].raw = other
        message = r"no gene is in all 3 files \(LYZ.* in raw of .*: are var_names of one"
        with pytest.raises(ParameterError, match=message):
            stream(adatas, fields=["X", "raw/X"])
        stream(adatas, fields=["X"])
        compare_both(Collection(adatas, join="outer"), both(adatas, "outer"))

    @pytest.mark.filterwarnings("ignore:Variable names are not unique:UserWarning")  # anndata's, and meant here
    def test_names_that_repeat_unless_raw_is_the_same_everywhere(self) -> None:
        one, two = with_raw()[0], with_raw()[0]
        for adata in (one, two):
            raw = adata.raw.to_adata()
            raw.var_names = ["LYZ", "LYZ", *RAW_GENES[0][2:]]
            adata.raw = raw
        together = Collection([one, two]).read(chunk_of([9, 0]), ["raw/X"])["raw_X"]
        np.testing.assert_array_equal(dense(together), dense(one.raw.X)[[4, 0]])
        adatas = [one, with_raw()[2]]
        with pytest.raises(ParameterError, match=r"raw of .* has the gene 'LYZ' twice, so its genes cannot") as told:
            Collection(adatas).check(["raw/X"])
        remedy = str(told.value).partition("files: ")[2].removesuffix(" and write it again")
        exec(remedy, {"adata": one})  # noqa: S102 # ours
        compare_both(Collection(adatas), both(adatas, "inner"), [8, 0, 3])

    def test_a_list_of_which_no_raw_has_a_gene(self) -> None:
        adatas = pieces()
        for adata in adatas:
            adata.raw = adata[:, ["LYZ", "CD3E"]].copy()
        store = Collection(adatas, join=["GNLY", "LYZ"])
        with pytest.raises(FieldError, match=r"no gene 'GNLY' in raw of any of 3 files \(1 of 2 unknown\)"):
            store.check(["raw/X"])
        filled = Collection(adatas, join=["GNLY", "LYZ"], missing_genes="fill")
        read = dense(filled.read(chunk_of(range(N)), ["raw/X"])["raw_X"])
        assert not read[:, 0].any()
        np.testing.assert_array_equal(read[:, 1], dense(concatenated(raws(adatas), ["LYZ"]).X)[:, 0])

    def test_a_column_that_raw_lacks_or_leaves_empty(self) -> None:
        adatas = with_raw()
        raw = adatas[2].raw.to_adata()
        raw.var.loc["CST3", "id"] = None
        adatas[2].raw = raw
        with pytest.raises(ParameterError, match=r"'id' of raw of AnnData.* has no value for 1 genes \(CST3\)"):
            Collection(adatas, on="id").check(["raw/X"])
        del raw.var["id"]
        adatas[2].raw = raw
        with pytest.raises(FieldError, match=r"no var column 'id' in raw of AnnData.*; columns: length"):
            Collection(adatas, on="id").check(["raw/X"])

    def test_filling_what_some_raw_has_and_the_join_left_out(self) -> None:
        with pytest.raises(ParameterError, match=r"^raw of AnnData.* has 1 of the genes that are missing \(IL7R\)"):
            stream(with_raw(), fields=["raw/X"], genes=["LYZ", "IL7R"], missing_genes="fill")

    def test_raw_that_was_replaced(self) -> None:
        adatas = with_raw()
        source = IndexSource(adatas)
        first = source.sort_within_chunks(4).read_rows("raw/X")
        adatas[1].raw = adatas[1].raw.to_adata()[:, ::-1].copy()
        for reader in (lambda: first, lambda: source.sort_within_chunks(4).read_rows("raw/X")):
            with pytest.raises(ChangedError, match=r"had other raw.var_names when a source was made from it"):
                list(reader())
        single = IndexSource(adatas[0])
        chosen = single.sort_within_chunks(4).read_rows("raw/X", genes=["LYZ"])
        adatas[0].raw = adatas[0].raw.to_adata()[:, ::-1].copy()
        with pytest.raises(ChangedError, match=r"had other raw.var_names"):  # of the second choice, and of the first
            single.sort_within_chunks(4).read_rows("raw/X", genes=["LYZ"])
        with pytest.raises(ChangedError, match=r"had other raw.var_names"):
            next(iter(chosen))

    @pytest.mark.parametrize("join", ["inner", "outer"])
    def test_a_table_that_is_shorter_than_its_matrix_is_wide(self, tmp_path: Path, join: str) -> None:
        adatas = with_raw()
        paths = written(adatas, tmp_path)
        with h5py.File(paths[1], "r+") as file, anndata.settings.override(allow_write_nullable_strings=True):
            del file["raw/var"]
            write_elem(file["raw"], "var", adatas[1].raw.var.iloc[:2])
        genes = ["GNLY"] if join == "inner" else ["FCER1A", "GNLY"]
        with pytest.raises(DamageError, match=r"raw/X of 1\.h5ad has 5 columns, but raw.var has 2 genes"):
            Collection(paths, join=join).check(["raw/X"])
        with pytest.raises(DamageError, match=r"raw/X of 1\.h5ad has 5 columns, but raw.var has 2 genes"):
            next(iter(stream(paths[1], fields=["raw/X"], genes=genes)))
