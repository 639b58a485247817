"""Lists of genes of which data has some, under one name or another; the oracles are pandas' and anndata's own."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from builders import dense, write
from gene_contract import reindexed
from gene_lists import IDS, SOURCES, bare, named, source_of

from annpipes import AnnDataset, IndexSource, stream
from annpipes.errors import ChangedError, DamageError, FieldError, ParameterError, ParameterTypeError
from annpipes.stores.vocabularies import without_version

FIELDS = ["X", "layers/counts", "layers/logged", "rows"]


@pytest.fixture(params=SOURCES)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, anndata.AnnData]]:
    yield from source_of(request.param, tmp_path)


def same_columns(data: Any, adata: anndata.AnnData, keys: Any, genes: list[str], **how: Any) -> None:
    """Fail unless each way of reading gives the genes' columns as pandas has them."""
    expected = {
        key: torch.from_numpy(reindexed(values, keys, genes).astype(np.float32))
        for key, values in {"X": adata.X, **{f"layers_{k}": v for k, v in adata.layers.items() if k}}.items()
    }
    for form in ("dense", "csr"):
        for batch in stream(data, 8, fields=FIELDS, genes=genes, form=form, num_workers=2, **how):
            for key, values in expected.items():
                rows = batch[key] if torch.is_tensor(batch[key]) else batch[key].to_dense()
                assert torch.equal(rows, values[batch["rows"]]), (form, key)
    item = AnnDataset(data, fields=FIELDS, genes=genes, **how)[[3, 0, 3]]
    assert torch.equal(item["X"], expected["X"][[3, 0, 3]])


class TestMissingGenes:
    def test_are_columns_of_zeros(self, both: tuple[Any, anndata.AnnData]) -> None:
        data, adata = both
        same_columns(data, adata, adata.var_names, ["gene-9", "XIST", "gene-1", "SRY"], missing_genes="fill")

    def test_are_an_error_unless_something_else_is_said(self, both: tuple[Any, anndata.AnnData]) -> None:
        with pytest.raises(FieldError, match=r"no gene 'XIST' in .* \(2 of 3 unknown\).*missing_genes='fill'"):
            stream(both[0], genes=["XIST", "gene-1", "SRY"])

    def test_say_nothing_of_themselves_in_var(self, both: tuple[Any, anndata.AnnData]) -> None:
        data, adata = both
        genes = ["gene-9", "XIST", "gene-1"]
        loader = stream(data, genes=genes, missing_genes="fill")
        wanted = adata.var.reindex(genes)
        pd.testing.assert_frame_equal(loader.var[list(wanted)], wanted, check_names=False, check_categorical=False)

    def test_a_list_without_one_gene_of_the_data_is_refused(self) -> None:
        with pytest.raises(FieldError, match=r"no gene 'SYM1' .*\(2 of 2 unknown\); the var column 'symbol' has 2 of"):
            stream(named(), genes=["SYM1", "SYM3"], missing_genes="fill")
        assert stream(named(), genes=[], missing_genes="fill").n_vars == 0

    def test_positions_are_never_missing(self) -> None:
        with pytest.raises(ParameterError, match=r"missing_genes='fill' says how names .* genes are positions"):
            stream(named(), genes=[3, 4], missing_genes="fill")
        with pytest.raises(ParameterError, match=r"genes_from='feature_id' says how names .* genes has none"):
            stream(named(), genes_from="feature_id")

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ({"missing_genes": "drop"}, "missing_genes must be one of error, fill, got 'drop'"),
            ({"gene_versions": "ignore"}, "gene_versions must be one of keep, drop, got 'ignore'"),
        ],
    )
    def test_words_are_checked(self, how: dict[str, str], message: str) -> None:
        with pytest.raises(ParameterError, match=message):
            AnnDataset(named(), genes=["gene-1"], **how)
        with pytest.raises(ParameterTypeError, match="genes_from must be the name of a var column, got 3"):
            AnnDataset(named(), genes=["gene-1"], genes_from=3)  # type: ignore[arg-type] # as meant


