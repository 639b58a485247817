"""Obs columns of every kind, and what anndata makes of two of them."""

from __future__ import annotations

import warnings
from typing import Any

import anndata
import numpy as np
import pandas as pd

__all__ = ["KINDS", "LOSSY", "concatenated_column", "same_values"]

KINDS: dict[str, Any] = {
    "bool": np.array([True, False]),
    "int8": np.array([1, -2], "i1"),
    "int64": np.array([2**53 + 1, -3]),
    "uint64": np.array([2**63 + 5, 1], "u8"),
    "float32": np.array([0.5, np.nan], "f4"),
    "float64": np.array([1.5, 2.0]),
    "str": np.array(["x", "y"], object),
    "category": pd.Categorical(["p", None], ["q", "p"]),
    "ordered": pd.Categorical(["p", "q"], ["q", "p"], ordered=True),
    "numbers": pd.Categorical([10, 2]),
    "booleans": pd.Categorical([True, False]),
    "Int64": pd.array([7, None], dtype="Int64"),
    "boolean": pd.array([True, None], dtype="boolean"),
    "string": pd.array(["s", None], dtype="string"),
}
"""Two rows of each."""

LOSSY = [{"int64", other} for other in ("uint64", "float32", "float64")] + [
    {"uint64", other} for other in ("int8", "float32", "float64", "numbers", "Int64")
]
"""Where anndata makes floats of integers that these cannot hold."""


def concatenated_column(one: Any, two: Any) -> tuple[pd.Series[Any], bool]:
    """What anndata makes of them, and whether it leaves numbers beside strings; then all as strings.

    Booleans beside numbers, of which it makes objects that it cannot write, equal 0 and 1.
    """
    frames = [pd.DataFrame({"c": values}, index=[f"{i}-0", f"{i}-1"]) for i, values in enumerate((one, two))]
    adatas = [anndata.AnnData(np.ones((2, 1), "f4"), obs=frame) for frame in frames]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about columns whose values are all missing
        joined = anndata.concat(adatas).obs["c"]
    texts = {isinstance(value, str) for value in joined if not pd.isna(value)}
    tables = [adata.obs["c"].dtype for adata in adatas]
    kinds = [
        isinstance(dtype.categories[0], bool | np.bool_)
        for dtype in tables
        if isinstance(dtype, pd.CategoricalDtype) and not isinstance(dtype.categories[0], str)
    ]
    if texts == {True, False} or len(set(kinds)) == 2:  # labels of numbers and of booleans: as strings, too
        values = joined.astype(object)
        return values.map(str).where(values.notna(), None), True
    return joined, False


def same_values(found: Any, expected: Any) -> None:
    """Fail unless values are equal, exactly so integers, and the same ones are missing."""
    ours, theirs = list(found), list(expected)
    assert [bool(pd.isna(value)) for value in ours] == [bool(pd.isna(value)) for value in theirs], (ours, theirs)
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if not pd.isna(a)]
    assert all(a == b and isinstance(a, str) == isinstance(b, str) for a, b in pairs), (ours, theirs)
    whole = [(a, b) for a, b in pairs if isinstance(b, int | np.integer)]
    assert all(int(a) == int(b) for a, b in whole), (ours, theirs)
