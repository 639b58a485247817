"""raw/X of files whose raw has other genes in each; the oracles are anndata.concat of all raw, and pandas."""

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
from builders import dense
from contracts import chunk_of
from gene_contract import reindexed
from hypothesis import given
from hypothesis import strategies as st
from raw_collections import IDS, RAW_GENES, ROWS, SOURCES, both, compare_both, raws, source_of, with_raw
from small_collections import N_ROWS, concatenated, written

from annpipes import AnnDataset, Collection, IndexSource, stream
from annpipes.errors import FieldError, StateError

N = sum(N_ROWS)
LISTED = ["CD14", "LYZ", "PPBP", "NKG7"]
KINDS = ["csr float32", "dense float32", "csr int32", "dense float32, csr float64, csr float32", "csr_array int64"]


class TestGenesOfRaw:
    @pytest.fixture(params=SOURCES)
    def data(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, list[anndata.AnnData]]]:
        yield from source_of(request.param, with_raw(), tmp_path)

    @pytest.mark.parametrize("join", ["inner", "outer", LISTED], ids=str)
    def test_are_joined_apart_from_those_of_var(self, data: tuple[Any, list[anndata.AnnData]], join: Any) -> None:
        given, adatas = data
        expected = both(adatas, join)
        store = Collection(given, join=join)
        compare_both(pickle.loads(pickle.dumps(store)), expected)  # which has not looked at raw yet
        compare_both(store, expected)
        compare_both(pickle.loads(pickle.dumps(store)), expected)
        source = IndexSource(store)
        assert source.var.index.tolist() == expected["X"].var_names.tolist()
        assert source.raw_var.index.tolist() == expected["raw_X"].var_names.tolist()
        assert source.raw_var["id"].tolist() == [IDS[name] for name in source.raw_var.index]

    @pytest.mark.parametrize("join", ["inner", "outer", LISTED], ids=str)
    @pytest.mark.parametrize("int64", [False, True])
    @pytest.mark.parametrize("kind", KINDS)
    def test_are_joined_in_any_kind_of_matrix(self, tmp_path: Path, kind: str, int64: bool, join: Any) -> None:
        adatas = with_raw(kind, int64=int64)
        for data in (adatas, written(adatas, tmp_path, ("gzip", None, "lzf"))):
            for max_open_files in (16, 1):
                compare_both(Collection(data, join=join, max_open_files=max_open_files), both(adatas, join))

    def test_are_chosen_by_name_and_filled_where_no_file_has_them(
        self, data: tuple[Any, list[anndata.AnnData]]
    ) -> None:
        given, adatas = data
        genes, whole = ["IL7R", "LYZ", "XIST", "CST3"], both(adatas, "outer")  # in X there is only LYZ
        loader = stream(
            Collection(given, join="outer"), 5, fields=["raw/X", "X", "rows"], genes=genes, missing_genes="fill"
        )
        wanted = {
            key: torch.from_numpy(reindexed(one.X, one.var_names, genes).astype(np.float32))
            for key, one in whole.items()
        }
        for batch in loader:
            for key, values in wanted.items():
                assert torch.equal(batch[key], values[batch["rows"]]), key
        found = loader.found_genes
        assert found.missing == ("IL7R", "XIST", "CST3")
        assert found.raw is not None
        assert found.raw.missing == ("XIST",)
        has = [set(adata.raw.var_names) & set(genes) for adata in adatas]
        assert [count for _, count in found.raw.files] == list(map(len, has)) == [2, 1, 3]
        assert found.line == "1 of 4 genes found by var_names; in raw 3 of 4"
        assert "\nraw lacks XIST\n" in str(found)
        assert loader.raw_var["id"].tolist()[:2] == [IDS["IL7R"], IDS["LYZ"]]

    def test_are_looked_up_alone_where_raw_is_read_alone(self, data: tuple[Any, list[anndata.AnnData]]) -> None:
        given, adatas = data
        genes = ["IL7R", "CST3"]
        reader = IndexSource(Collection(given, join="outer")).sort_within_chunks(N).read_rows("raw/X", genes=genes)
        whole = concatenated(raws(adatas), "outer")
        np.testing.assert_array_equal(dense(next(iter(reader))["raw_X"]), dense(whole[:, genes].X))
        assert reader.found_genes.found == 2
        assert reader.found_genes.raw is None
        assert [count for _, count in reader.found_genes.files] == [1, 0, 2]

    def test_are_recognised_by_a_column_of_their_own_table(self, data: tuple[Any, list[anndata.AnnData]]) -> None:
        given, adatas = data
        for join in ("inner", "outer", [IDS["CST3"], IDS["LYZ"]]):
            missing: Any = "error" if isinstance(join, str) else "fill"  # var has no CST3
            store = Collection(given, join=join, on="id", missing_genes=missing)
            expected = concatenated(raws(adatas, "id"), join)
            read = store.read(chunk_of(ROWS), ["raw/X"])["raw_X"]
            np.testing.assert_array_equal(dense(read), dense(expected.X)[ROWS])
            assert IndexSource(store).raw_var.index.tolist() == expected.var_names.tolist()


