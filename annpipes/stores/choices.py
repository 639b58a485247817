"""Rows or genes chosen with objects of pandas, scipy or torch, as plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, KeysView, Mapping, Set, ValuesView
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray
from scipy import sparse

from annpipes.errors import ParameterError, ParameterTypeError
from annpipes.plans.rows import names_of, refuse_missing
from annpipes.stores.generics import AnyIndex

__all__ = ["in_order", "plain_choice"]

_Names = Callable[[], AnyIndex]


def plain_choice(chosen: Any, length: int, names: _Names, argument: str, of: str = "rows") -> Any:
    """What `as_rows` takes: anything of pandas or scipy as an array, a mask in the order of the data.

    Parameters
    ----------
    chosen
        As the caller has it.
    length
        How many there are to choose from.
    names
        Loads their names, with which the index of a mask is aligned.
    argument, of
        What errors call the choice, and what is chosen.
    """
    if isinstance(chosen, pd.DataFrame):
        chosen = _column_or_index(chosen, length, argument)
    if isinstance(chosen, pd.Series):
        values = _plain(chosen, argument, of)
        if values.dtype != bool:
            return values
        return values[_order_of(chosen.index, length, names, argument, of)] if len(values) == length else values
    if isinstance(chosen, pd.MultiIndex):
        raise ParameterTypeError(f"{argument} is a MultiIndex of {chosen.nlevels} levels: give the level of the names")
    if isinstance(chosen, pd.Index | ExtensionArray):
        return _plain(chosen, argument, of)
    if sparse.issparse(chosen):
        matrix: Any = chosen
        if matrix.dtype != bool:
            raise ParameterTypeError(
                f"{argument} is a sparse matrix of {matrix.dtype}: give a mask, such as matrix != 0, or positions"
            )
        return matrix.toarray()
    if isinstance(chosen, KeysView | ValuesView):  # in the order in which they were put in
        return list(chosen)
    if isinstance(chosen, Set | Mapping | Iterator):
        kind = type(chosen).__name__
        why = "has no order: write sorted(…)" if isinstance(chosen, Set) else "is none of these: write list(…)"
        raise ParameterTypeError(
            f"{argument} must be a list of positions, a mask or {names_of(of)}, but a {kind} {why}"
        )
    return chosen


def _plain(values: Any, argument: str, of: str) -> NDArray[Any]:
    """Values of pandas as numpy has them; masks as bool, whatever holds them."""
    refuse_missing(np.asarray(pd.isna(values)), argument, of)
    dtype = values.dtype
    if pd.api.types.is_bool_dtype(dtype):
        return np.asarray(values, bool)
    if isinstance(dtype, np.dtype):
        return np.asarray(values)
    if pd.api.types.is_integer_dtype(dtype):
        return np.asarray(values, np.uint64 if pd.api.types.is_unsigned_integer_dtype(dtype) else np.int64)
    if pd.api.types.is_float_dtype(dtype):
        return np.asarray(values, np.float64)
    plain = np.asarray(values, object)
    if len(plain) and pd.api.types.infer_dtype(plain, skipna=False) == "boolean":
        return plain.astype(bool)
    return plain


def _column_or_index(frame: pd.DataFrame, length: int, argument: str) -> Any:
    """The mask that a table of one column is, or else the names of its rows."""
    if frame.shape[1] == 1 and pd.api.types.infer_dtype(frame.iloc[:, 0], skipna=True) == "boolean":
        if len(frame) != length:
            raise ParameterError(
                f"{argument} is a table of {len(frame)} rows with one column of booleans: give its index for the "
                f"names of its rows, or a mask of length {length}"
            )
        return frame.iloc[:, 0]
    if len(frame) and pd.api.types.infer_dtype(frame.index, skipna=False) not in ("string", "categorical"):
        raise ParameterTypeError(
            f"{argument} is a table whose index holds {frame.index.dtype}, not names: give positions, or one column"
        )
    return frame.index


def in_order(values: Any, length: int, names: _Names, argument: str) -> Any:
    """Values of a Series in the order of the obs names that are its index; anything else as it is."""
    if not isinstance(values, pd.Series) or len(values) != length:
        return values
    return values.to_numpy()[_order_of(values.index, length, names, argument, "rows")]


def _order_of(index: AnyIndex, length: int, names: _Names, argument: str, of: str) -> Any:
    """Where in a Series each of the data stands: its index must say the names in any order, or nothing."""
    if pd.api.types.is_integer_dtype(index.dtype) and np.array_equal(index, np.arange(length)):
        return slice(None)
    mine, theirs = names().astype(str), index.astype(str)
    if theirs.equals(mine):
        return slice(None)
    if not pd.api.types.is_integer_dtype(index.dtype) and mine.is_unique and theirs.is_unique:
        places = theirs.get_indexer(mine)
        if (places >= 0).all():
            return places
    raise ParameterError(
        f"{argument} is a Series whose index is not that of the data ({names_of(of)} such as {mine[0]!r}, got "
        f"{index[0]!r}): to use the order of its values, give its to_numpy()"
    )
