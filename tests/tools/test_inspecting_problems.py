"""What is wrong with how fields are stored is told with its remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pandas as pd
import pytest
from builders import adata_of, tiny, write
from inspections import found
from scipy import sparse
from storage_files import (
    compact,
    create,
    csr_file,
    csr_of,
    matrix_values,
    relayout,
    text_of,
)
from storage_files import write as write_x

from annpipes.tools.inspecting import inspect


class TestProblems:
    def test_a_healthy_file_has_none(self, tmp_path: Path) -> None:
        report = inspect(write(tiny(9), tmp_path / "cells.h5ad"))
        assert not report.findings
        assert "none found" in str(report)

    def test_gzip_is_a_remark(self, tmp_path: Path) -> None:
        report = inspect(csr_file(tmp_path / "cells.h5ad", chunks=16, compression="gzip"))
        assert [(one.level, one.field) for one in report.findings] == [("remark", "X")]
        assert "gzip" in report.findings[0].what

    def test_csc_is_told_with_the_line_that_converts_it(self, tmp_path: Path) -> None:
        report = inspect(write(adata_of(x="csc"), tmp_path / "cells.h5ad"))
        assert "adata.X = adata.X.tocsr()" in found(report, "X")
        assert report["X"].route is None
        assert not found(report, "layers/counts")

    @pytest.mark.parametrize(
        "options", [{"compression": "lzf"}, {**hdf5plugin.Bitshuffle()}], ids=["lzf", "bitshuffle"]
    )
    def test_the_route_through_h5py_says_why(self, tmp_path: Path, options: dict[str, Any]) -> None:
        report = inspect(csr_file(tmp_path / "cells.h5ad", chunks=16, **options))
        assert report["X"].route.startswith("h5py (")
        assert "is decoded only by HDF5" in found(report, "X")
        assert "annpipes shuffle" in found(report, "X")

    def test_odd_storage_goes_through_h5py(self, tmp_path: Path) -> None:
        path = write_x(tmp_path / "cells.h5ad", matrix_values())
        relayout(path, "X", compact)
        assert "compact storage" in found(inspect(path), "X")

    def test_columns_out_of_order_and_twice_name_the_first_row(self, tmp_path: Path) -> None:
        indptr, indices = [0, 2, 4, 4, 6], [0, 1, 1, 0, 2, 2]
        x = sparse.csr_matrix((np.ones(6, "f4"), indices, indptr), (4, 3))
        report = inspect(write_x(tmp_path / "cells.h5ad", x))
        assert (report["X"].sample.unsorted_row, report["X"].sample.twice_row) == (1, 3)
        assert "first in row 1" in found(report, "X", "remark")
        assert "first in row 3" in found(report, "X")

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("make", [np.asarray, csr_of])
    def test_nan_in_the_rows_looked_at_names_the_first(self, tmp_path: Path, make: Any, value: float) -> None:
        values = matrix_values()
        values[[3, 5], 2] = value
        assert "first in row 3" in found(inspect(write_x(tmp_path / "cells.h5ad", make(values))), "X")

    def test_negative_values_are_a_remark(self, tmp_path: Path) -> None:
        values = matrix_values()
        values[4, 8] = -1
        report = inspect(write_x(tmp_path / "cells.h5ad", csr_of(values)))
        assert "first in row 4" in found(report, "X", "remark")
        assert not found(report, "X")

    def test_large_storage_chunks_say_how_many_rows_are_decoded_for_one(self, tmp_path: Path) -> None:
        path = write_x(tmp_path / "cells.h5ad", np.ones((6000, 2), "f4"))
        relayout(path, "X", create(chunks=(2000, 2), compression="gzip"))
        assert "for one row, 2,000 rows (16 kB) are decoded" in found(inspect(path), "X")
        relayout(path, "X", create(chunks=(2000, 2)))  # any row of these can be read alone
        assert not found(inspect(path), "X")

    def test_small_storage_chunks_are_told(self, tmp_path: Path) -> None:
        path = write_x(tmp_path / "cells.h5ad", np.ones((3000, 4), "f4"))
        relayout(path, "X", create(chunks=(1, 4), compression="gzip"))
        assert "3,000 of 16 B" in found(inspect(path), "X")

    def test_wide_types_are_told(self, tmp_path: Path) -> None:
        path = write_x(tmp_path / "cells.h5ad", csr_of(matrix_values(dtype="float64")))
        with h5py.File(path) as file:
            columns = file["X/indices"][()].astype("i8")
        relayout(path, "X/indices", create(), columns)
        remarks = found(inspect(path), "X", "remark")
        assert "int32 is enough for all 9" in remarks
        assert "whole numbers stored as float64" in remarks

    def test_fractions_in_float64_are_right(self, tmp_path: Path) -> None:
        report = inspect(write_x(tmp_path / "cells.h5ad", csr_of(matrix_values(dtype="float64") / 3)))
        assert not report.findings

    def test_a_dense_matrix_of_zeros_is_told(self, tmp_path: Path) -> None:
        values = np.zeros((20, 10), "f4")
        values[:, :2] = 1
        assert "80% of the values are zero" in found(inspect(write_x(tmp_path / "cells.h5ad", values)), "X")
        values[:, :5] = 1
        assert not inspect(write_x(tmp_path / "cells.h5ad", values)).findings

    def test_obs_names_that_are_not_unique_are_told(self, tmp_path: Path) -> None:
        path = write(tiny(5), tmp_path / "cells.h5ad")
        index = text_of(path, "obs/_index")
        with h5py.File(path, "r+") as file:
            file[index][:] = ["a", "b", "a", "b", "a"]
        assert "3 names repeat an earlier one" in found(inspect(path), "obs_names")

    def test_strings_that_repeat_could_be_categories(self, tmp_path: Path) -> None:
        adata = tiny(60)
        adata.obs["donor"] = pd.array(["one", "two", "three"] * 20, dtype="string")
        path = write(adata, tmp_path / "cells.h5ad")
        with h5py.File(path, "r+") as file:  # anndata makes categories of them by itself, other writers do not
            del file["obs/donor"]
            made = file.create_dataset("obs/donor", data=["one", "two", "three"] * 20, dtype=h5py.string_dtype())
            made.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
        assert "3 in 60 rows" in found(inspect(path), "obs/donor", "remark")
        assert not found(inspect(path), "obs_names", "remark")

    def test_damage_of_one_field_leaves_the_others_to_be_told(self, tmp_path: Path) -> None:
        path = write(adata_of(), tmp_path / "cells.h5ad")
        with h5py.File(path, "r+") as file:
            file["X/indptr"][3] = 10_000
            del file["obsm/near/data"]
        report = inspect(path)
        assert "decreases after row" in found(report, "X")
        assert "--check" in found(report, "X")
        assert "obsm/near" in found(report, "obsm/near")
        assert report["layers/counts"].error == report["obs/donor"].error == ""

    def test_a_column_outside_in_the_rows_looked_at_is_told(self, tmp_path: Path) -> None:
        path = write(adata_of(), tmp_path / "cells.h5ad")
        with h5py.File(path, "r+") as file:
            file["X/indices"][0] = 99
        assert "a column is not in 0 … 10" in found(inspect(path), "X")

    def test_a_column_of_another_length_is_told(self, tmp_path: Path) -> None:
        path = write(adata_of(), tmp_path / "cells.h5ad")
        relayout(path, "obs/int32", create(), np.arange(20, dtype="i4"))
        assert "has 20 values, but there are 29 rows" in found(inspect(path), "obs/int32")
