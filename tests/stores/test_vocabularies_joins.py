"""Files aligned by a column of var, and by a list of genes; the oracles are anndata.concat and pandas."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from builders import dense
from contracts import chunk_of
from gene_contract import reindexed
from hypothesis import given
from hypothesis import strategies as st
from small_collections import N_ROWS, compare, concatenated, pieces, written

from annpipes import Collection, IndexSource, Loader, SourceMixer, stream
from annpipes.errors import FieldError, ParameterError, StateError
from annpipes.stores import Matching

N = sum(N_ROWS)
NAMES = ["CD3E", "LYZ", "MS4A1", "NKG7", "GNLY", "CD14", "PPBP"]
IDS = {name: f"ENSG{i:011}" for i, name in enumerate(NAMES)}
FIELDS = ["X", "layers/counts"]


def identified(*kinds: str, versions: bool = False) -> list[anndata.AnnData]:
    """Three AnnData with their ids in a column, and names that differ in each."""
    made = pieces(*kinds)
    for number, adata in enumerate(made):
        adata.var["id"] = [IDS[name] + (f".{number + 3}" if versions and number else "") for name in adata.var_names]
        adata.var["symbol"] = list(adata.var_names)
        adata.var_names = [f"{name}-{number}" for name in adata.var_names]
    return made


def by_ids(adatas: list[anndata.AnnData]) -> list[anndata.AnnData]:
    """The same called by their ids, for anndata."""
    copies = [adata.copy() for adata in adatas]
    for adata in copies:
        adata.var_names = [name.split(".")[0] for name in adata.var["id"]]
    return copies


@pytest.fixture(params=["csr float32", "dense float32", "csr int32"])
def adatas(request: pytest.FixtureRequest) -> list[anndata.AnnData]:
    return identified(*[request.param] * 3)


@pytest.fixture(params=["memory", "files"])
def data(request: pytest.FixtureRequest, adatas: list[anndata.AnnData], tmp_path: Path) -> Any:
    return adatas if request.param == "memory" else written(adatas, tmp_path, (None, "gzip", None))


class TestByAColumn:
    @pytest.mark.parametrize("join", ["inner", "outer", [IDS["CD14"], IDS["LYZ"], IDS["PPBP"]]], ids=str)
    def test_rows_are_those_of_anndata_with_the_column_as_names(
        self, data: Any, adatas: list[anndata.AnnData], join: Any
    ) -> None:
        expected = concatenated(by_ids(adatas), join)
        store = Collection(data, join=join, on="id")
        assert store.var_names.tolist() == expected.var_names.tolist()
        compare(store, expected, range(N), FIELDS)
        assert store.found_genes(None).by == "id"

    def test_var_has_the_names_where_they_agree(self) -> None:
        adatas = identified()
        var = Collection(adatas, on="id", join="outer").var
        assert var["symbol"].tolist() == NAMES
        assert "var_names" not in var  # they differ in each file
        for adata in adatas:
            adata.var_names = adata.var["symbol"].tolist()
        assert Collection(adatas, on="id", join="outer").var["var_names"].tolist() == NAMES

    def test_genes_are_chosen_by_what_they_are_called(self, data: Any, adatas: list[anndata.AnnData]) -> None:
        expected = concatenated(by_ids(adatas), "outer")
        together = Collection(data, join="outer", on="id")
        genes = [IDS["PPBP"], "ENSG9", IDS["CD3E"]]
        wanted = reindexed(expected.X, expected.var_names, genes).astype(np.float32)
        for form in ("dense", "csr"):
            loader = stream(together, 4, fields=["X", "rows"], genes=genes, missing_genes="fill", form=form)
            for batch in loader:
                rows = batch["X"] if form == "dense" else batch["X"].to_dense()
                assert torch.equal(rows, torch.from_numpy(wanted[batch["rows"].numpy()]))
        assert [count for _, count in loader.found_genes.files] == [1, 1, 2]
        by_symbol = stream(together, genes=["PPBP", "CD3E"], genes_from="symbol")
        assert by_symbol.found_genes.by == "symbol"
        assert by_symbol.var["var_names"].tolist() == [IDS["PPBP"], IDS["CD3E"]]

    def test_a_column_that_a_file_lacks_is_named(self) -> None:
        adatas = identified()
        del adatas[1].var["id"]
        with pytest.raises(FieldError, match=r"no var column 'id' in AnnData\(7 × 4\); columns: symbol"):
            Collection(adatas, on="id")

    def test_values_that_are_missing_are_named_unless_genes_are_listed(self) -> None:
        adatas = identified()
        adatas[2].var.loc[["PPBP-2", "NKG7-2"], "id"] = None
        for join in ("inner", "outer"):
            with pytest.raises(ParameterError, match=r"'id' of AnnData.* has no value for 2 genes \(PPBP-2, NKG7-2\)"):
                Collection(adatas, on="id", join=join)
        genes = [IDS["NKG7"], IDS["CD3E"]]
        expected = [by_ids(adatas[:2])[0], by_ids(adatas[:2])[1], by_ids([adatas[2][:, 2:].copy()])[0]]
        compare(Collection(adatas, on="id", join=genes), concatenated(expected, genes), range(N), ["X"])

    def test_values_that_repeat_are_named(self) -> None:
        adatas = identified()
        adatas[1].var["id"] = [IDS["LYZ"], *adatas[1].var["id"][1:]]
        with pytest.raises(ParameterError, match=rf"has the gene '{IDS['LYZ']}' twice in 'id', so its genes cannot"):
            Collection(adatas, on="id", join="outer")

    def test_it_goes_into_other_processes_and_mixtures(self) -> None:
        adatas = identified()
        expected = dense(concatenated(by_ids(adatas), "inner").X).astype(np.float32)
        store = pickle.loads(pickle.dumps(Collection(adatas, on="id")))
        compare(store, concatenated(by_ids(adatas), "inner"), range(N), FIELDS)
        sources = {str(i): IndexSource(adata) for i, adata in enumerate(adatas)}
        mixer = SourceMixer(sources, dict.fromkeys(sources, 1.0), on="id")
        assert mixer.var.index.tolist() == [IDS[name] for name in ("CD3E", "LYZ", "GNLY")]
        for batch in Loader(mixer.sort_within_chunks(8).read_rows(["X", "rows"]).batch_rows(4).collate_rows()):
            assert torch.equal(batch["X"], torch.from_numpy(expected[batch["rows"].numpy()]))

    def test_within_another_collection_it_is_refused(self) -> None:
        with pytest.raises(ParameterError, match="is within another collection: give join, on, missing"):
            Collection([Collection(identified(), on="id")])


class TestVersions:
    @pytest.mark.parametrize("join", ["inner", "outer"])
    def test_may_differ_by_file(self, join: str) -> None:
        adatas = identified(versions=True)
        store = Collection(adatas, on="id", gene_versions="drop", join=join)
        expected = concatenated(by_ids(adatas), join)
        assert store.var_names.tolist() == expected.var_names.tolist()
        compare(store, expected, range(N), FIELDS)

    def test_make_other_genes_unless_they_are_dropped(self) -> None:
        with pytest.raises(ParameterError, match=r"no gene is in all 3 files .*: are id of one kind\?"):
            Collection(identified(versions=True), on="id")

    def test_genes_of_a_list_keep_the_names_given(self) -> None:
        adatas = identified(versions=True)
        genes = [IDS["NKG7"] + ".77", IDS["CD3E"]]
        store = Collection(adatas, on="id", gene_versions="drop", join=genes)
        assert store.var_names.tolist() == store.var.index.tolist() == genes
        compare(store, concatenated(by_ids(adatas), [IDS["NKG7"], IDS["CD3E"]]), range(N), ["X"])

    def test_that_stand_side_by_side_in_one_file_are_named(self) -> None:
        adatas = identified()
        adatas[1].var["id"] = [f"{IDS['CD14']}.{i}" for i in range(4)]
        with pytest.raises(ParameterError, match=rf"has the gene '{IDS['CD14']}' twice without their versions"):
            Collection(adatas, on="id", gene_versions="drop", join="outer")


class TestAListOfGenes:
    @pytest.mark.parametrize("kind", ["csr float32", "dense float32"])
    def test_may_be_empty(self, kind: str) -> None:
        rows = Collection(pieces(*[kind] * 3), join=[]).read(chunk_of([4, 0, 9]), ["X"])["X"]
        assert rows.shape == (3, 0)
        assert kind.startswith("dense") or len(rows.indices) == len(rows.data) == 0

    @pytest.mark.parametrize("fill_value", [0.0, 2.5, np.nan])
    @pytest.mark.parametrize("form", ["csr int32", "dense float32"])
    def test_may_name_genes_that_no_file_has(self, form: str, fill_value: float) -> None:
        adatas = pieces(*[form] * 3)
        genes = ["LYZ", "XIST", "PPBP", "SRY"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = anndata.concat(adatas, join="outer", fill_value=fill_value)
        expected = pd.DataFrame(dense(whole.X), columns=whole.var_names).reindex(columns=genes, fill_value=fill_value)
        store = Collection(adatas, join=genes, missing_genes="fill", fill_value=fill_value)
        found = stream(store, N, fields=["X", "rows"], shuffle=False)
        (batch,) = found
        np.testing.assert_array_equal(batch["X"], expected.to_numpy(np.float32))
        report = found.found_genes
        assert (report.found, report.missing) == (2, ("XIST", "SRY"))
        assert [count for _, count in report.files] == [1, 1, 2]

    def test_is_not_filled_where_a_file_has_the_gene(self) -> None:
        """``genes=`` of a join that left it out would have been zeros in every file."""
        with pytest.raises(ParameterError, match=r"has 1 of the genes that are missing \(PPBP\): they would be filled"):
            stream(pieces(), genes=["LYZ", "PPBP", "XIST"], missing_genes="fill")
        assert stream(pieces(), genes=["LYZ", "XIST"], missing_genes="fill").found_genes.missing == ("XIST",)

    def test_is_not_filled_with_zeros_beside_another_value(self) -> None:
        store = Collection(pieces(), join="outer", fill_value=np.nan)
        with pytest.raises(ParameterError, match=r"puts zeros where all files lack a gene, but fill_value is nan"):
            stream(store, genes=["LYZ", "XIST"], missing_genes="fill")

    def test_is_what_missing_genes_are_for(self) -> None:
        with pytest.raises(ParameterError, match="missing_genes='fill' fills a list of genes"):
            Collection(pieces(), join="outer", missing_genes="fill")
        with pytest.raises(FieldError, match=r"no gene 'XIST' in any of 3 files \(2 of 2 unknown\)"):
            Collection(pieces(), join=["XIST", "SRY"], missing_genes="fill")


@given(
    genes=st.lists(st.sampled_from([*NAMES, "XIST", "SRY"]), unique=True),
    forms=st.lists(st.sampled_from(["csr float32", "dense float32", "csr int32"]), min_size=3, max_size=3),
    drawn=st.lists(st.integers(0, N - 1), max_size=6),
)
def test_any_genes_of_any_files(genes: list[str], forms: list[str], drawn: list[int]) -> None:
    adatas, asked = identified(*forms), [IDS.get(name, name) for name in genes]
    whole = concatenated(by_ids(adatas), "outer")
    chosen = Collection(adatas, on="id", join="outer")
    if genes and not set(asked) & set(IDS.values()):
        with pytest.raises(FieldError, match="unknown"):
            chosen.genes(asked, Matching(missing="fill"))
        return
    expected = reindexed(whole.X, whole.var_names, asked)[drawn]
    found = chosen.read(chunk_of(drawn), ["X"], chosen.genes(asked, Matching(missing="fill")))["X"]
    np.testing.assert_array_equal(dense(found), expected)
    listed = Collection(adatas, on="id", join=asked, missing_genes="fill").read(chunk_of(drawn), ["X"])["X"]
    np.testing.assert_array_equal(dense(listed), expected)


def test_states_know_how_files_were_aligned() -> None:
    adatas = identified()
    for adata in adatas:
        adata.var["other"] = adata.var["id"].to_numpy()[::-1]
    saved = stream(Collection(adatas, on="id", join="outer"), 4).state_dict()
    stream(Collection(adatas, on="id", join="outer"), 4).load_state_dict(saved)
    genes = Collection(adatas, on="id", join="outer").var_names.tolist()
    with pytest.raises(StateError, match="genes was"):
        stream(Collection(adatas, on="other", join=genes), 4).load_state_dict(saved)
