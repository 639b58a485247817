"""The files behind a collection: what some lack, which one a row comes from, and damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
from builders import dense, tiny, write
from contracts import chunk_of
from small_collections import N_ROWS, compare, concatenated, pieces, spoil, written

from annpipes import Collection, IndexSource, Loader, stream
from annpipes.errors import DamageError, FieldError, FormatError, ParameterError, RowIndexError, SourceError
from annpipes.stores import open_store

N = sum(N_ROWS)
SOMETIMES = ["layers/counts", "obs/donor", "obs/n_genes", "obs/quality", "obsm/X_pca"]
"""What the file in the middle lacks."""


def lacking() -> list[anndata.AnnData]:
    adatas = pieces()
    del adatas[1].layers["counts"], adatas[1].obsm["X_pca"], adatas[1].obs["donor"]
    del adatas[1].obs["n_genes"], adatas[1].obs["quality"]
    return adatas


class TestMissing:
    @pytest.fixture(params=["memory", "files"])
    def data(self, request: pytest.FixtureRequest, tmp_path: Path) -> list[Any]:
        return lacking() if request.param == "memory" else list(written(lacking(), tmp_path))

    @pytest.mark.parametrize("field", [*SOMETIMES, "obs/donor:code"])
    def test_asking_for_it_is_an_error_that_names_the_file_and_the_remedy(self, data: list[Any], field: str) -> None:
        name = "1.h5ad" if isinstance(data[0], Path) else r"AnnData\(7 × 4\)"
        with pytest.raises(
            FieldError,
            match=rf"no field '{field.removesuffix(':code')}' in {name} \(1 of 3 files\); .*missing='fill'.*'skip'",
        ):
            IndexSource(data).sort_within_chunks(4).read_rows([field])
        assert field not in Collection(data).fields
        Collection(data).check(["X", "obs/batch"])

    def test_filled_fields_are_those_of_anndata_concat(self, data: list[Any]) -> None:
        store, expected = Collection(data, join="outer", missing="fill"), concatenated(lacking(), "outer")
        assert set(SOMETIMES) <= set(store.fields)
        fields = [field for field in SOMETIMES if not field.startswith("obsm")]
        for drawn in (range(N), [6, 15, 0, 6], [5], []):
            compare(store, expected, drawn, fields)

    def test_a_filled_layer_has_the_fill_value(self, data: list[Any]) -> None:
        store = Collection(data, join="outer", missing="fill", fill_value=3)
        rows = dense(store.read(chunk_of([6, 0]), ["layers/counts"])["layers_counts"])
        assert rows[0].tolist() == [3.0] * store.n_vars
        some = dense(store.read(chunk_of([6, 0]), ["layers/counts"], store.genes([4, 2]))["layers_counts"])
        np.testing.assert_array_equal(some, rows[:, [4, 2]])

    def test_a_filled_table_is_nan_and_a_filled_label_has_code_minus_one(self, data: list[Any]) -> None:
        read = Collection(data, missing="fill").read(chunk_of([12, 6, 0]), ["obsm/X_pca", "obs/donor:code"])
        assert np.isnan(read["obsm_X_pca"]).all(1).tolist() == [False, True, False]
        assert (read["obs_donor"] < 0).tolist() == [False, True, False]

    def test_skipped_fields_are_left_out_of_every_batch(self, data: list[Any]) -> None:
        fields = ["X", "obs/donor:code", "layers/counts", "rows"]
        loader = stream(Collection(data, missing="skip"), 4, fields=fields)
        assert all(list(batch) == ["X", "rows"] for batch in loader)
        assert len(list(loader)) == 4

    def test_skipped_fields_take_no_memory(self, data: list[Any]) -> None:
        store = Collection(data, missing="skip")
        assert store.row_bytes(["X", "obs/donor"]) == store.row_bytes(["X"])
        assert len(list(stream(store, 4, fields=["X", "obs/donor"], memory="1MB"))) == 4

    def test_a_table_given_for_a_skipped_field_is_not_needed(self, data: list[Any]) -> None:
        store = Collection(data, missing="skip")
        loader = stream(store, 4, fields=["X", "obs/donor:code"], categories={"donor": ["d0", "d1", "d2", "d3"]})
        assert list(next(iter(loader))) == ["X"]

    @pytest.mark.parametrize("missing", ["fill", "skip"])
    def test_what_no_file_has_is_an_error_all_the_same(self, data: list[Any], missing: Any) -> None:
        with pytest.raises(FieldError, match="no obs column 'celltype' in 3 files; columns: "):
            Collection(data, missing=missing).check(["obs/celltype"])


class TestPlaces:
    @pytest.fixture
    def source(self, tmp_path: Path) -> IndexSource:
        adatas = [tiny(3), tiny(0), tiny(4), tiny(1)]
        for number, adata in enumerate(adatas):
            adata.obs_names = [f"{number}-{name}" for name in adata.obs_names]
            adata.obs["site"] = [f"s{number % 3}"] * adata.n_obs
        return IndexSource([write(adata, tmp_path / f"{number}.h5ad") for number, adata in enumerate(adatas)])

    def test_the_field_file_is_the_number_of_each_rows_file(self, source: IndexSource) -> None:
        batch = next(iter(source.sort_within_chunks(8).read_rows(["file", "rows"])))
        assert batch["file"].tolist() == [0, 0, 0, 2, 2, 2, 2, 3]
        assert batch["file"].dtype == np.int64
        assert source.store.read(chunk_of([7, 0, 3, 7]), ["file"])["file"].tolist() == [3, 0, 2, 3]
        assert [Path(file).name for file in source.files] == ["0.h5ad", "1.h5ad", "2.h5ad", "3.h5ad"]

    def test_a_row_is_found_in_its_file_and_back(self, source: IndexSource) -> None:
        files, places = source.locate(range(8))
        assert list(zip(files.tolist(), places.tolist(), strict=True)) == [
            *((0, place) for place in range(3)),
            *((2, place) for place in range(4)),
            (3, 0),
        ]
        assert [source.row_of(*pair) for pair in zip(files.tolist(), places.tolist(), strict=True)] == list(range(8))
        assert [part.tolist() for part in source.locate([])] == [[], []]

    @pytest.mark.parametrize(
        ("file", "row", "message"),
        [
            (4, 0, r"file must lie in 0 … 3, got 4"),
            (-1, 0, r"file must lie in 0 … 3, got -1"),
            (0, 3, r"row of .*0\.h5ad must lie in 0 … 2 \(3 rows\), got 3"),
            (1, 0, r"row of .*1\.h5ad must lie in .*\(0 rows\), got 0"),
        ],
    )
    def test_a_place_that_is_none_is_named(self, source: IndexSource, file: int, row: int, message: str) -> None:
        with pytest.raises((ParameterError, RowIndexError), match=message):
            source.row_of(file, row)

    def test_a_row_beyond_the_last_is_named(self, source: IndexSource) -> None:
        with pytest.raises(RowIndexError, match=r"rows must lie in 0 … 7 \(8 rows\), got 8"):
            source.locate([8])

    @pytest.mark.filterwarnings("ignore:.*no row of .* has 's1'")
    @pytest.mark.parametrize(
        ("rows", "chosen"),
        [
            ("site == 's0'", [0, 1, 2, 7]),
            ("number > 1 and site != 's1'", [2, 5, 6]),
            ("site in ['s2']", [3, 4, 5, 6]),
            (["3-c0", "0-c2", "2-c1"], [7, 2, 4]),
            (np.arange(8) % 3 == 0, [0, 3, 6]),
            ([6, 0, 6], [6, 0, 6]),
        ],
        ids=str,
    )
    def test_rows_are_chosen_over_all_files(self, source: IndexSource, rows: Any, chosen: list[int]) -> None:
        blocks = list(IndexSource(source.store, rows=rows, block_size=64))
        assert [int(row) for block in blocks for row in block] == chosen

    @pytest.mark.parametrize(
        ("rows", "error", "message"),
        [
            ("sit == 's0'", ParameterError, r"mentions no obs column of 4 files; columns: number, site"),
            ("site == 's0' and n > 3", ParameterError, r"cannot be evaluated: .*columns of 4 files: number, site"),
            (["2-c1", "1-c0"], FieldError, r"no obs name '1-c0' in 4 files \(1 of 2 names unknown\)"),
            ([8], RowIndexError, r"rows must lie in 0 … 7 \(8 rows\), got 8"),
        ],
    )
    def test_wrong_rows_are_named(self, source: IndexSource, rows: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            IndexSource(source.store, rows=rows)

    def test_names_that_several_files_have_cannot_choose_rows(self) -> None:
        with pytest.raises(ParameterError, match=r"obs names of 2 files are not unique \('c0' occurs twice\)"):
            IndexSource([tiny(2), tiny(2)], rows=["c1"])


class TestDamage:
    @pytest.fixture(params=["csr float32", "dense float32"])
    def paths(self, request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
        return written(pieces(*[request.param] * 3), tmp_path, ["gzip"] * 3)

    def test_bytes_that_do_not_decode_name_the_file(self, paths: list[Path]) -> None:
        with h5py.File(paths[1]) as file:
            name = "X" if isinstance(file["X"], h5py.Dataset) else "X/data"
        spoil(paths[1], name)
        store = Collection(paths, join="outer")
        compare(store, concatenated(pieces(), "outer"), [0, 4, 12, 15], ["X"])  # the other files stay readable
        with pytest.raises(DamageError, match=rf"{name} of {paths[1]}, rows 0 … "):
            store.read(chunk_of([0, 6, 15]), ["X"])

    def test_it_is_named_out_of_a_loader(self, paths: list[Path]) -> None:
        with h5py.File(paths[1]) as file:
            name = "X" if isinstance(file["X"], h5py.Dataset) else "X/data"
        spoil(paths[1], name)
        loader: Loader = stream(paths, 4, num_workers=2)
        with pytest.raises(DamageError, match=str(paths[1])):
            list(loader)

    def test_a_file_written_anew_is_named(self, paths: list[Path]) -> None:
        store = open_store(paths)
        write(tiny(7), paths[1])
        with pytest.raises(DamageError, match=rf"{paths[1]} changed since it was first opened"):
            store.read(chunk_of([6]), ["X"])

    def test_a_file_that_is_gone_is_named(self, paths: list[Path]) -> None:
        store = open_store(paths)
        paths[2].unlink()
        with pytest.raises(SourceError, match=rf"'{paths[2]}' has been removed"):
            store.read(chunk_of([15]), ["X"])

    def test_what_is_no_anndata_file_is_named(self, paths: list[Path]) -> None:
        paths[1].write_text("cell,gene\n")
        with pytest.raises(FormatError, match=rf"'{paths[1]}' is not an HDF5 file"):
            open_store(paths)
