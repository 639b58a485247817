"""A check finds what is wrong in the parts of matrices and columns, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
from builders import N_OBS, adata_of, write
from damaged_files import (
    GZIP,
    edit,
    places,
    put,
    stretched,  # noqa: F401 (a fixture)
)
from scipy import sparse
from storage_files import (
    create,
    csr_file,
    csr_of,
    matrix_values,
    relayout,
    text_of,
)
from storage_files import write as write_x

from annpipes.tools.inspecting import check

INDPTR = {
    "decreases": (lambda p: np.where(np.arange(len(p)) == 12, p[9], p), {11}),
    "decreases by more than 64 bits hold": (lambda p: np.append(p[:12], [2**62, -(2**63), *p[14:]]), {12}),
    "begins late": (lambda p: np.maximum(p, 1), {0}),
    "ends beyond the data": (lambda p: np.append(p[:-1], p[-1] + 1), {22}),
    "ends far": (lambda p: np.append(p[:-1], 2**62), {22}),
    "ends early": (lambda p: np.minimum(p, p[-1] - 1), {None}),
    "is too short": (lambda p: p[:-1], {None}),
    "is too long": (lambda p: np.append(p, p[-1]), {None}),
    "is empty": (lambda p: p[:0], {None}),
    "is two-dimensional": (lambda p: p[:, None], {None}),
    "holds fractions": (lambda p: p + 0.5, {None}),
    "holds text": (lambda p: np.array([b"1"] * len(p)), {None}),
}


class TestSparse:
    @pytest.mark.parametrize(("change", "rows"), INDPTR.values(), ids=INDPTR)
    def test_an_indptr_that_no_matrix_has_is_found(self, tmp_path: Path, change: Any, rows: set[int | None]) -> None:
        path = csr_file(tmp_path / "cells.h5ad", **GZIP)
        with h5py.File(path) as file:
            pointers = file["X/indptr"][()].astype("i8")
        relayout(path, "X/indptr", create(), np.asarray(change(pointers)))
        report = check(path)
        assert not report.healthy
        assert {one.field for one in report.damage} == {"X/indptr"}
        assert rows <= {one.first for one in report.damage}

    def test_columns_are_looked_at_where_indptr_is_damaged(self, tmp_path: Path) -> None:
        path = put(csr_file(tmp_path / "cells.h5ad", **GZIP), "X/indptr", 0, 1)
        put(path, "X/indices", 30, -1)
        report = check(path)
        assert places(report) == {("X/indptr", 0, 0), ("X/indices", 30, 30)}
        assert {one.unit for one in report.damage} == {"rows", "entries"}

    @pytest.mark.parametrize("column", [-1, 9, 2**31 - 1, -(2**31)])
    @pytest.mark.parametrize("options", [{}, GZIP, {"chunks": 16, "compression": "lzf"}], ids=["plain", "gzip", "lzf"])
    def test_a_column_outside_names_its_row(self, tmp_path: Path, column: int, options: dict[str, Any]) -> None:
        path = csr_file(tmp_path / "cells.h5ad", **options)
        indptr = anndata.read_h5ad(path).X.indptr
        for row in (3, 4, 20):
            put(path, "X/indices", int(indptr[row]), column)
        report = check(path)
        assert places(report) == {("X/indices", 3, 4), ("X/indices", 20, 20)}
        assert {one.what for one in report.damage} == {"a column is not in 0 … 8"}

    @pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
    def test_columns_of_every_type_are_looked_at(self, tmp_path: Path, kind: str) -> None:
        path = csr_file(tmp_path / "cells.h5ad", **GZIP)
        with h5py.File(path) as file:
            columns, indptr = file["X/indices"][()].astype(kind), file["X/indptr"][()]
        columns[-1] = 9 if kind[0] == "u" else -1
        relayout(path, "X/indices", create(**GZIP), columns)
        row = int(np.searchsorted(indptr, len(columns) - 1, side="right")) - 1
        assert places(check(path)) == {("X/indices", row, row)}

    def test_columns_out_of_order_or_twice_are_remarks(self, tmp_path: Path) -> None:
        indptr, indices = [0, 2, 4, 4, 6, 9], [0, 1, 1, 0, 2, 2, 2, 0, 2]
        x = sparse.csr_matrix((np.ones(9, "f4"), indices, indptr), (5, 3))
        report = check(write_x(tmp_path / "cells.h5ad", x))
        assert report.healthy
        remarks = {(one.field, one.what.split(":")[0], one.first, one.last) for one in report.remarks}
        assert remarks == {
            ("X/indices", "columns do not ascend", 1, 1),
            ("X/indices", "columns do not ascend", 4, 4),
            ("X/indices", "a column is stored twice", 3, 4),
        }

    @pytest.mark.parametrize("field", ["X", "layers/counts", "raw/X", "obsm/near", "obsp/near", "uns/near"])
    def test_every_sparse_matrix_is_looked_at(self, tmp_path: Path, field: str) -> None:
        adata = adata_of()
        adata.obsp["near"] = adata.uns["near"] = sparse.identity(N_OBS, format="csr")
        path = put(write(adata, tmp_path / "cells.h5ad", "gzip"), f"{field}/indices", 0, 99)
        with h5py.File(path) as file:
            row = int(np.searchsorted(file[f"{field}/indptr"][()], 0, side="right")) - 1
        assert places(check(path)) == {(f"{field}/indices", row, row)}

    def test_a_matrix_stored_by_columns_is_looked_at_by_columns(self, tmp_path: Path) -> None:
        path = write(adata_of(x="csc"), tmp_path / "cells.h5ad")
        x = anndata.read_h5ad(path).X
        put(path, "X/indices", int(x.indptr[2]), N_OBS)
        report = check(path)
        assert [(one.field, one.unit, one.first, one.what) for one in report.damage] == [
            ("X/indices", "columns", 2, "a row is not in 0 … 28")
        ]

    @pytest.mark.parametrize("part", ["data", "indices", "indptr"])
    def test_a_part_that_is_gone_is_named(self, tmp_path: Path, part: str) -> None:
        path = edit(write(adata_of(), tmp_path / "cells.h5ad"), lambda file: file.pop(f"X/{part}"))
        assert (f"X/{part}", None, None) in places(check(path))

    @pytest.mark.parametrize("shape", [(22, 9), (23, 8), (23, 10), (-1, 9), (23,), "x"])
    def test_a_shape_that_does_not_fit_is_found(self, tmp_path: Path, shape: Any) -> None:
        path = csr_file(tmp_path / "cells.h5ad", **GZIP)
        report = check(edit(path, lambda file: file["X"].attrs.__setitem__("shape", shape)))
        assert not report.healthy
        assert all(one.field.startswith("X") for one in report.damage)


class TestValues:
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
    @pytest.mark.parametrize("make", [csr_of, np.asarray])
    def test_nan_and_infinite_values_name_their_rows(self, tmp_path: Path, make: Any, kind: str, value: float) -> None:
        path = write_x(tmp_path / "cells.h5ad", make(matrix_values()))
        values = matrix_values(dtype="float64")
        values[[3, 4, 20], 5] = value
        stored = values if make is np.asarray else csr_of(values).data
        if make is csr_of:
            write_x(path, csr_of(values.astype("f4")))
        relayout(
            path, "X" if make is np.asarray else "X/data", create(compression="gzip", chunks=7), stored.astype(kind)
        )
        report = check(path)
        assert places(report) == {("X", 3, 4), ("X", 20, 20)}
        assert {one.what for one in report.damage} == {"NaN" if np.isnan(value) else "an infinite value"}

    @pytest.mark.parametrize("field", ["layers/logged", "raw/X/data"])
    def test_layers_and_raw_are_looked_at(self, tmp_path: Path, field: str) -> None:
        path = put(write(adata_of(), tmp_path / "cells.h5ad"), field, 0, np.nan)
        with h5py.File(path) as file:
            row = 0 if "raw" not in field else int(np.searchsorted(file["raw/X/indptr"][()], 0, side="right")) - 1
        assert places(check(path)) == {(field.removesuffix("/data"), row, row)}

    def test_very_many_stretches_end_in_one_for_the_rest(self, tmp_path: Path) -> None:
        values = np.ones((500, 2), "f4")
        values[::2] = np.nan
        report = check(write_x(tmp_path / "cells.h5ad", values))
        assert len(report.damage) == 50
        assert sum(one.count for one in report.damage) == 250
        assert (report.damage[-1].first, report.damage[-1].last) == (98, 498)
        assert "rows 98 … 498 (201 of these 401)" in str(report)


class TestColumns:
    @pytest.mark.parametrize("code", [3, 99, -2])
    def test_a_code_without_a_category_names_its_row(self, tmp_path: Path, code: int) -> None:
        path = put(write(adata_of(), tmp_path / "cells.h5ad", "gzip"), "obs/donor/codes", 7, code)
        assert places(check(put(path, "obs/donor/codes", 28, code))) == {
            ("obs/donor/codes", 7, 7),
            ("obs/donor/codes", 28, 28),
        }

    @pytest.mark.parametrize(
        "column", ["obs/int32", "obs/barcode", "obs/donor/codes", "obs/nullable_int/mask", "var/v"]
    )
    @pytest.mark.parametrize("length", [5, 35])
    def test_a_column_of_another_length_is_named(self, tmp_path: Path, column: str, length: int) -> None:
        adata = adata_of()
        adata.var["v"] = np.arange(11)
        path = write(adata, tmp_path / "cells.h5ad")
        column = text_of(path, column)
        with h5py.File(path) as file:
            values, kind = file[column][()], file[column].dtype
        relayout(path, column, create(dtype=kind), np.resize(values, length))
        assert places(check(path)) == {(column, None, None)}

    @pytest.mark.parametrize("field", ["X", "layers/logged", "obsm/X_pca", "obsp/near", "varm/L"])
    def test_a_matrix_of_another_length_is_named(self, tmp_path: Path, field: str) -> None:
        adata = adata_of(x="dense")
        adata.obsp["near"], adata.varm["L"] = np.eye(N_OBS), np.ones((11, 2))
        path = write(adata, tmp_path / "cells.h5ad")
        with h5py.File(path) as file:
            values = file[field][()]
        relayout(path, field, create(), values[:-1])
        assert places(check(path)) == {(field, None, None)}

    def test_text_that_is_no_text_names_its_row(self, tmp_path: Path) -> None:
        path = write(adata_of(), tmp_path / "cells.h5ad")
        column = text_of(path, "obs/barcode")
        put(path, column, 7, b"\xff\xfe")
        assert places(check(path)) == {(column, 7, 7)}

    def test_a_link_that_leads_nowhere_is_named(self, tmp_path: Path) -> None:
        path = edit(
            write(adata_of(), tmp_path / "cells.h5ad"),
            lambda file: (file.pop("obs/int8"), file.__setitem__("obs/int8", h5py.SoftLink("/no"))),
        )
        assert {one.field for one in check(path).damage} == {"obs/int8"}

    @pytest.mark.parametrize("element", ["X", "obs", "obs/donor", "uns", "var/_index"])
    def test_an_attribute_that_is_gone_is_named(self, tmp_path: Path, element: str) -> None:
        path = write(adata_of(), tmp_path / "cells.h5ad")
        report = check(edit(path, lambda file: file[element].attrs.__delitem__("encoding-version")))
        assert [(one.field, "encoding-version" in one.what) for one in report.damage] == [(element, True)]

    @pytest.mark.parametrize("element", ["X", "obs", "obs/cell_type", "obs/donor/categories", "layers", "obsm/X_pca"])
    @pytest.mark.parametrize(
        ("name", "value"), [("encoding-type", "brray"), ("encoding-version", "0.9.0"), ("encoding-type", b"\xff")]
    )
    def test_an_encoding_that_anndata_does_not_have_is_told(
        self, tmp_path: Path, element: str, name: str, value: Any
    ) -> None:
        path = write(adata_of(), tmp_path / "cells.h5ad")
        report = check(edit(path, lambda file: file[element].attrs.__setitem__(name, value)))
        with pytest.raises(Exception, match=r"."):
            anndata.read_h5ad(path)
        assert not report.healthy
        assert element in {one.field for one in report.unchecked}
        assert "which anndata does not know" in " ".join(str(report).split())

    @pytest.mark.parametrize(
        ("field", "length"), [("X/indptr", 1 << 40), ("layers/logged", 1 << 36), ("obs/int8", 1 << 40)]
    )
    def test_a_length_that_was_never_written_is_told_and_not_read(
        self, tmp_path: Path, field: str, length: int
    ) -> None:
        path = write(adata_of(), tmp_path / "cells.h5ad", "gzip")
        with h5py.File(path, "r+") as file:
            old = file[field]
            attributes, shape, dtype = dict(old.attrs), (length, *old.shape[1:]), old.dtype
            del file[field]
            file.create_dataset(field, shape, dtype, chunks=(1 << 16, *shape[1:])).attrs.update(attributes)
        report = check(path)  # at once
        assert [one.field for one in report.unchecked] == [field]
        assert "more than was ever written" in " ".join(str(report).split())
        assert not report.damage

    def test_what_only_hdf5_refuses_is_told(self, tmp_path: Path) -> None:
        """Reading directly, one does not look at what a dataset says about its fill value."""
        path = write(adata_of(), tmp_path / "cells.h5ad", "gzip")
        with h5py.File(path) as file:
            header = h5py.h5o.get_info(file["layers/logged"].id).addr
        content = bytearray(path.read_bytes())
        message = content.index(b"\x05\x00\x08\x00", header)  # type 5, of 8 bytes
        content[message + 15] = 149  # in the length of the value, which is 0
        path.write_bytes(content)
        with pytest.raises(OSError, match="fill-value"):
            anndata.read_h5ad(path)
        (one,) = check(path).damage
        assert one.field == "layers/logged"
        assert "HDF5 cannot read it" in one.what

    def test_attributes_that_cannot_be_read_are_told(self, tmp_path: Path) -> None:
        path = write(adata_of(), tmp_path / "cells.h5ad")
        content = path.read_bytes()
        heap = content.rindex(b"GCOL")  # the last collection of text, that of attributes and strings
        path.write_bytes(content[:heap] + b"XXXX" + content[heap + 4 :])
        report = check(path)
        assert not report.healthy
        assert report.damage

    def test_what_is_no_anndata_file_is_not_healthy(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "other.h5ad", "w") as file:
            file["x"] = np.arange(3)
        report = check(tmp_path / "other.h5ad")
        assert not report.healthy
        assert "no group 'obs' or 'var'" in report.damage[0].what
