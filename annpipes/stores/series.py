"""The one rule by which columns of several tables become one: of obs, of ``var``, in memory and in rewritten files.

It follows from the columns' types alone, and is that of `anndata.concat` wherever that gives a column which can be
written; where values would change, it is an error.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from annpipes.errors import FormatError
from annpipes.stores.generics import AnyIndex, AnySeries

__all__ = ["TEXT", "as_dtype", "common_dtype", "is_mixed", "join_series"]

TEXT = np.dtype(object)
"""The type of strings."""

_NUMBERS = {"number", "boolean"}


def join_series(columns: Sequence[AnySeries | None], lengths: Sequence[int], what: str = "a column") -> AnySeries:
    """Columns one after the other, in a type that suits all; None, with so many rows, where there is no such column.

    What is missing stays missing. An error says ``what`` could not be joined.
    """
    dtype = common_dtype([None if column is None else column.dtype for column in columns])
    parts = [
        _missing(length, dtype) if column is None else as_dtype(column, dtype, what)
        for column, length in zip(columns, lengths, strict=True)
    ]
    values = parts[0] if len(parts) == 1 else pd.concat([pd.Series(part.array) for part in parts], ignore_index=True)
    return values.reset_index(drop=True)


def common_dtype(dtypes: Sequence[Any]) -> Any:
    """The type that holds values of all these types; None stands for a table without the column.

    >>> common_dtype([np.dtype(bool), np.dtype("int8")]), common_dtype([np.dtype("int8"), pd.Int64Dtype()])
    (dtype('int8'), Int64Dtype())
    >>> common_dtype([np.dtype("int8"), None]), common_dtype([np.dtype("int8"), np.dtype(object)])
    (dtype('float64'), dtype('O'))
    """
    present = [dtype for dtype in dtypes if dtype is not None]
    absent = len(present) < len(dtypes)
    if all(dtype == present[0] for dtype in present) and not (absent and _is_plain(present[0])):
        return present[0]
    if all(isinstance(dtype, pd.CategoricalDtype) for dtype in present):
        return pd.CategoricalDtype(_labels([dtype.categories for dtype in present]))
    kinds = _kinds(present)
    if kinds and kinds <= _NUMBERS:
        return _number_dtype(present, absent)
    if all(isinstance(dtype, pd.StringDtype) for dtype in present):
        return next((dtype for dtype in present if dtype.na_value is pd.NA), present[0])
    return TEXT


def _missing(length: int, dtype: Any) -> AnySeries:
    """So many rows without a value; of a type that `common_dtype` found where there is no column."""
    return pd.Series([None if dtype != TEXT else np.nan] * length, dtype=dtype)


def is_mixed(dtypes: Sequence[Any]) -> bool:
    """Whether numbers or booleans of some columns stand as strings in the common one."""
    kinds = _kinds(dtypes)
    return len(kinds) > 1 and not kinds <= _NUMBERS


def as_dtype(values: AnySeries, dtype: Any, what: str) -> AnySeries:
    """``values`` in the common type of all columns, missing ones still missing; refused where one would change."""
    if values.dtype == dtype:
        return values
    if isinstance(dtype, pd.CategoricalDtype):
        return _recoded(values, dtype)
    if isinstance(dtype, pd.StringDtype):
        return values.astype(dtype)
    if dtype == TEXT:
        plain = values.astype(object)
        return plain if _kind(values.dtype) == "text" and not _is_table(values.dtype) else _as_text(plain)
    return _as_numbers(values, dtype, what)


def _kinds(dtypes: Iterable[Any]) -> set[str]:
    return {kind for dtype in dtypes if dtype is not None and (kind := _kind(dtype))}


def _kind(dtype: Any) -> str:
    """What values of a type are; "" where it is a table of no categories, whose values are all missing."""
    if isinstance(dtype, pd.CategoricalDtype):
        return _kind(dtype.categories.dtype) if len(dtype.categories) else ""
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"
    return "number" if pd.api.types.is_numeric_dtype(dtype) and _numpy_dtype(dtype).kind in "iuf" else "text"


def _is_table(dtype: Any) -> bool:
    return isinstance(dtype, pd.CategoricalDtype)


def _is_plain(dtype: Any) -> bool:
    """Whether a type has no place for missing values."""
    return isinstance(dtype, np.dtype) and dtype.kind in "biu"


def _numpy_dtype(dtype: Any) -> np.dtype[Any]:
    """The type of the values, whatever holds them."""
    if isinstance(dtype, pd.CategoricalDtype):
        return _numpy_dtype(dtype.categories.dtype)
    found: np.dtype[Any] = dtype if isinstance(dtype, np.dtype) else getattr(dtype, "numpy_dtype", TEXT)
    return found


def _number_dtype(present: Sequence[Any], absent: bool) -> Any:
    common = np.result_type(*(_numpy_dtype(dtype) for dtype in present if _kind(dtype)))
    nullable = any(not isinstance(dtype, np.dtype) for dtype in present)  # categories may be missing, too
    if common.kind == "f" or not (nullable or absent):
        return common
    if common.kind == "b":
        return pd.BooleanDtype()
    return pd.array(np.zeros(0, common)).dtype if nullable else _FLOAT


_FLOAT = np.dtype(np.float64)


def _labels(tables: Sequence[AnyIndex]) -> AnyIndex:
    """Categories of several tables in one: the first table's, then new ones in the order in which they come."""
    filled = [table for table in tables if len(table)] or [*tables[:1]]
    kinds = {_kind(table.dtype) for table in filled}
    labels: dict[Hashable, None] = {}
    for table in filled:
        labels.update(dict.fromkeys(map(str, table) if kinds == {"text"} or len(kinds) > 1 else table.tolist()))
    if kinds == {"number"}:
        common = np.result_type(*(_numpy_dtype(table.dtype) for table in filled))
        values = np.array(list(labels), common)
        if any(int(value) != label for value, label in zip(values, labels, strict=True) if isinstance(label, int)):
            return pd.Index([str(label) for label in labels], dtype=object)
        joined: AnyIndex = pd.Index(values)
        return joined
    return pd.Index(list(labels), dtype=bool if kinds == {"boolean"} else object)


