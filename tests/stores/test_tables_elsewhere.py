"""Names and columns as other languages write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from builders import dense, expected_column, tiny, write
from contracts import chunk_of
from scipy import sparse
from table_files import DRAWN, categorical, cells, element

from annpipes import AnnDataset, check, inspect, stream
from annpipes.errors import DamageError, FormatError
from annpipes.stores import open_store


def test_attributes_of_fixed_length_are_strings_all_the_same(tmp_path: Path) -> None:
    """HDF5.jl and some R packages write them so, and anndata decodes them (``_read_attr``)."""
    adata = cells()
    adata.X = sparse.csr_matrix(adata.X)
    adata.obsm["scores"] = adata.obs[["n", "share"]]
    path = write(adata, tmp_path / "cells.h5ad")

    def shorten(_: str, element: h5py.HLObject) -> None:
        for name, value in list(element.attrs.items()):
            if isinstance(value, str):
                element.attrs.create(name, np.bytes_(value.encode()))
            elif isinstance(value, np.ndarray) and value.dtype.kind == "O":
                element.attrs.create(name, np.array([text.encode() for text in value], "S"))

    with h5py.File(path, "r+") as file:
        file.visititems(shorten)
        assert isinstance(file["obs"].attrs["_index"], bytes)
    expected = anndata.read_h5ad(path)
    store = open_store(path)
    assert store.obs_names.tolist() == expected.obs_names.tolist()
    read = store.read(chunk_of(DRAWN), ["X", "raw/X", "obsm/scores", "obs/cell_type", "obs/n"])
    np.testing.assert_array_equal(dense(read["X"]), dense(expected.X)[DRAWN])
    np.testing.assert_array_equal(dense(read["raw_X"]), dense(expected.raw.X)[DRAWN])
    np.testing.assert_array_equal(read["obsm_scores"], expected.obsm["scores"].to_numpy()[DRAWN])
    assert read["obs_cell_type"].tolist() == expected_column(expected.obs["cell_type"])[DRAWN].tolist()
    assert read["obs_n"].tolist() == expected.obs["n"].iloc[DRAWN].tolist()
    pd.testing.assert_frame_equal(store.var, expected.var)


def strings(group: h5py.Group, name: str, values: Iterable[str], dtype: Any = None) -> None:
    dtype = dtype or h5py.string_dtype()
    element(group, name, np.array(list(values), object if dtype.kind == "O" else dtype), "string-array", dtype)


def nullable(group: h5py.Group, name: str, kind: str, values: Any, mask: Any, **attributes: Any) -> None:
    parts = group.create_group(name)
    parts.attrs.update({"encoding-type": kind, "encoding-version": "0.1.0", **attributes})
    (strings if kind == "nullable-string-array" else element)(parts, "values", values)
    element(parts, "mask", mask)


def write_with(path: Path, index: Callable[[h5py.Group, str], None], column: Any = None) -> Path:
    """Six rows with an index, and perhaps a column ``c``, written by hand."""
    write(tiny(6), path)
    with h5py.File(path, "r+") as file:
        obs = file["obs"]
        for name in list(obs):
            del obs[name]
        index(obs, str(obs.attrs["_index"]))
        obs.attrs["column-order"] = np.array(["c"] if column else [], h5py.string_dtype())
        if column:
            column(obs, "c")
    return path


NONE, SOME = np.zeros(6, bool), np.array([False, True, False, False, False, True])


LETTERS = list("uvwxyz")


INDEXES: dict[str, Callable[[h5py.Group, str], None]] = {
    "strings": lambda g, n: strings(g, n, LETTERS),
    "fixed strings": lambda g, n: strings(g, n, LETTERS, np.dtype("S1")),
    "bytes": lambda g, n: element(g, n, np.array(LETTERS, "S1")),
    "nullable strings": lambda g, n: nullable(g, n, "nullable-string-array", LETTERS, NONE),
    "nullable strings of pandas 3": lambda g, n: nullable(
        g, n, "nullable-string-array", LETTERS, NONE, **{"na-value": "NaN"}
    ),
    "nullable strings, some missing": lambda g, n: nullable(g, n, "nullable-string-array", LETTERS, SOME),
    "nullable integers": lambda g, n: nullable(g, n, "nullable-integer", np.arange(6), NONE),
    "integers": lambda g, n: element(g, n, np.arange(6)),
    "large integers": lambda g, n: element(g, n, np.arange(6, dtype="u8") + np.uint64(2**63)),
    "floats": lambda g, n: element(g, n, np.arange(6) / 2),
    "booleans": lambda g, n: element(g, n, np.arange(6) % 2 == 0),
    "categories": lambda g, n: categorical(g, n, np.arange(6, dtype="i1")[::-1], lambda p, q: strings(p, q, LETTERS)),
    "categories of integers": lambda g, n: categorical(
        g, n, np.arange(6, dtype="u1"), lambda p, q: element(p, q, np.arange(6))
    ),
    "categories of nullable strings": lambda g, n: categorical(
        g, n, np.arange(6, dtype="i4"), lambda p, q: nullable(p, q, "nullable-string-array", LETTERS, NONE)
    ),
}


@pytest.mark.parametrize("kind", list(INDEXES))
class TestNames:
    """Names of rows in every encoding of an index that anndata reads."""

    # anndata warns that it makes strings of other names.
    pytestmark = pytest.mark.filterwarnings("ignore::anndata.ImplicitModificationWarning", "ignore:.*not unique.*")

    def test_rows_and_names(self, tmp_path: Path, kind: str) -> None:
        path = write_with(tmp_path / "cells.h5ad", INDEXES[kind])
        expected = anndata.read_h5ad(path)
        dataset = AnnDataset(path, fields=["X", "obs_names"])
        assert dataset.shape == expected.shape
        assert [item["obs_names"] for item in dataset[:]] == [str(name) for name in expected.obs_names]
        np.testing.assert_array_equal(np.stack([item["X"] for item in dataset[:]]), dense(expected.X))

    def test_check_and_inspect_find_nothing(self, tmp_path: Path, kind: str) -> None:
        path = write_with(tmp_path / "cells.h5ad", INDEXES[kind])
        report = check(path)
        assert report.healthy, str(report)
        named = next(field for field in inspect(path).fields if field.field == "obs_names")
        assert (named.shape, named.error) == ((6,), "")


def test_genes_named_by_nullable_strings(tmp_path: Path) -> None:
    path = write(tiny(6), tmp_path / "cells.h5ad")
    with h5py.File(path, "r+") as file:
        key = str(file["var"].attrs["_index"])
        names = [f"gene-{i}" for i in range(tiny(6).n_vars)]
        del file["var"][key]
        nullable(file["var"], key, "nullable-string-array", names, np.zeros(len(names), bool))
    expected = anndata.read_h5ad(path)
    assert open_store(path).var.index.tolist() == names
    batch = next(iter(stream(path, 6, genes=[names[1], names[0]], shuffle=False)))
    np.testing.assert_array_equal(batch["X"], dense(expected[:, [names[1], names[0]]].X))


COLUMNS: dict[str, tuple[Callable[[h5py.Group, str], None], list[Any]]] = {
    "nullable booleans as integers": (
        lambda g, n: nullable(g, n, "nullable-boolean", np.array([0, 1, 1, 0, 1, 7], "u1"), SOME),
        [0, np.nan, 1, 0, 1, np.nan],
    ),
    "a mask of integers": (
        lambda g, n: nullable(g, n, "nullable-integer", np.arange(6), SOME.astype("i4")),
        [0, np.nan, 2, 3, 4, np.nan],
    ),
    "one number for all rows": (lambda g, n: element(g, n, np.array([2.5])), [2.5] * 6),
    "no array": (lambda g, n: element(g, n, 2.5, "numeric-scalar"), [2.5] * 6),
    "one string for all rows": (lambda g, n: element(g, n, "a", "string", h5py.string_dtype()), ["a"] * 6),
    "strings that call themselves ASCII": (
        lambda g, n: strings(g, n, [letter.encode() for letter in "éfghij"], h5py.string_dtype("ascii")),
        list("éfghij"),
    ),
    "codes of eight bytes": (
        lambda g, n: categorical(g, n, np.array([1, 0, -1, 1, 0, 0]), lambda p, q: strings(p, q, "ab")),
        ["b", "a", "", "b", "a", "a"],
    ),
    "no categories, and no dataspace": (
        lambda g, n: categorical(g, n, np.full(6, -1, "i1"), lambda p, q: element(p, q, h5py.Empty("f4"))),
        [""] * 6,
    ),
    "a category that is no array": (
        lambda g, n: categorical(
            g, n, np.zeros(6, "i1"), lambda p, q: element(p, q, "a", "string", h5py.string_dtype())
        ),
        ["a"] * 6,
    ),
}


@pytest.mark.parametrize("kind", list(COLUMNS))
def test_columns_as_other_languages_write_them(tmp_path: Path, kind: str) -> None:
    make, expected = COLUMNS[kind]
    path = write_with(tmp_path / "cells.h5ad", INDEXES["strings"], make)
    (batch,) = stream(path, 6, fields=["obs/c"], shuffle=False)
    np.testing.assert_array_equal(np.asarray(batch["obs_c"]), np.asarray(expected))
    report = check(path)
    assert report.healthy, str(report)


@pytest.mark.parametrize(
    "kind", ["one number for all rows", "no array", "one string for all rows", "codes of eight bytes"]
)
def test_what_anndata_reads_of_those(tmp_path: Path, kind: str) -> None:
    make, expected = COLUMNS[kind]
    found = anndata.read_h5ad(write_with(tmp_path / "cells.h5ad", INDEXES["strings"], make)).obs["c"]
    assert ["" if pd.isna(value) else value for value in found] == expected


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda g, n: element(g, n, np.zeros((6, 2))), "has 2 dimensions, but a column has one"),
        (lambda g, n: element(g, n, np.zeros(6, [("a", "i4")])), "neither numbers nor text"),
        (lambda g, n: element(g, n, np.arange(6), "martian"), "encoded as 'martian' '0.2.0', which the installed"),
        (lambda g, n: anndata.io.write_elem(g, n, {"a": 1}), "is a group encoded as 'dict'"),
        (lambda g, n: categorical(g, n, np.zeros(6), lambda p, q: strings(p, q, "ab")), "codes are whole numbers"),
        (lambda g, n: categorical(g, n, np.zeros(6, int), lambda p, q: strings(p, q, "aa")), "duplicate or missing"),
        (lambda g, n: nullable(g, n, "nullable-boolean", np.arange(6), SOME), "must be booleans, or integers 0 and 1"),
        (lambda g, n: nullable(g, n, "nullable-integer", np.arange(6) / 2, SOME), "holds float64, not whole numbers"),
    ],
)
def test_columns_that_are_none_are_refused_where_they_are_asked_for(tmp_path: Path, make: Any, told: str) -> None:
    path = write_with(tmp_path / "cells.h5ad", INDEXES["strings"], make)
    assert next(iter(stream(path, 6, fields=["X"])))["X"].shape[0] == 6
    with pytest.raises(FormatError, match=f"obs/c of .*{told}"):
        stream(path, fields=["obs/c"])


@pytest.mark.parametrize(("code", "dtype"), [(-2, "i1"), (-128, "i1"), (2, "i1"), (255, "u1"), (2**31 + 1, "i8")])
def test_a_code_without_a_category_is_an_error_as_in_anndata(tmp_path: Path, code: int, dtype: str) -> None:
    codes = np.array([0, code, 1, 1, 1, 1], dtype)
    make = COLUMNS["codes of eight bytes"][0]
    path = write_with(tmp_path / "cells.h5ad", INDEXES["strings"], make)
    with h5py.File(path, "r+") as file:
        del file["obs/c/codes"]
        element(file["obs/c"], "codes", codes)
    with pytest.raises(ValueError, match="codes need to be between -1"):
        anndata.read_h5ad(path)
    with pytest.raises(DamageError, match=f"the code {code} in row 1, but only 2 categories"):
        stream(path, fields=["obs/c"])
