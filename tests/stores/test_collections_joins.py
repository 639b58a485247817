"""Which genes, labels and columns a collection has; the oracle is anndata.concat."""

from __future__ import annotations

from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from builders import expected_column, tiny
from column_kinds import KINDS, LOSSY, concatenated_column, same_values
from contracts import chunk_of
from small_collections import GENES, N_ROWS, compare, concatenated, pieces, written

from annpipes import Collection, IndexSource
from annpipes.errors import FieldError, FormatError, ParameterError

N = sum(N_ROWS)

_TEXT = {"str", "category", "ordered", "string"}


class TestGenes:
    def test_common_genes_stand_in_the_first_files_order(self) -> None:
        assert Collection(pieces()).var_names.tolist() == ["CD3E", "LYZ", "GNLY"]

    def test_genes_of_any_file_stand_where_they_first_come(self) -> None:
        names = Collection(pieces(), join="outer").var_names.tolist()
        assert names == [*GENES[0], "CD14", "PPBP"]

    @pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Index])
    def test_genes_may_be_given_in_any_sequence(self, kind: Any) -> None:
        store = Collection(pieces(), join=kind(["CD14", "LYZ"]))
        assert store.var_names.tolist() == ["CD14", "LYZ"]
        compare(store, concatenated(pieces(), ["CD14", "LYZ"]), range(N), ["X"])

    def test_genes_of_no_file_are_named(self) -> None:
        with pytest.raises(FieldError, match=r"no gene 'CD3' in any of 3 files \(2 of 3 unknown\); did you mean CD3E"):
            Collection(pieces(), join=["LYZ", "CD3", "BRCA1"])

    def test_a_gene_twice_in_the_list_is_named(self) -> None:
        with pytest.raises(ParameterError, match="join names the gene 'LYZ' more than once"):
            Collection(pieces(), join=["LYZ", "CD3E", "LYZ"])

    @pytest.mark.filterwarnings("ignore:Variable names are not unique:UserWarning")  # anndata's, and meant here
    def test_names_that_repeat_need_no_alignment_if_all_files_have_the_same(self) -> None:
        one, two = tiny(3), tiny(2)
        one.var_names = two.var_names = ["a", "b", "a"]
        assert Collection([one, two]).read(chunk_of([4, 0]), ["X"])["X"].tolist() == [[100, 101, 102], [0, 1, 2]]

    @pytest.mark.parametrize("form", ["csr", "dense"])
    def test_a_file_without_genes_is_filled(self, form: str) -> None:
        adatas = pieces(*[f"{form} float32"] * 3)
        adatas[1] = adatas[1][:, []].copy()
        compare(Collection(adatas, join="outer"), concatenated(adatas, "outer"), range(N), ["X"])


class TestVar:
    def made(self, *frames: pd.DataFrame) -> list[anndata.AnnData]:
        return [anndata.AnnData(np.ones((1, len(frame)), "f4"), var=frame) for frame in frames]

    def test_columns_that_agree_are_kept_and_those_that_contradict_are_not(self) -> None:
        one = pd.DataFrame({"length": [10, 20], "mean": [0.1, 0.2], "id": ["E1", "E2"]}, index=["a", "b"])
        two = pd.DataFrame({"length": [20, 30], "mean": [0.3, 0.4], "only": [True, False]}, index=["b", "c"])
        var = IndexSource(Collection(self.made(one, two), join="outer")).var
        assert var.index.tolist() == ["a", "b", "c"]
        assert var["length"].tolist() == [10, 20, 30]
        assert "mean" not in var
        assert var["id"].tolist()[:2] == ["E1", "E2"]
        assert var["only"].tolist()[1:] == [True, False]

    @pytest.mark.parametrize("join", ["inner", "outer"])
    def test_columns_of_categories_may_differ_in_what_they_hold(self, join: str) -> None:
        # As anndata writes every column of strings that repeat, such as feature_types or the chromosome.
        one = pd.DataFrame({"chromosome": pd.Categorical(["1", "2"])}, index=["a", "b"])
        two = pd.DataFrame({"chromosome": pd.Categorical(["2", "X"])}, index=["b", "c"])
        var = Collection(self.made(one, two), join=join).var
        assert dict(zip(var.index, map(str, var["chromosome"]), strict=True)) == (
            {"b": "2"} if join == "inner" else {"a": "1", "b": "2", "c": "X"}
        )


class TestLabels:
    def test_tables_are_the_first_files_and_then_what_files_bring(self, tmp_path: Path) -> None:
        adatas = pieces()
        adatas[0].obs["donor"] = adatas[0].obs["donor"].cat.reorder_categories(["d1", "d0"])
        for data in (adatas, written(adatas, tmp_path)):
            store = Collection(data)
            assert store.categories("donor") == ("d1", "d0", "d2", "d3")
            codes = store.read(chunk_of(range(N)), ["obs/donor:code"])["obs_donor"]
            assert [store.categories("donor")[code] for code in codes] == concatenated(adatas, "inner").obs[
                "donor"
            ].tolist()

    def test_categories_and_strings_become_strings_whose_table_is_sorted(self) -> None:
        one, two = tiny(2), tiny(3)
        one.obs["label"] = pd.Categorical(["T", "B"], ["T", "B"])
        two.obs["label"] = ["NK", "B", "A"]
        store = Collection([one, two])
        assert store.read(chunk_of([4, 2, 1, 0]), ["obs/label"])["obs_label"].tolist() == ["A", "NK", "B", "T"]
        assert store.categories("label") == ("A", "B", "NK", "T")

    def test_more_labels_than_a_byte_can_count(self) -> None:
        adatas = []
        for number in range(3):
            adata = tiny(100)
            adata.obs["label"] = pd.Categorical([f"{number}-{i}" for i in range(100)])
            adatas.append(adata)
        read = Collection(adatas).read(chunk_of([299, 0, 128, 127]), ["obs/label"])
        assert read["obs_label"].tolist() == ["2-99", "0-0", "1-28", "1-27"]