def _recoded(values: AnySeries, dtype: pd.CategoricalDtype) -> AnySeries:
    categories = values.cat.categories
    if _kind(dtype) == "text":
        categories = pd.Index([str(label) for label in categories], dtype=object)
    places = np.append(pd.Index(dtype.categories).get_indexer(categories), -1)
    return pd.Series(pd.Categorical.from_codes(places[values.cat.codes.to_numpy()], dtype=dtype), values.index)


def _as_text(values: AnySeries) -> AnySeries:
    missing = values.isna()
    return values.map(str).astype(object).where(~missing, np.nan)


def _as_numbers(values: AnySeries, dtype: Any, what: str) -> AnySeries:
    if _is_table(values.dtype):
        values = _values_of_table(values)
    target = _numpy_dtype(dtype)
    missing = values.isna()
    known = values[~missing].to_numpy(_numpy_dtype(values.dtype))
    _refuse_changes(known, target, what)
    if isinstance(dtype, np.dtype):
        found: NDArray[Any] = np.full(len(values), np.nan if target.kind == "f" else 0, target)
        found[~missing.to_numpy()] = known
        return pd.Series(found, values.index)
    whole = np.zeros(len(values), target)
    whole[~missing.to_numpy()] = known
    masked = pd.Series(pd.array(whole, dtype=dtype), values.index)
    masked[missing] = pd.NA
    return masked


def _values_of_table(values: AnySeries) -> AnySeries:
    """The numbers that categories are; nullable, for some may be missing."""
    categories, codes = values.cat.categories, values.cat.codes.to_numpy()
    if not len(categories):
        return pd.Series(np.full(len(codes), np.nan), values.index)
    taken = pd.Series(pd.array(categories.to_numpy()[codes.clip(min=0)]), values.index)
    taken[codes < 0] = pd.NA
    return taken


def _refuse_changes(values: NDArray[Any], target: np.dtype[Any], what: str) -> None:
    """An error where an integer would become another number on its way to floats."""
    if values.dtype.kind not in "iu" or target.kind != "f":
        return
    with np.errstate(invalid="ignore", over="ignore"):
        changed = [int(value) for value in values[np.abs(values.astype(target)) >= 2.0 ** (np.finfo(target).nmant + 1)]]
    for value in changed:
        if int(target.type(value)) != value:
            raise FormatError(
                f"{what} holds the integer {value}, which does not fit into {target}, but other files or missing "
                f"values require that type: store it as strings, or as integers of one type in every file"
            )
