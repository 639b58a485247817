"""Files that contradict themselves or change: an error that names file, field and rows, never wrong numbers."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
from builders import adata_of, dense, tiny, write
from contracts import chunk_of

from annpipes.errors import AnnpipesError, DamageError, SourceError
from annpipes.stores import open_store


def edit(path: Path, change: Callable[[h5py.File], None]) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def replace(file: h5py.File, name: str, values: Any, **how: Any) -> None:
    attributes = dict(file[name].attrs)
    del file[name]
    file.create_dataset(name, data=values, **how).attrs.update(attributes)


def spoil(path: Path, name: str, number: int) -> None:
    """Overwrite the bytes of one storage chunk."""
    with h5py.File(path) as file:
        stored = file[name].id.get_chunk_info(number)
    with path.open("r+b") as file:
        file.seek(stored.byte_offset)
        file.write(b"\xa5" * stored.size)


class TestSparse:
    @pytest.mark.parametrize(
        ("part", "values", "message"),
        [
            ("indptr", np.arange(12), r"X/indptr of .*cells.h5ad has 12 entries, but 29 rows"),
            ("indptr", np.zeros(30, int), r"X/indptr of .*cells.h5ad runs from 0 to 0"),
            ("indptr", np.array([0, 9, 3, *[200] * 27]), r"X/indptr of .*cells.h5ad decreases after row 1"),
            ("indptr", np.array([1, *[200] * 29]), r"X/indptr of .*cells.h5ad runs from 1 to 200"),
            ("indptr", np.array([-5, *[200] * 29]), r"X/indptr of .*cells.h5ad runs from -5 to 200"),
            ("data", np.ones(7, "f4"), r"X/indptr of .*cells.h5ad runs .* there are 7 values"),
            ("indices", np.ones(7, "i4"), r"X/indptr of .*cells.h5ad runs .* 7 columns"),
        ],
    )
    def test_parts_that_do_not_fit_are_told_before_reading(
        self, tmp_path: Path, part: str, values: np.ndarray, message: str
    ) -> None:
        path = edit(write(adata_of(), tmp_path / "cells.h5ad"), lambda file: replace(file, f"X/{part}", values))
        with pytest.raises(DamageError, match=message):
            open_store(path).check(["X"])

    @pytest.mark.parametrize("part", ["data", "indices", "indptr"])
    def test_a_part_that_is_gone_is_named(self, tmp_path: Path, part: str) -> None:
        path = edit(write(adata_of(), tmp_path / "cells.h5ad"), lambda file: file.pop(f"X/{part}"))
        with pytest.raises(DamageError, match=rf"X/{part}.*cells\.h5ad"):
            open_store(path).check(["X"])

    @pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
    @pytest.mark.parametrize("column", [-1, 11, 2**31 - 1, -(2**31)])
    def test_a_column_outside_names_the_row(self, tmp_path: Path, compression: str | None, column: int) -> None:
        adata = adata_of()
        path = write(adata, tmp_path / "cells.h5ad", compression)
        row = 9

        def change(file: h5py.File) -> None:
            file["X/indices"][adata.X.indptr[row]] = column

        edit(path, change)
        store = open_store(path)
        assert store.read(chunk_of([1, 2]), ["X"])["X"].shape == (2, 11)
        with pytest.raises(DamageError, match=r"X/indices of .*cells\.h5ad, rows (\d+) … (\d+): .*column") as damage:
            store.read(chunk_of([12, 9, 2]), ["X"])
        first, last = map(int, str(damage.value).split("rows ")[1].split(":")[0].split(" … "))
        assert first <= row <= last

    @pytest.mark.parametrize("part", ["data", "indices"])
    @pytest.mark.parametrize("compression", ["gzip", "lzf"])
    def test_bytes_that_do_not_decode_name_the_rows(self, tmp_path: Path, part: str, compression: str) -> None:
        adata = adata_of()
        path = write(adata, tmp_path / "cells.h5ad")

        def change(file: h5py.File) -> None:
            replace(file, f"X/{part}", file[f"X/{part}"][...], chunks=(16,), compression=compression)

        edit(path, change)
        spoil(path, f"X/{part}", 3)
        store, spoiled = open_store(path), set(np.searchsorted(adata.X.indptr, range(48, 64), side="right") - 1)
        intact = [row for row in range(29) if row not in spoiled]
        rows = store.read(chunk_of(intact), ["X"])["X"]
        np.testing.assert_array_equal(dense(rows), dense(adata.X)[intact])
        with pytest.raises(DamageError, match=rf"X/{part} of .*cells\.h5ad, rows \d+ … \d+: ") as damage:
            store.read(chunk_of(range(29)), ["X"])
        first, last = map(int, str(damage.value).split("rows ")[1].split(":")[0].split(" … "))
        assert spoiled & set(range(first, last + 1))


class TestDense:
    def test_bytes_that_do_not_decode_name_the_rows(self, tmp_path: Path) -> None:
        path = write(adata_of(x="dense"), tmp_path / "cells.h5ad")
        edit(path, lambda file: replace(file, "X", file["X"][...], chunks=(4, 11), compression="gzip"))
        spoil(path, "X", 3)
        store = open_store(path)
        assert store.read(chunk_of([11, 16]), ["X"])["X"].shape == (2, 11)
        with pytest.raises(DamageError, match=r"X of .*cells\.h5ad, rows \d+ … \d+: "):
            store.read(chunk_of([13]), ["X"])

    def test_a_wrong_checksum_is_seen(self, tmp_path: Path) -> None:
        path = write(adata_of(x="dense"), tmp_path / "cells.h5ad")
        edit(path, lambda file: replace(file, "X", file["X"][...], chunks=(4, 11), fletcher32=True))
        spoil(path, "X", 0)
        with pytest.raises(DamageError, match=r"X of .*cells\.h5ad, rows \d+ … \d+: "):
            open_store(path).read(chunk_of([0]), ["X"])


class TestDisagreement:
    @pytest.mark.parametrize("x", ["dense", "csr"])
    @pytest.mark.parametrize("field", ["X", "layers/counts", "layers/logged", "obsm/X_pca", "obsm/near"])
    @pytest.mark.parametrize("n_obs", [20, 35])
    def test_a_matrix_with_other_rows_than_obs_is_refused(self, tmp_path: Path, x: str, field: str, n_obs: int) -> None:
        path, other = write(adata_of(x=x), tmp_path / "a.h5ad"), write(adata_of(n_obs, x=x), tmp_path / "b.h5ad")

        def change(file: h5py.File) -> None:
            del file[field]
            with h5py.File(other) as source:
                source.copy(field, file, field)

        edit(path, change)
        with pytest.raises(AnnpipesError, match=f"{field}.*{n_obs}"):
            open_store(path).check([field])

    @pytest.mark.parametrize("x", ["dense", "csr"])
    @pytest.mark.parametrize("n_vars", [7, 20])
    def test_an_x_with_other_genes_than_var_is_refused(self, tmp_path: Path, x: str, n_vars: int) -> None:
        path = write(adata_of(x=x), tmp_path / "a.h5ad")
        other = write(adata_of(n_vars=n_vars, x=x), tmp_path / "b.h5ad")

        def change(file: h5py.File) -> None:
            del file["X"]
            with h5py.File(other) as source:
                source.copy("X", file, "X")

        edit(path, change)
        with pytest.raises(AnnpipesError, match=rf"X.*{n_vars}"):
            open_store(path).check(["X"])

    @pytest.mark.parametrize("column", ["int32", "barcode", "donor/codes", "nullable_int/values"])
    @pytest.mark.parametrize("length", [20, 35])
    def test_an_obs_column_of_another_length_is_refused(self, tmp_path: Path, column: str, length: int) -> None:
        def change(file: h5py.File) -> None:
            place = f"obs/{column}"
            if isinstance(file[place], h5py.Group):  # strings, since anndata 0.13 with pandas 3
                place += "/values"
            replace(file, place, np.resize(file[place][...], length))

        path = edit(write(adata_of(), tmp_path / "cells.h5ad"), change)
        with pytest.raises(AnnpipesError, match=column.split("/")[0]):
            open_store(path).read(chunk_of([28]), [f"obs/{column.split('/')[0]}"])

    def test_a_code_without_a_category_is_refused(self, tmp_path: Path) -> None:
        def change(file: h5py.File) -> None:
            file["obs/donor/codes"][7] = 99

        path = edit(write(adata_of(), tmp_path / "cells.h5ad"), change)
        with pytest.raises(AnnpipesError, match="obs/donor"):
            open_store(path).read(chunk_of([7]), ["obs/donor"])


class TestChange:
    def test_a_file_that_changed_since_it_was_opened_is_refused(self, tmp_path: Path) -> None:
        path = write(tiny(9), tmp_path / "cells.h5ad")
        store = open_store(path)
        store.check(["X"])
        elsewhere = pickle.dumps(store)
        write(tiny(7), path)
        with pytest.raises(DamageError, match=r"cells\.h5ad changed since it was first opened"):
            pickle.loads(elsewhere).read(chunk_of([3]), ["X"])

    def test_a_file_that_is_gone_is_named(self, tmp_path: Path) -> None:
        path = write(tiny(9), tmp_path / "cells.h5ad")
        elsewhere = pickle.dumps(open_store(path))
        path.unlink()
        with pytest.raises((SourceError, DamageError), match=r"cells\.h5ad"):
            pickle.loads(elsewhere).read(chunk_of([3]), ["X"])

    def test_a_file_is_not_kept_from_being_written_anew(self, tmp_path: Path) -> None:
        path = write(tiny(9), tmp_path / "cells.h5ad", "gzip")
        store = open_store(path)
        store.read(chunk_of([3]), ["X", "obs/number"])
        write(tiny(7), path, "gzip")
        assert dense(open_store(path).read(chunk_of([6]), ["X"])["X"]).tolist() == [[600, 601, 602]]

    def test_reading_leaves_the_file_as_it_was(self, tmp_path: Path) -> None:
        path = write(adata_of(), tmp_path / "cells.h5ad")
        before = path.read_bytes(), path.stat().st_mtime_ns
        store = open_store(path)
        store.read(chunk_of(range(29)), store.fields)
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before

    def test_a_file_that_cannot_be_written_is_enough(self, tmp_path: Path) -> None:
        path = write(tiny(9), tmp_path / "cells.h5ad")
        path.chmod(0o400)
        assert dense(open_store(path).read(chunk_of([2]), ["X"])["X"]).tolist() == [[200, 201, 202]]


def test_an_error_out_of_a_backed_object_names_its_file(tmp_path: Path) -> None:
    adata = adata_of()
    path = write(adata, tmp_path / "cells.h5ad")

    def change(file: h5py.File) -> None:
        file["X/indices"][:] = 99

    backed = anndata.read_h5ad(edit(path, change), backed="r")
    with pytest.raises(DamageError, match=r"X/indices of .*cells\.h5ad"):
        open_store(backed).read(chunk_of([1]), ["X"])
    backed.file.close()
