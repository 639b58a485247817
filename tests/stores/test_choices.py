"""Rows and genes chosen by any array that people have; the oracle is numpy's own indexing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from builders import tiny, write
from scipy import sparse

from annpipes import AnnDataset, IndexSource, stream
from annpipes.errors import AnnpipesError, FieldError, ParameterError

N = 8
MASK = np.array([True, False, False, True, True, False, False, True])
WHERE = np.flatnonzero(MASK)
REVERSED = np.arange(N)[::-1]
Choice = Callable[[pd.Index], Any]

MASKS: dict[str, Choice] = {
    "array": lambda names: MASK,
    "list": lambda names: MASK.tolist(),
    "list of numpy's": lambda names: list(MASK),
    "tuple": lambda names: tuple(MASK.tolist()),
    "objects": lambda names: MASK.astype(object),
    "objects of numpy's": lambda names: np.array([*MASK, None], object)[:-1],
    "nullable": lambda names: pd.array(MASK, "boolean"),
    "sparse array": lambda names: pd.arrays.SparseArray(MASK),
    "Index": lambda names: pd.Index(MASK),
    "Index of objects": lambda names: pd.Index(MASK, dtype=object),
    "categories": lambda names: pd.Categorical(MASK),
    "torch": lambda names: torch.from_numpy(MASK),
    "column": lambda names: MASK[:, None],
    "line": lambda names: MASK[None, :],
    "scipy matrix": lambda names: sparse.csr_matrix(MASK[:, None]),
    "scipy array": lambda names: sparse.csc_array(MASK[None, :]),
    "masked, none missing": lambda names: np.ma.array(MASK, mask=False),
    "table": lambda names: pd.DataFrame({"m": MASK}),
    "named table in another order": lambda names: pd.DataFrame({"m": MASK}, names)[::-1],
    "table of objects": lambda names: pd.DataFrame({"m": MASK.astype(object)}, names),
    "Series without an index": lambda names: pd.Series(MASK),
    "Series of the names": lambda names: pd.Series(MASK, names),
    "Series of objects": lambda names: pd.Series(MASK.astype(object), names),
    "nullable Series": lambda names: pd.Series(MASK, names, dtype="boolean"),
    "Series in another order": lambda names: pd.Series(MASK, names).iloc[REVERSED],
    "Series of objects in another order": lambda names: pd.Series(MASK.astype(object), names).sort_index(
        ascending=False
    ),
    "Series of categories in another order": lambda names: pd.Series(pd.Categorical(MASK), names).iloc[REVERSED],
}
POSITIONS: dict[str, Choice] = {
    "list": lambda names: WHERE.tolist(),
    "tuple": lambda names: tuple(WHERE.tolist()),
    "list of numpy's": lambda names: list(WHERE),
    "uint8": lambda names: WHERE.astype(np.uint8),
    "uint64": lambda names: WHERE.astype(np.uint64),
    "objects": lambda names: WHERE.astype(object),
    "nullable": lambda names: pd.array(WHERE, "Int64"),
    "unsigned nullable": lambda names: pd.array(WHERE, "UInt8"),
    "categories": lambda names: pd.Categorical(WHERE),
    "Index": lambda names: pd.Index(WHERE),
    "Series of any index": lambda names: pd.Series(WHERE, ["q", "r", "s", "t"]),
    "torch": lambda names: torch.from_numpy(WHERE),
    "where": lambda names: np.where(MASK),
    "nonzero": lambda names: torch.from_numpy(MASK).nonzero(as_tuple=True),
    "argwhere": lambda names: np.argwhere(MASK),
    "keys": lambda names: dict.fromkeys(WHERE.tolist()).keys(),
}
NAMES: dict[str, Choice] = {
    "list": lambda names: list(names[WHERE]),
    "tuple": lambda names: tuple(names[WHERE]),
    "numpy's strings": lambda names: list(map(np.str_, names[WHERE])),
    "unicode": lambda names: np.array(names[WHERE], "U"),
    "bytes": lambda names: np.array(names[WHERE], "S"),
    "list of bytes": lambda names: [name.encode() for name in names[WHERE]],
    "objects": lambda names: np.array(names[WHERE], object),
    "nullable": lambda names: pd.array(names[WHERE], "string"),
    "Index": lambda names: names[WHERE],
    "categories": lambda names: pd.CategoricalIndex(names[WHERE]),
    "Series": lambda names: pd.Series(names[WHERE], [9, 9, 8, 7]),
    "table": lambda names: pd.DataFrame({"a": 1.0, "b": True}, names[WHERE]),
    "table without columns": lambda names: pd.DataFrame(index=names[WHERE]),
    "keys": lambda names: dict.fromkeys(names[WHERE]).keys(),
}
FORMS = {f"{kind}: {name}": make for kind, made in [("mask", MASKS), ("positions", POSITIONS), ("names", NAMES)]
         for name, make in made.items()}  # fmt: skip

REFUSED: dict[str, tuple[Choice, str]] = {
    "mask with a missing value": (lambda names: pd.array([None, *MASK[1:]], "boolean"), "missing.*fillna"),
    "objects with a missing value": (lambda names: [None, *MASK[1:].tolist()], "missing.*fillna"),
    "objects with NaN": (lambda names: np.array([np.nan, *MASK[1:]], object), "missing.*fillna"),
    "list with NaN": (lambda names: [np.nan, *MASK[1:].tolist()], "missing.*fillna"),
    "Series with NA": (lambda names: pd.Series([pd.NA, *MASK[1:]], names, dtype=object), "missing.*fillna"),
    "masked with a missing value": (lambda names: np.ma.array(MASK, mask=~MASK), "missing.*fillna"),
    "names with a missing one": (lambda names: [names[0], None], "missing"),
    "nullable positions with a missing one": (lambda names: pd.array([1, None], "Int64"), "missing"),
    "booleans mixed with numbers": (lambda names: [True, 2, 3], "booleans mixed with"),
    "names beside numbers": (lambda names: [names[1], 2], "must be positions"),
    "floats": (lambda names: WHERE.astype(float), r"astype\(int\)"),
    "a mask of floats": (lambda names: MASK.astype(float), r"astype\(int\)"),
    "a set of positions": (lambda names: set(WHERE.tolist()), "sorted"),
    "a set of names": (lambda names: frozenset(names[WHERE]), "sorted"),
    "a generator": (lambda names: (row for row in WHERE), "list"),
    "a dict": (lambda names: {0: True}, "list"),
    "two of np.where": (lambda names: np.where(MASK[:, None]), "must be a list"),
    "one hit of two of np.where": (lambda names: np.where(np.eye(N)[:, [3]] > 0), "must be a list"),
    "a mask of two columns": (lambda names: np.stack([MASK, MASK], 1), "must be a list"),
    "a sparse matrix of numbers": (lambda names: sparse.csr_matrix(MASK[:, None].astype(int)), "sparse"),
    "a mask of other names": (lambda names: pd.Series(MASK, [f"x{i}" for i in range(N)]), "index is not that"),
    "a mask of numbers in another order": (lambda names: pd.Series(MASK, REVERSED), "index is not that"),
    "a mask of some names": (lambda names: pd.Series(MASK, names)[:5], "mask of length 5"),
    "a table of one mask, cut": (lambda names: pd.DataFrame({"m": MASK}, names)[MASK], "index"),
    "a table of numbered rows": (lambda names: pd.DataFrame({"a": 1.0, "b": 2}, WHERE), "index holds"),
    "names of levels": (lambda names: pd.MultiIndex.from_arrays([names, names]), "MultiIndex"),
    "a number": (lambda names: 3, r"write \[3\]"),
    "ragged": (lambda names: [[1], [2, 3]], "must be a list"),
    "days": (lambda names: pd.date_range("2024", periods=3), "must be positions"),
    "beyond": (lambda names: np.array([2**63 + 1], np.uint64), "must lie in"),
    "negative": (lambda names: torch.tensor([-1]), "must lie in"),
}


def sources(folder: Path) -> list[Any]:
    """Eight rows and eight genes in memory, in a file, and in two of four rows."""
    adata = tiny(N, N)
    adata.var_names = [f"g{j}" for j in range(N)]
    halves = [write(adata[:4], folder / "0.h5ad"), write(adata[4:], folder / "1.h5ad")]
    return [adata, write(adata, folder / "cells.h5ad"), halves]


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_numpys(form: str, tmp_path: Path) -> None:
    given = FORMS[form](tiny(N).obs_names)
    for data in sources(tmp_path):
        assert np.asarray(IndexSource(data, rows=given).plan.row_set).tolist() == WHERE.tolist()
        ds = AnnDataset(data, obs_subset=given, fields=["X", "rows"])
        assert [int(item["X"][0]) // 100 for item in ds[:]] == WHERE.tolist()


@pytest.mark.parametrize("form", FORMS)
def test_genes_are_numpys(form: str, tmp_path: Path) -> None:
    given = FORMS[form](pd.Index([f"g{j}" for j in range(N)]))
    for data in sources(tmp_path):
        loader = stream(data, genes=given, shuffle=False)
        assert next(iter(loader))["X"][0].tolist() == WHERE.tolist()
        assert loader.var.index.tolist() == [f"g{j}" for j in WHERE]


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_no_choice_is_refused_with_a_remedy(form: str, tmp_path: Path) -> None:
    make, message = REFUSED[form]
    for data in sources(tmp_path)[:2]:
        with pytest.raises(AnnpipesError, match=rf"^rows .*{message}"):
            IndexSource(data, rows=make(tiny(N).obs_names))
        with pytest.raises(AnnpipesError, match=rf"^obs_subset .*{message}"):
            AnnDataset(data, obs_subset=make(tiny(N).obs_names))
        with pytest.raises(AnnpipesError, match=rf"^genes .*{message}"):
            stream(data, genes=make(pd.Index([f"g{j}" for j in range(N)])))


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")  # scipy makes them all the same
def test_a_comparison_of_the_sums_of_a_sparse_matrix() -> None:
    counts = sparse.csr_matrix(np.diag(MASK.astype(float)))
    assert IndexSource(tiny(N), rows=counts.sum(axis=1) > 0).plan.row_set.tolist() == WHERE.tolist()
    assert list(stream(tiny(N, N), genes=counts.sum(axis=0) > 0).var.index) == [str(gene) for gene in WHERE]


def test_arrow_backed_ones() -> None:
    pytest.importorskip("pyarrow")
    adata = tiny(N)
    for given in (
        pd.array(MASK, dtype="bool[pyarrow]"),
        pd.Series(MASK, adata.obs_names, dtype="bool[pyarrow]")[::-1],
        pd.array(WHERE, dtype="int64[pyarrow]"),
        pd.array(list(adata.obs_names[WHERE]), dtype="string[pyarrow]"),
    ):
        assert np.asarray(IndexSource(adata, rows=given).plan.row_set).tolist() == WHERE.tolist()


def test_names_that_are_numbers_are_strings_and_numbers_are_positions() -> None:
    adata = tiny(N)
    adata.obs_names = [str(i) for i in REVERSED]
    rows = {name: np.asarray(IndexSource(adata, rows=given).plan.row_set).tolist() for name, given in {
        "positions": [0, 2], "names": ["0", "2"], "bytes": [b"0", b"2"], "range": range(7, 0, -3),
    }.items()}  # fmt: skip
    assert rows == {"positions": [0, 2], "names": [7, 5], "bytes": [7, 5], "range": [7, 4, 1]}


@pytest.mark.filterwarnings("ignore:Observation names are not unique:UserWarning")  # anndata's, and meant here
def test_a_mask_of_names_that_stand_twice_goes_by_its_place() -> None:
    adata = tiny(N)
    adata.obs_names = ["a", "a", *adata.obs_names[2:]]
    assert IndexSource(adata, rows=pd.Series(MASK, adata.obs_names)).plan.row_set.tolist() == WHERE.tolist()
    with pytest.raises(ParameterError, match="index is not that"):
        IndexSource(adata, rows=pd.Series(MASK, adata.obs_names)[::-1])


@pytest.mark.filterwarnings("ignore:.*chooses no row")
def test_no_rows_in_every_form() -> None:
    adata = tiny(N)
    for given in ([], np.array([]), pd.Series([], dtype=object), pd.Index([]), adata.obs[:0], np.where(~MASK & MASK)):
        assert len(IndexSource(adata, rows=given).plan.row_set) == 0


def test_a_text_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(ParameterError, match="not UTF-8"):
        IndexSource(tiny(N), rows=[b"\xff"])
    with pytest.raises(FieldError, match="no obs name 'zz'"):
        IndexSource(tiny(N), rows=[b"zz"])


def test_a_mask_of_genes_follows_names_over_files() -> None:
    one, two = anndata.AnnData(np.eye(3, dtype="f4")), anndata.AnnData(np.eye(3, dtype="f4"))
    one.var_names, two.var_names = ["a", "b", "c"], ["c", "a", "b"]
    mask = pd.Series([True, False, False], two.var_names)
    assert stream([one, two], genes=mask).var.index.tolist() == ["c"]


def test_weights_follow_the_names_in_their_index() -> None:
    adata = tiny(N)
    adata.obs_names = [f"c{i}" for i in REVERSED]
    weights = pd.Series([1.0, *np.zeros(N - 1)], [f"c{i}" for i in range(N)])  # c0 is the last row
    drawn = IndexSource(adata).sample_rows(weights=weights).sort_within_chunks(N)
    assert {int(row) for chunk in drawn for row in chunk.drawn} == {N - 1}
    plain = IndexSource(adata).sample_rows(weights=weights.to_numpy()).sort_within_chunks(N)
    assert {int(row) for chunk in plain for row in chunk.drawn} == {0}
    with pytest.raises(ParameterError, match="weights is a Series whose index is not that"):
        IndexSource(adata).sample_rows(weights=weights.set_axis([f"x{i}" for i in range(N)]))
