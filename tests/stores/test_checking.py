"""Each kind of planted damage is found, with its rows, and nothing is found in what is intact."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import anndata
import h5py
import hdf5plugin
import numpy as np
import pandas as pd
import pytest
from builders import N_OBS, adata_of, tiny, write
from damaged_files import (
    GZIP,
    places,
    put,
    stretched,  # noqa: F401 (a fixture)
)
from scipy import sparse
from storage_files import (
    compact,
    create,
    csr_file,
    csr_of,
    dense_file,
    in_h5py_alone,
    places_of,
    relayout,
    with_plain_names,
)
from storage_files import write as write_x

from annpipes.errors import FormatError, ParameterTypeError, SourceError
from annpipes.tools.inspecting import CheckReport, check


def flip(path: Path, field: str, number: int) -> None:
    """Flip a bit in the middle of a storage chunk."""
    offset, size = places_of(path, field)[number]
    content = bytearray(path.read_bytes())
    content[offset + size // 2] ^= 0x10
    path.write_bytes(content)


class TestIntact:
    @pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
    @pytest.mark.parametrize("x", ["csr", "dense", "csc"])
    def test_files_of_all_kinds_of_fields_are_healthy(self, tmp_path: Path, x: str, compression: str | None) -> None:
        report = check(write(adata_of(x=x), tmp_path / "cells.h5ad", compression))
        assert report.healthy
        assert not report.damage

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"chunks": 16},
            GZIP,
            {"shuffle": True, **GZIP},
            {"fletcher32": True, **GZIP},
            {"chunks": 16, "compression": "lzf"},
            {"chunks": 16, **hdf5plugin.LZ4()},
            {"chunks": 16, **hdf5plugin.Blosc()},
            {"chunks": 16, **hdf5plugin.Bitshuffle()},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("make", [csr_file, dense_file])
    def test_storage_of_all_kinds_is_healthy(self, tmp_path: Path, make: Any, options: dict[str, Any]) -> None:
        report = check(make(tmp_path / "cells.h5ad", **options))
        assert (report.healthy, report.damage, report.remarks) == (True, (), ())

    @pytest.mark.parametrize("shape", [(0, 4), (1, 4), (4, 0), (1, 1)])
    @pytest.mark.parametrize("make", [np.asarray, csr_of, sparse.csc_matrix])
    def test_small_files_are_healthy(self, tmp_path: Path, shape: tuple[int, int], make: Any) -> None:
        assert check(write_x(tmp_path / "cells.h5ad", make(np.ones(shape, "f4")))).healthy

    def test_what_is_unusual_but_right_is_healthy(self, tmp_path: Path) -> None:
        adata = tiny(9)
        adata.obs["missing"] = np.nan
        adata.obs["absent"] = pd.Categorical([None] * 9, ["a"])
        adata.obsm["not known"] = np.full((9, 2), np.nan)
        adata.obsm["table"] = pd.DataFrame({"a": [np.nan] * 9}, index=adata.obs_names)
        adata.obsp["near"] = sparse.identity(9, format="csr") * np.inf
        adata.varm["loadings"] = np.full((3, 2), np.nan)
        adata.uns = {
            "a": {"b": np.nan, "c": "text"},
            "table": pd.DataFrame({"x": range(4)}),
            "of 3": np.zeros((3, 2, 2)),
        }
        adata.raw = adata.copy()
        path = write(adata, tmp_path / "odd: näme.h5ad")
        relayout(path, "obsp/near/indptr", compact)
        report = check(path)
        assert report.damage == ()
        assert report.healthy

    def test_ragged_arrays_have_lengths_of_their_own(self, tmp_path: Path) -> None:
        ak = pytest.importorskip("awkward")
        adata = tiny(3)
        adata.obsm["ragged"] = ak.Array([[1, 2, 3], [], [4]])
        assert check(write(adata, tmp_path / "cells.h5ad")).damage == ()

    def test_it_reads_every_byte_and_tells_how_far_it_is(self, tmp_path: Path) -> None:
        path, told = write(adata_of(), tmp_path / "cells.h5ad", "gzip"), list[tuple[int, int]]()
        report = check(path, progress=lambda done, total: told.append((done, total)))
        sizes = []
        with h5py.File(path) as file:
            file.visititems(lambda _, part: sizes.append(part.nbytes) if isinstance(part, h5py.Dataset) else None)
        assert report.read_bytes == sum(sizes)
        assert told[-1] == (sum(sizes), sum(sizes))
        assert [done for done, _ in told] == sorted(done for done, _ in told)

    def test_the_file_is_left_as_it_was(self, tmp_path: Path) -> None:
        path = write(tiny(9), tmp_path / "cells.h5ad")
        before = path.read_bytes(), path.stat().st_mtime_ns
        check(path)
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.parametrize("forced", [False, True], ids=["direct", "h5py"])
class TestStorageChunks:
    @pytest.mark.parametrize(
        "options",
        [GZIP, {"shuffle": True, **GZIP}, {"chunks": 16, "fletcher32": True}, {"fletcher32": True, **GZIP}],
        ids=["gzip", "shuffle", "checksum", "gzip + checksum"],
    )
    @pytest.mark.parametrize("numbers", [(0,), (2,), (0, 3), (1, 2)])
    def test_those_of_sparse_rows_are_all_found(
        self, tmp_path: Path, options: dict[str, Any], numbers: tuple[int, ...], forced: bool
    ) -> None:
        path = csr_file(tmp_path / "cells.h5ad", **options)
        indptr = anndata.read_h5ad(path).X.indptr
        hurt = set()
        for number in numbers:
            flip(path, "X/data", number)
            hurt |= {row for row in range(23) if indptr[row] < 16 * number + 16 and indptr[row + 1] > 16 * number}
        flip(path, "X/indices", 5)
        report = _checked(path, forced)
        found = [one for one in report.damage if one.field == "X/data"]
        filled = {row for row in range(23) if indptr[row] < indptr[row + 1]}
        assert {row for one in found for row in range(one.first, one.last + 1)} & filled == hurt & filled
        assert any(one.field == "X/indices" for one in report.damage)
        assert {one.field for one in report.damage} == {"X/data", "X/indices"}
        assert not report.healthy

    @pytest.mark.parametrize("options", [{}, {"compression": "gzip"}], ids=["checksum", "gzip + checksum"])
    def test_those_of_dense_rows_are_all_found(self, tmp_path: Path, options: dict[str, Any], forced: bool) -> None:
        path = dense_file(tmp_path / "cells.h5ad", chunks=(4, 5), fletcher32=True, **options)
        flip(path, "X", 1)  # columns 5 … 8 of rows 0 … 3
        flip(path, "X", 8)  # rows 16 … 19
        assert places(_checked(path, forced)) == {("X", 0, 3), ("X", 16, 19)}

    def test_neighbours_of_a_bad_one_are_still_looked_at(self, tmp_path: Path, forced: bool) -> None:
        path = csr_file(tmp_path / "cells.h5ad", **GZIP)
        x = anndata.read_h5ad(path).X
        wrong = int(x.indptr[20])
        put(path, "X/indices", wrong, 77)
        put(path, "X/data", wrong, np.nan)
        flip(path, "X/indices", 0)
        flip(path, "X/data", 0)
        last = int(np.searchsorted(x.indptr, 15, side="right")) - 1
        expected = {("X/indices", 1, last), ("X/data", 1, last), ("X/indices", 20, 20), ("X", 20, 20)}
        assert places(_checked(path, forced)) == expected

    def test_those_of_indptr_are_found(self, tmp_path: Path, forced: bool) -> None:
        path = csr_file(tmp_path / "cells.h5ad", **GZIP)
        relayout(path, "X/indptr", create(chunks=8, compression="gzip"))
        flip(path, "X/indptr", 1)
        assert places(_checked(path, forced)) == {("X/indptr", 8, 15)}

    @pytest.mark.parametrize(
        "field", ["obs/int32", "obs/donor/codes", "obsm/X_pca", "obsp/near", "uns/numbers", "varm/L"]
    )
    def test_those_of_other_elements_are_found(self, tmp_path: Path, field: str, forced: bool) -> None:
        adata = adata_of()
        adata.obsp["near"], adata.uns["numbers"] = np.eye(N_OBS), np.arange(29)
        adata.varm["L"] = np.ones((11, 2))
        path = write(adata, tmp_path / "cells.h5ad")
        with h5py.File(path) as file:
            sides = file[field].shape
        relayout(path, field, create(chunks=(4, *sides[1:]), fletcher32=True))
        flip(path, field, 1)
        assert places(_checked(path, forced)) == {(field, 4, 7)}


def _checked(path: Path, forced: bool) -> CheckReport:
    if not forced:
        return check(path)
    with in_h5py_alone():
        return check(path)


class TestWholeFile:
    @pytest.mark.parametrize("options", [{}, GZIP], ids=["plain", "gzip"])
    def test_a_file_that_was_cut_off_is_not_healthy(self, tmp_path: Path, options: dict[str, Any]) -> None:
        path = csr_file(tmp_path / "cells.h5ad", **options)
        size = path.stat().st_size
        for left in (size - 1, size // 2, 2000, 96, 8, 1, 0):
            os.truncate(path, left)
            report = check(path)
            assert [one.field for one in report.damage] == ["file"]
            assert not report.healthy

    def test_a_table_that_points_outside_of_the_file_names_the_rows(self, tmp_path: Path) -> None:
        path = csr_file(tmp_path / "cells.h5ad", **GZIP)
        indptr = anndata.read_h5ad(path).X.indptr
        offset = places_of(path, "X/data")[1][0].to_bytes(8, "little")
        content = path.read_bytes()
        assert content.count(offset) == 1
        path.write_bytes(content.replace(offset, (1 << 40).to_bytes(8, "little")))
        rows = np.searchsorted(indptr, [16, 31], side="right") - 1
        assert places(check(path)) == {("X/data", *rows.tolist())}

    def test_many_kinds_at_once_are_all_found(self, tmp_path: Path) -> None:
        path = write(adata_of(), tmp_path / "cells.h5ad")
        put(path, "layers/logged", (5, 2), np.nan)
        put(path, "obs/donor/codes", 7, 99)
        put(path, "layers/counts/indices", 0, 99)
        put(path, "raw/X/indptr", 0, 3)
        relayout(path, "obs/int8", create(), np.zeros(3, "i1"))
        fields = {one.field for one in check(path).damage}
        assert fields == {"layers/logged", "obs/donor/codes", "layers/counts/indices", "raw/X/indptr", "obs/int8"}

    def test_a_missing_filter_is_not_taken_for_health(self, tmp_path: Path) -> None:
        path = csr_file(tmp_path / "cells.h5ad", **GZIP)
        with mock.patch("h5py.h5z.filter_avail", return_value=False):
            report = check(path)
        assert not report.healthy
        assert not report.damage
        assert [one.field for one in report.unchecked] == ["X"]
        assert "pip install hdf5plugin" in str(report)

    @pytest.mark.parametrize("data", [tiny(3), ["a.h5ad"], 7, None], ids=["AnnData", "list", "number", "None"])
    def test_what_is_no_path_is_refused(self, data: Any) -> None:
        with pytest.raises(ParameterTypeError, match=r"path must be the path of one file, got .*write_h5ad"):
            check(data)

    def test_no_file_is_an_error_and_no_damage(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="no file"):
            check(tmp_path / "absent.h5ad")
        with pytest.raises(FormatError, match="is a directory"):
            check(tmp_path)


def test_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = with_plain_names(csr_file(Path("cells.h5ad")))
    size = 92 * 8 + 24 * 4 + (23 + 9) * 8
    assert str(check(path)) == f"cells.h5ad: no damage ({size / 1000:.3g} kB read)"
    x = anndata.read_h5ad(path).X
    for row in (3, 4, 20):
        put(path, "X/indices", int(x.indptr[row]), -1)
    put(path, "X/data", 0, np.nan)
    report = check(path)
    assert str(report).splitlines() == [
        f"cells.h5ad: NOT INTACT ({size / 1000:.3g} kB read)",
        "damage    X/indices, rows 3 … 4: a column is not in 0 … 8",
        "damage    X/indices, row 20: a column is not in 0 … 8",
        "damage    X, row 1: NaN",
        "remark    X/indices, rows 3 … 4: columns do not ascend",
        "remark    X/indices, row 20: columns do not ascend",
    ]
    values = json.loads(json.dumps(report.to_dict()))
    assert (values["healthy"], values["damage"][0]["first"], values["damage"][0]["last"]) == (False, 3, 4)