class TestColumns:
    def test_have_the_names(self, both: tuple[Any, anndata.AnnData]) -> None:
        data, adata = both
        genes = [IDS[8], IDS[0], IDS[5]]
        same_columns(data, adata, adata.var["feature_id"], genes, genes_from="feature_id")
        same_columns(
            data, adata, adata.var["entrez"].astype(str), ["7001", "9"], genes_from="entrez", missing_genes="fill"
        )

    def test_of_var_are_called_by_what_was_asked_for(self, both: tuple[Any, anndata.AnnData]) -> None:
        data, adata = both
        genes = [IDS[8], "ENSG1", IDS[0]]
        var = stream(data, genes=genes, genes_from="feature_id", missing_genes="fill").var
        wanted = adata.var.set_index("feature_id", drop=False).reindex(genes)
        assert var.index.tolist() == genes
        assert var["gc"].equals(wanted["gc"])
        assert var["var_names"].tolist()[::2] == ["gene-8", "gene-0"]

    def test_may_have_values_missing_and_repeated_that_nobody_asks_for(self) -> None:
        adata = named()
        rows = next(iter(stream(adata, 29, shuffle=False, genes=["SYM9", "SYM3"], genes_from="symbol")))["X"]
        assert torch.equal(rows, torch.from_numpy(dense(adata.X)[:, [9, 3]]))
        with pytest.raises(ParameterError, match=r"gene 'TWICE' occurs more than once in 'symbol' of AnnData"):
            stream(adata, genes=["SYM9", "TWICE"], genes_from="symbol")
        with pytest.raises(FieldError, match="no gene 'None'"):
            stream(adata, genes=["None"], genes_from="symbol")

    @pytest.mark.parametrize(
        ("column", "message"),
        [
            ("feature", r"no var column 'feature' in AnnData.*; columns: feature_id, kind, symbol, entrez, gc"),
            ("gc", r"the var column 'gc' of AnnData.* holds floating values .*, but names of genes must be text"),
        ],
    )
    def test_that_name_no_genes_are_refused(self, column: str, message: str) -> None:
        with pytest.raises(FieldError, match=message):
            stream(named(), genes=["a"], genes_from=column)

    @pytest.mark.parametrize("raw", ["", "raw/"])
    def test_of_another_length_are_damage(self, tmp_path: Path, raw: str) -> None:
        path = write(named(), tmp_path / "cells.h5ad")
        with h5py.File(path, "r+") as file:
            anndata.io.write_elem(file[f"{raw}var"], "feature_id", np.array(IDS[:-1], object))
        with pytest.raises(DamageError, match=r"'feature_id' of .*cells.h5ad has \d+ values, but there are \d+ genes"):
            stream(path, fields=["raw/X" if raw else "X"], genes=[IDS[0]], genes_from="feature_id")

    def test_are_not_for_positions(self) -> None:
        with pytest.raises(ParameterError, match=r"genes_from='entrez' says .*, but genes are positions or a mask"):
            stream(named(), genes=[1], genes_from="entrez")


class TestVersions:
    def test_are_left_out_of_ensembl_ids_alone(self) -> None:
        """The form of stable ids is Ensembl's; clone-based names have dots of their own."""
        known = {"ENSG00000141510.18": "ENSG00000141510", "ENSMUSG00000059552.14": "ENSMUSG00000059552"}
        same = ["ENSG00000141510", "AC012345.1", "RP11-34P13.7", "ENSG00000182378.15_PAR_Y", "TP53", ""]
        assert {name: without_version(name) for name in known} == known
        assert [without_version(name) for name in same] == same

    @pytest.mark.parametrize("given", [IDS, bare(IDS), [f"{name}.99" for name in bare(IDS)]], ids=lambda ids: ids[0])
    def test_may_be_any_or_none(self, both: tuple[Any, anndata.AnnData], given: list[str]) -> None:
        data, adata = both
        known = dict(zip(IDS, given, strict=True))
        keys = adata.var["feature_id"].map(known)
        same_columns(data, adata, keys, [given[7], given[2]], genes_from="feature_id", gene_versions="drop")

    def test_count_unless_something_else_is_said(self) -> None:
        message = rf"no gene '{bare(IDS)[1]}' .*; 1 exist with another version, or without one: gene_versions="
        with pytest.raises(FieldError, match=message):
            stream(named(), genes=[bare(IDS)[1]], genes_from="feature_id")

    def test_that_leave_a_choice_are_refused(self) -> None:
        adata = named()
        adata.var_names = ["ENSG00000000001.1", "ENSG00000000001.2", *adata.var_names[2:]]
        with pytest.raises(ParameterError, match=r"gene 'ENSG00000000001' may be 'ENSG00000000001\.1' or '.*\.2' of"):
            stream(adata, genes=["ENSG00000000001"], gene_versions="drop")
        asked = ["ENSG00000000002.1", "ENSG00000000002.2", "gene-4"]
        with pytest.raises(ParameterError, match=r"genes name '.*2\.1' and '.*2\.2', which are the same gene without"):
            stream(adata, genes=asked, gene_versions="drop", missing_genes="fill")
        assert stream(adata, genes=["ENSG00000000001.1"]).var.index.tolist() == ["ENSG00000000001.1"]

    def test_a_list_with_a_missing_name_is_refused(self) -> None:
        with pytest.raises(ParameterTypeError, match="genes must not have missing values, but 1 of 2 are missing"):
            stream(named(), genes=pd.Series(["gene-1", None]), missing_genes="fill")

    def test_missing_genes_given_twice_are_named(self) -> None:
        with pytest.raises(ParameterError, match="genes name 'XIST' more than once"):
            stream(named(), genes=["XIST", "gene-1", "XIST"], missing_genes="fill")


