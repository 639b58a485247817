"""Parts of a file that do not fit each other: an error that names file and field, and never a crash."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from storage_files import create, csr_file, csr_of, in_h5py_alone, matrix_values, read_x, refused, relayout, write

from annpipes.errors import AnnpipesError
from annpipes.stores import open_store

GZIP = {"chunks": 16, "compression": "gzip"}
ALL_ROWS = range(23)


@pytest.fixture(params=["direct", "h5py"], autouse=True)
def route(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each test of this file reads on both routes."""
    with in_h5py_alone() if request.param == "h5py" else nullcontext():
        yield request.param


INDPTR = {
    "decreases": lambda p: np.where(np.arange(len(p)) == 12, p[9], p),
    "is negative": lambda p: np.where(np.arange(len(p)) == 3, -1, p),
    "begins late": lambda p: np.maximum(p, 1),
    "ends early": lambda p: np.minimum(p, p[-1] - 1),
    "ends late": lambda p: np.append(p[:-1], p[-1] + 1),
    "ends far": lambda p: np.append(p[:-1], 2**62),
    "is too short": lambda p: p[:-1],
    "is too long": lambda p: np.append(p, p[-1]),
    "is empty": lambda p: p[:0],
    "has two dimensions": lambda p: p[:, None],
    "has none": lambda p: p[-1],
    "is unsigned beyond all": lambda p: np.append(p[:-1].astype("u8"), np.uint64(2**63 + 1)),
    "holds fractions": lambda p: p + 0.5,
    "holds text": lambda p: np.array([b"1"] * len(p)),
}


@pytest.mark.parametrize("change", INDPTR.values(), ids=INDPTR)
def test_an_indptr_that_no_matrix_has_is_refused(tmp_path: Path, change: Any) -> None:
    path = csr_file(tmp_path / "indptr.h5ad", **GZIP)
    with h5py.File(path) as file:
        pointers = file["X/indptr"][()].astype("i8")
    relayout(path, "X/indptr", create(), np.asarray(change(pointers)))
    refused(path, "X/indptr")


@pytest.mark.parametrize("options", [{}, GZIP], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("dtype", "n_vars", "wrong"),
    [
        ("i1", 9, -1),
        ("i1", 300, -1),  # as an unsigned number 255, which is a column
        ("i1", 9, 9),
        ("u1", 9, 255),
        ("i2", 9, -(2**15)),
        ("i2", 70_000, -1),
        ("u2", 9, 9),
        ("i4", 9, 9),
        ("i4", 9, -1),
        ("i4", 9, -(2**31)),
        ("u4", 9, 2**32 - 1),
        ("i8", 9, 2**40),
        ("i8", 9, -1),
        ("i8", 9, -(2**63)),
        ("u8", 9, 2**63),
        ("u8", 9, 2**64 - 1),
    ],
)
def test_a_column_outside_names_its_row(
    tmp_path: Path, options: dict[str, Any], dtype: str, n_vars: int, wrong: int
) -> None:
    path = write(tmp_path / "column.h5ad", csr_of(np.pad(matrix_values(), ((0, 0), (0, n_vars - 9)))))
    with h5py.File(path) as file:
        columns, pointers = file["X/indices"][()].astype(dtype), file["X/indptr"][()]
    relayout(path, "X/data", create(**options))
    for place in (0, len(columns) - 1):
        row = int(np.searchsorted(pointers, place, side="right")) - 1
        broken = columns.copy()
        broken[place] = np.array(wrong, "O").astype(dtype)
        relayout(path, "X/indices", create(**options), broken)
        for rows in ([row], ALL_ROWS):
            found = re.search(r"rows (\d+) … (\d+)", refused(path, "X/indices", rows))
            assert found
            assert int(found[1]) <= row <= int(found[2])
        fine = [other for other in ALL_ROWS if other != row]
        assert len(read_x(path, fine)) == 22