class TestWhatIsRead:
    """What ``var`` and ``n_vars`` are about: the columns of X, or those of raw/X where no other field has genes."""

    def test_is_named_by_raw_var_where_raw_is_read_alone(self) -> None:
        adatas = with_raw()
        wanted = concatenated(raws(adatas), "inner").var_names.tolist()
        for data in (adatas, adatas[:1]):
            names = wanted if len(data) > 1 else RAW_GENES[0]
            loader = stream(data, 4, fields=["raw/X"])
            assert loader.var.index.tolist() == loader.raw_var.index.tolist() == names
            assert loader.n_vars == loader.found_genes.asked == next(iter(loader))["raw_X"].shape[1] == len(names)

    def test_is_named_by_var_where_x_is_read_too(self) -> None:
        loader = stream(with_raw(), 4, fields=["raw/X", "X"])
        batch = next(iter(loader))
        assert (batch["X"].shape[1], batch["raw_X"].shape[1]) == (loader.n_vars, len(loader.raw_var)) == (3, 3)
        assert loader.var.index.tolist() == ["CD3E", "LYZ", "GNLY"]
        assert loader.raw_var.index.tolist() == ["LYZ", "CD3E", "GNLY"]  # the first file's order, in raw

    def test_stays_whole_in_raw_where_genes_are_positions(self) -> None:
        batch = next(iter(stream(Collection(with_raw(), join="outer"), 4, fields=["X", "raw/X"], genes=[1, 0])))
        assert (batch["X"].shape[1], batch["raw_X"].shape[1]) == (2, len({*RAW_GENES[0], *RAW_GENES[1], *RAW_GENES[2]}))

    def test_is_the_same_for_a_dataset(self) -> None:
        dataset = AnnDataset(with_raw(), fields=["raw/X"], genes=["GNLY", "LYZ"])
        assert dataset.var.index.tolist() == ["GNLY", "LYZ"]
        assert dataset.found_genes.found == 2


class TestFilling:
    @pytest.mark.parametrize("fill_value", [0.0, 2.5, np.nan])
    @pytest.mark.parametrize("kind", ["csr float32", "dense float32", "csr int32"])
    def test_a_gene_that_raw_of_a_file_lacks_gets_the_same_value_as_in_x(self, kind: str, fill_value: float) -> None:
        adatas = with_raw(kind)
        compare_both(Collection(adatas, join="outer", fill_value=fill_value), both(adatas, "outer", fill_value))
        genes = ["LYZ", "CST3", "XIST"]
        store = Collection(adatas, join=genes, missing_genes="fill", fill_value=fill_value)
        whole = both(adatas, "outer", fill_value)["raw_X"]
        wanted = pd.DataFrame(dense(whole.X), columns=whole.var_names).reindex(columns=genes, fill_value=fill_value)
        read = store.read(chunk_of(ROWS), ["raw/X"])["raw_X"]
        np.testing.assert_array_equal(dense(read), wanted.to_numpy()[ROWS])
        found = store.found_genes(None, raw=True)
        assert (found.missing, [count for _, count in found.files]) == (("XIST",), [1, 1, 2])

    @pytest.mark.parametrize("kind", ["csr float32", "dense float32"])
    def test_a_file_without_raw_is_named_filled_or_skipped(self, tmp_path: Path, kind: str) -> None:
        adatas = with_raw(kind)
        adatas[1].raw = None
        paths = written(adatas, tmp_path)
        with pytest.raises(FieldError, match=r"no field 'raw/X' in 1\.h5ad \(1 of 3 files\); Collection"):
            Collection(paths).check(["raw/X"])
        with pytest.raises(FieldError, match=r"no field 'raw/X' in 1\.h5ad"):
            _ = IndexSource(paths).raw_var
        for join in ("inner", "outer"):
            store = Collection(paths, join=join, missing="fill", fill_value=3)
            whole = concatenated(raws([adatas[0], adatas[2]]), join, 3)
            wanted = np.full((N, whole.n_vars), 3.0)
            wanted[[*range(5), *range(12, 16)]] = dense(whole.X)
            np.testing.assert_array_equal(dense(store.read(chunk_of(ROWS), ["raw/X"])["raw_X"]), wanted[ROWS])
            assert [count > 0 for _, count in store.found_genes(None, raw=True).files] == [True, False, True]
        assert list(next(iter(stream(Collection(paths, missing="skip"), fields=["X", "raw/X"])))) == ["X"]