class TestRaw:
    @pytest.mark.parametrize("fields", [["raw/X", "rows"], ["X", "rows", "raw/X"]], ids=str)
    def test_has_genes_of_its_own(self, both: tuple[Any, anndata.AnnData], fields: list[str]) -> None:
        data, adata = both
        genes = ["gene-8", "gene-13", "gene-2"]  # var has no 13
        loader = stream(data, 8, fields=fields, genes=genes, missing_genes="fill")
        raw = torch.from_numpy(reindexed(adata.raw.X, adata.raw.var_names, genes).astype(np.float32))
        x = torch.from_numpy(reindexed(adata.X, adata.var_names, genes).astype(np.float32))
        for batch in loader:
            assert list(batch) == [field.replace("/", "_") for field in fields]
            assert torch.equal(batch["raw_X"], raw[batch["rows"]])
            if "X" in batch:
                assert torch.equal(batch["X"], x[batch["rows"]])
        assert loader.found_genes.found == (3 if fields[0] == "raw/X" else 2)
        assert loader.n_vars == 3

    def test_is_looked_up_alone_where_it_is_read_alone(self) -> None:
        adata = named()
        ids = bare([adata.raw.var["feature_id"].iloc[0], IDS[3]])
        how = {"genes_from": "feature_id", "gene_versions": "drop"}
        reader = IndexSource(adata).sort_within_chunks(29).read_rows("raw/X", genes=ids, **how)
        np.testing.assert_array_equal(dense(next(iter(reader))["raw_X"]), dense(adata.raw.X)[:, [0, 11]])
        assert reader.var.index.tolist() == ids
        assert reader.var["var_names"].tolist() == ["gene-14", "gene-3"]

    def test_stays_whole_where_genes_are_positions(self) -> None:
        adata = named()
        batch = next(iter(IndexSource(adata).sort_within_chunks(29).read_rows(["X", "raw/X"], genes=[1])))
        assert (batch["X"].shape, batch["raw_X"].shape) == ((29, 1), (29, 15))
        with pytest.raises(ParameterError, match="positions or a mask along var, but raw/X has its own genes"):
            stream(adata, fields=["raw/X"], genes=[1])

    def test_that_lacks_a_gene_is_named(self) -> None:
        adata = named()
        adata.raw = adata[:, 1:].copy()
        with pytest.raises(FieldError, match=r"no gene 'gene-0' in raw of AnnData.* \(1 of 2 unknown\)"):
            stream(adata, fields=["X", "raw/X"], genes=["gene-0", "gene-2"])

    @pytest.mark.parametrize("together", [False, True])
    def test_that_was_replaced_is_refused(self, together: bool) -> None:
        adata = named()
        data = [adata, named()] if together else adata
        loader, whole = (stream(data, fields=["raw/X"], genes=genes) for genes in (["gene-0", "gene-2"], None))
        other = adata.raw.to_adata()
        adata.raw = other[:, ::-1].copy()
        with pytest.raises(ChangedError, match=r"had other raw.var_names when a source was made from it"):
            next(iter(loader))
        if not together:
            assert next(iter(whole))["raw_X"].shape == (29, 15)


class TestFoundGenes:
    def test_are_counted(self, both: tuple[Any, anndata.AnnData]) -> None:
        data, _ = both
        genes = [IDS[8], "ENSG1", IDS[0]]
        how: dict[str, Any] = {"genes": genes, "genes_from": "feature_id", "missing_genes": "fill"}
        for answers in (stream(data, **how), AnnDataset(data, **how)):
            found = answers.found_genes
            assert (found.asked, found.found, found.missing, found.by) == (3, 2, ("ENSG1",), "feature_id")
            assert [count for _, count in found.files] == [2] * len(found.files)
            assert str(found).startswith("2 of 3 genes found by feature_id\n\nmissing   ENSG1")
            assert '<td style="text-align:left">2 of 3 genes found by feature_id</td>' in answers._repr_html_()
            assert found.to_dict()["missing"] == ["ENSG1"]

    def test_are_all_where_none_are_chosen(self) -> None:
        found = stream(named()).found_genes
        assert (found.asked, found.found, found.missing, found.by) == (11, 11, (), "var_names")
        assert "genes found" not in stream(named())._repr_html_()

    def test_a_reader_with_a_list_pickles_and_has_a_repr(self) -> None:
        chunks = IndexSource(named()).sort_within_chunks(29)
        reader = chunks.read_rows(genes=["XIST", "gene-2"], missing_genes="fill")
        assert reader.code == ".read_rows(genes=['XIST', 'gene-2'], missing_genes='fill')"
        many = chunks.read_rows(genes=[f"gene-{i}" for i in range(300)], missing_genes="fill")
        assert many.code == ".read_rows(genes=<300 genes>, missing_genes='fill')"
        again = pickle.loads(pickle.dumps(reader))
        np.testing.assert_array_equal(dense(next(iter(again))["X"]), dense(next(iter(reader))["X"]))
