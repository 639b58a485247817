"""An obs column of several stores as one pandas column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["join_series"]


def join_series(columns: Sequence[pd.Series[Any] | None], lengths: Sequence[int]) -> pd.Series[Any]:
    """The columns one after the other; None, with so many rows, where a store has no such column.

    Categories of one kind (numbers, booleans, strings) share one table and keep their values. Numbers and
    booleans take their common type. Where kinds differ, all become strings. What is missing stays missing.
    """
    present = [column for column in columns if column is not None]
    kinds = {kind for column in present for kind in [_kind(column)] if kind is not None}
    tables = any(isinstance(column.dtype, pd.CategoricalDtype) for column in present)
    if len(kinds) > 1 and (tables or kinds != {"number", "boolean"}):
        return _stacked([None if column is None else _as_strings(column) for column in columns], lengths)
    if all(isinstance(column.dtype, pd.CategoricalDtype) for column in present):
        return _one_table(columns, present, lengths)
    if tables:
        if kinds - {"string"}:  # categories of numbers with numbers: labels here and numbers there
            return _stacked([None if column is None else _as_strings(column) for column in columns], lengths)
        return _stacked([None if column is None else column.astype(object) for column in columns], lengths)
    if all(isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf" for column in present):
        parts = [
            np.full(length, np.nan) if column is None else column.to_numpy()
            for column, length in zip(columns, lengths, strict=True)
        ]
        return pd.Series(np.concatenate(parts))
    return _stacked(columns, lengths)


def _kind(column: pd.Series[Any]) -> str | None:
    """What a column's values are; None if there are none."""
    dtype = column.dtype
    values: Any = column.cat.categories if isinstance(dtype, pd.CategoricalDtype) else column
    if pd.api.types.is_bool_dtype(values.dtype):
        return "boolean"
    if pd.api.types.is_numeric_dtype(values.dtype):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(values.dtype) or pd.api.types.is_timedelta64_dtype(values.dtype):
        return str(values.dtype)
    found = pd.api.types.infer_dtype(values, skipna=True)
    return None if found == "empty" else {"integer": "number", "floating": "number"}.get(found, found)


def _one_table(
    columns: Sequence[pd.Series[Any] | None], present: Sequence[pd.Series[Any]], lengths: Sequence[int]
) -> pd.Series[Any]:
    dtypes = [column.dtype for column in present]
    ordered = all(dtype == dtypes[0] for dtype in dtypes) and bool(present[0].cat.ordered)
    table = pd.Index(list(dict.fromkeys(label for column in present for label in column.cat.categories)))
    codes = [
        np.full(length, -1)
        if column is None
        else np.append(table.get_indexer(column.cat.categories), -1)[column.cat.codes]
        for column, length in zip(columns, lengths, strict=True)
    ]
    return pd.Series(pd.Categorical.from_codes(np.concatenate(codes), table, ordered=ordered))


def _as_strings(column: pd.Series[Any]) -> pd.Series[Any]:
    values = column.astype(object)
    return values.map(str).astype(object).where(column.notna(), np.nan)


def _stacked(columns: Sequence[pd.Series[Any] | None], lengths: Sequence[int]) -> pd.Series[Any]:
    first = next(column for column in columns if column is not None)
    missing = np.nan if isinstance(first.dtype, np.dtype) and first.dtype.kind == "O" else None
    parts = [
        pd.Series([missing] * length, dtype=first.dtype) if column is None else column
        for column, length in zip(columns, lengths, strict=True)
    ]
    joined: pd.Series[Any] = pd.concat(parts, ignore_index=True)
    return joined