def test_states_know_the_genes_of_raw() -> None:
    adatas = with_raw()
    for adata in adatas:  # X is the same in all, so only raw tells the joins apart
        adata.var_names = [f"g{i}" for i in range(adata.n_vars)]
    adatas = [adata[:, :4].copy() for adata in adatas]
    saved = stream(Collection(adatas), 4, fields=["X", "raw/X"]).state_dict()
    stream(Collection(adatas), 4, fields=["X", "raw/X"]).load_state_dict(saved)
    with pytest.raises(StateError, match="raw_genes was '3, crc"):
        stream(Collection(adatas, join="outer"), 4, fields=["X", "raw/X"]).load_state_dict(saved)
    alone = stream(Collection(adatas), 4).state_dict()
    stream(Collection(adatas, join="outer"), 4).load_state_dict(alone)


def test_versions_of_ids_may_differ_in_raw_too() -> None:
    adatas = with_raw()
    for number, adata in enumerate(adatas):
        raw = adata.raw.to_adata()
        raw.var["id"] = [f"{name}.{number + 1}" for name in raw.var["id"]]
        adata.raw = raw
    store = Collection(adatas, on="id", gene_versions="drop", join="outer")
    expected = concatenated(raws(with_raw(), "id"), "outer")
    np.testing.assert_array_equal(dense(store.read(chunk_of(ROWS), ["raw/X"])["raw_X"]), dense(expected.X)[ROWS])
    genes = [f"{IDS['CST3']}.9", IDS["LYZ"]]
    loader = stream(store, N, fields=["raw/X"], genes=genes, gene_versions="drop", shuffle=False)
    wanted = dense(expected[:, [IDS["CST3"], IDS["LYZ"]]].X).astype(np.float32)
    np.testing.assert_array_equal(next(iter(loader))["raw_X"], wanted)


@given(
    genes=st.lists(st.sampled_from([*IDS, "XIST"]), unique=True),
    forms=st.lists(st.sampled_from(["csr float32", "dense float32", "csr int32"]), min_size=3, max_size=3),
    rows=st.lists(st.integers(0, N - 1), max_size=6),
)
def test_any_genes_of_any_raw(genes: list[str], forms: list[str], rows: list[int]) -> None:
    adatas = with_raw(", ".join(forms))
    if genes == ["XIST"]:
        return  # refused: see above
    known = [*adatas[0].var_names, *genes]  # the list must have a gene of var, too
    listed = Collection(adatas, join=list(dict.fromkeys(known)), missing_genes="fill")
    whole = concatenated(raws(adatas), "outer")
    expected = reindexed(whole.X, whole.var_names, list(dict.fromkeys(known)))[rows]
    np.testing.assert_array_equal(dense(listed.read(chunk_of(rows), ["raw/X"])["raw_X"]), expected)


def test_files_of_old_anndata_are_joined_with_new_ones(tmp_path: Path) -> None:
    """Before anndata 0.7, raw.X and raw.var stood at the top of the file."""
    adatas = with_raw()
    paths = written(adatas, tmp_path)
    with h5py.File(paths[0], "r+") as file:
        file.move("raw/X", "raw.X")
        file.move("raw/var", "raw.var")
        del file["raw"]
    np.testing.assert_array_equal(
        dense(Collection(paths, join="outer").read(chunk_of(ROWS), ["raw/X"])["raw_X"]),
        dense(both(adatas, "outer")["raw_X"].X)[ROWS],
    )