class TestColumnsOfOtherTypes:
    def made(self, one: Any, two: Any, folder: Path | None) -> list[Any]:
        adatas = [tiny(2), tiny(2)]
        for number, (adata, values) in enumerate(zip(adatas, (one, two), strict=True)):
            adata.obs_names = [f"{number}-0", f"{number}-1"]
            if values is not None:
                adata.obs["c"] = values
        return adatas if folder is None else list(written(adatas, folder, (None, None)))

    @pytest.mark.parametrize("from_files", [False, True])
    @pytest.mark.parametrize(("one", "two"), [*combinations_with_replacement(KINDS, 2)])
    def test_they_are_joined_as_anndata_does(self, tmp_path: Path, one: str, two: str, from_files: bool) -> None:
        for first, second in {(one, two), (two, one)}:
            data = self.made(KINDS[first], KINDS[second], tmp_path if from_files else None)
            if {first, second} in LOSSY:
                with pytest.raises(FormatError, match=r"obs column 'c' of 2 files holds the integer \d+"):
                    Collection(data).check(["obs/c"])
                continue
            expected, _ = concatenated_column(KINDS[first], KINDS[second])
            store = Collection(data)
            same_values(store.series("c"), expected)
            if expected.isna().any() and {first, second} & {"int64", "uint64"} and not {first, second} & _TEXT:
                with pytest.raises(FormatError):  # kept as they are, but a batch would have NaN where one is missing
                    store.check(["obs/c"])
                continue
            read = store.read(chunk_of(range(4)), ["obs/c"])["obs_c"]
            if any(isinstance(value, str) for value in expected) or isinstance(expected.dtype, pd.CategoricalDtype):
                assert read.tolist() == expected_column(expected).tolist()
            else:
                same_values(read, expected)

    @pytest.mark.parametrize("from_files", [False, True])
    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("int64", "uint64")])
    def test_a_file_without_the_column_leaves_it_missing(self, tmp_path: Path, kind: str, from_files: bool) -> None:
        adatas = self.made(KINDS[kind], None, None)
        data = self.made(KINDS[kind], None, tmp_path if from_files else None)
        same_values(Collection(data, missing="fill").series("c"), anndata.concat(adatas, join="outer").obs["c"])

    def test_large_integers_are_not_filled_up_with_floats(self) -> None:
        data = self.made(KINDS["int64"], None, None)
        with pytest.raises(FormatError, match="9007199254740993, which does not fit into float64"):
            Collection(data, missing="fill").check(["obs/c"])

    def test_large_nullable_integers_are_no_floats_where_some_are_missing(self) -> None:
        one, _ = self.made(pd.array([2**53 + 1, None], dtype="Int64"), None, None)
        with pytest.raises(FormatError, match=r"whole numbers beyond 2\*\*53"):
            IndexSource(one).store.check(["obs/c"])

    def test_integers_and_booleans_beside_strings_do_not_pass_through_floats(self) -> None:
        data = self.made(pd.array([7, None], dtype="Int64"), ["x", "y"], None)
        assert Collection(data).column_values("c").tolist() == ["7", "", "x", "y"]
        data = self.made(pd.array([True, None], dtype="boolean"), ["x", "y"], None)
        assert Collection(data).column_values("c").tolist() == ["True", "", "x", "y"]

    def test_numbers_as_categories_keep_their_values(self) -> None:
        one, two = pd.Categorical([1, 2]), pd.Categorical([2.0, 3.5])
        assert Collection(self.made(one, two, None)).categories("c") == ("1.0", "2.0", "3.5")

    def test_only_equal_tables_keep_their_order(self) -> None:
        ordered = KINDS["ordered"]
        assert Collection(self.made(ordered, ordered, None)).series("c").cat.ordered
        assert not Collection(self.made(ordered, KINDS["category"], None)).series("c").cat.ordered


class TestColumnsOtherThanGenes:
    def test_a_table_that_is_no_first_one_is_compared_too(self) -> None:
        adatas = [tiny(2) for _ in range(3)]
        for adata, columns in zip(adatas, (None, ["a", "b"], ["b", "a"]), strict=True):
            values = np.arange(4.0).reshape(2, 2)
            adata.obsm["e"] = values if columns is None else pd.DataFrame(values, adata.obs_names, columns)
        with pytest.raises(FormatError, match="obsm/e has other columns"):
            Collection(adatas).check(["obsm/e"])