PARTS = {
    "fewer values": ("data", lambda v: v[:-1]),
    "more values": ("data", lambda v: np.append(v, v)),
    "no values": ("data", lambda v: v[:0]),
    "values of two dimensions": ("data", lambda v: np.stack([v, v], 1)),
    "one value": ("data", lambda v: v[0]),
    "values that are text": ("data", lambda v: np.array([b"a"] * len(v))),
    "fewer columns": ("indices", lambda v: v[:-1]),
    "columns of two dimensions": ("indices", lambda v: np.stack([v, v], 1)),
    "one column": ("indices", lambda v: v[0]),
    "columns that are fractions": ("indices", lambda v: v.astype("f4")),
    "columns that are true or false": ("indices", lambda v: v.astype(bool)),
    "columns that are text": ("indices", lambda v: np.array([b"a"] * len(v))),
}


@pytest.mark.parametrize("options", [{}, GZIP], ids=["plain", "gzip"])
@pytest.mark.parametrize(("part", "change"), PARTS.values(), ids=PARTS)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, options: dict[str, Any], part: str, change: Any) -> None:
    path = csr_file(tmp_path / "parts.h5ad", **options)
    with h5py.File(path) as file:
        values = np.asarray(change(file["X"][part][()]))
    relayout(path, f"X/{part}", create(**options) if values.ndim else create(), values)
    refused(path, "X")


SHAPES = [(22, 9), (24, 9), (23, 8), (23, 10), (23, 0), (0, 9), (-1, 9), (23, -9), (23,), (23, 9, 1), (), 5, "x", 2.5]


@pytest.mark.parametrize("shape", [*SHAPES, (2**62, 2**62), [], ("a", "b"), (np.nan, 9.0)], ids=str)
def test_a_shape_that_does_not_fit_is_refused(tmp_path: Path, shape: Any) -> None:
    path = csr_file(tmp_path / "shape.h5ad", **GZIP)
    with h5py.File(path, "r+") as file:
        file["X"].attrs["shape"] = shape
    refused(path)


def _group(file: h5py.File, name: str) -> None:
    del file[name]
    file.create_group(name)


WITHOUT = {
    "X without values": lambda f: f.__delitem__("X/data"),
    "X without columns": lambda f: f.__delitem__("X/indices"),
    "X without indptr": lambda f: f.__delitem__("X/indptr"),
    "X without anything": lambda f: _group(f, "X"),
    "values that are a group": lambda f: _group(f, "X/data"),
    "indptr that is a group": lambda f: _group(f, "X/indptr"),
    "columns that lead nowhere": lambda f: (
        f.__delitem__("X/indices"),
        f.__setitem__("X/indices", h5py.SoftLink("/no")),
    ),
    "X that leads nowhere": lambda f: (f.__delitem__("X"), f.__setitem__("X", h5py.ExternalLink("no.h5", "/no"))),
    "no shape": lambda f: f["X"].attrs.__delitem__("shape"),
    "no encoding": lambda f: f["X"].attrs.__delitem__("encoding-type"),
    "an encoding that is a number": lambda f: f["X"].attrs.__setitem__("encoding-type", 7),
    "no obs": lambda f: f.__delitem__("obs"),
    "obs without an index": lambda f: f.__delitem__("obs/_index"),
    "obs with an index that is a group": lambda f: _group(f, "obs/_index"),
    "obs with a number for an index": lambda f: f["obs"].attrs.__setitem__("_index", 3),
    "obs with an index elsewhere": lambda f: f["obs"].attrs.__setitem__("_index", "absent"),
    "var without an index": lambda f: f.__delitem__("var/_index"),
}


@pytest.mark.parametrize("change", WITHOUT.values(), ids=WITHOUT)
def test_what_is_missing_is_missed(tmp_path: Path, change: Any) -> None:
    path = csr_file(tmp_path / "missing.h5ad", **GZIP)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(AnnpipesError, match=r"missing\.h5ad"):
        open_store(path).check(["X", "obs_names"])
