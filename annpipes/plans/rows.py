"""Arithmetic on arrays of row numbers."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import ParameterError, ParameterTypeError, RowIndexError

__all__ = [
    "RowArray",
    "Rows",
    "as_count",
    "as_natural",
    "as_rows",
    "as_seconds",
    "brief_rows",
    "join_ranges",
    "refuse_missing",
    "rows_fingerprint",
    "runs",
    "take_rows",
    "values_of",
]

RowArray: TypeAlias = NDArray[np.int64]
Rows: TypeAlias = range | RowArray
"""All rows from a first to a last as a range, or any rows in any order as an array ``(n,)``."""


def as_count(value: int, argument: str, least: int = 1) -> int:
    """``value`` as an int of at least ``least``; the error names ``argument``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ParameterTypeError(f"{argument} must be an integer, got {value!r}")
    if value < least:
        raise ParameterError(f"{argument} must be at least {least}, got {value}")
    return int(value)


def as_natural(value: int, argument: str) -> int:
    """``value`` as an int of at least 0; the error names ``argument``."""
    return as_count(value, argument, least=0)


def as_bytes(value: int | str, argument: str) -> int:
    """A number of bytes, given as one or as a string such as ``"2GB"``.

    >>> as_bytes("1.5 GB", "memory")
    1500000000
    """
    if not isinstance(value, str):
        return as_count(value, argument)
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*((?:[kKMGT]i?)?)B?\s*", value)
    if match is None:
        raise ParameterError(f"{argument} must be bytes or a string such as '2GB', got {value!r}")
    number, unit = match.groups()
    base = 1024 if unit.endswith("i") else 1000
    return as_count(int(float(number) * base ** " KMGT".index(unit[:1].upper() or " ")), argument)


def as_seconds(value: float, argument: str) -> float:
    """``value`` as a length of time above 0; the error names ``argument``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ParameterTypeError(f"{argument} must be a number, got {value!r}")
    if not 0 < value < math.inf:
        raise ParameterError(f"{argument} must be more than 0, got {value}")
    return float(value)


def as_rows(
    rows: Any,
    n_obs: int,
    *,
    argument: str = "rows",
    of: str = "rows",
    positions_of: Callable[[NDArray[Any]], RowArray] | None = None,
    where: Callable[[str], RowArray] | None = None,
) -> Rows:
    """Whatever names rows (nothing, positions, a boolean mask, obs names) as positions.

    >>> as_rows(None, 3)
    range(0, 3)
    >>> as_rows([True, False, True], 3)
    array([0, 2])

    Parameters
    ----------
    rows
        None for all, a slice, positions in any order (duplicates are kept), a mask of
        length ``n_obs``, names if ``positions_of`` is given, or an expression if ``where`` is.
    of
        What rows are called in errors.
    positions_of
        Turns an array of names into positions.
    where
        Turns an expression, a single string, into positions.

    Raises
    ------
    ParameterError
        A mask of the wrong length.
    RowIndexError
        A position that is negative or beyond the last row.
    """
    if rows is None:
        return range(n_obs)
    if isinstance(rows, slice):
        rows = range(n_obs)[rows]
    if isinstance(rows, range) and rows.step == 1:
        _check_bounds(np.array([rows[0], rows[-1]] if rows else [], np.int64), n_obs, argument, of)
        return rows
    if isinstance(rows, str) and where is not None:
        return where(rows)
    array = _as_values(rows, argument, of)
    if array.ndim == 1 and array.dtype.kind == "U" and len(array) and positions_of is not None:
        return positions_of(array.astype(object))
    return _as_row_array(array, n_obs, argument, of)


def refuse_missing(missing: NDArray[np.bool_], argument: str, of: str = "rows") -> None:
    """Raise a `ParameterTypeError` if any value is missing: it would neither choose a row nor leave one out."""
    if count := int(missing.sum()):
        raise ParameterTypeError(
            f"{argument} must not have missing values, but {count} of {missing.size} are missing: fillna(False) for a "
            f"mask of {of}, dropna() for positions or names"
        )


def _as_values(given: Any, argument: str, of: str) -> NDArray[Any]:
    """Whatever is like an array, ``(n,)``, of the type that its values are: booleans, integers or strings."""
    if isinstance(given, tuple) and len(given) == 1 and not isinstance(given[0], str | bytes) and np.ndim(given[0]):
        given = given[0]  # of np.where or np.nonzero
    if isinstance(given, np.ma.MaskedArray):
        refuse_missing(np.ma.getmaskarray(given), argument, of)
    typed = not isinstance(given, list | tuple)
    try:
        # numpy makes of ["a", 1] two strings, and of [True, 2] two numbers.
        array = np.asarray(given) if typed or not _mixed(given) else np.array([*given, None], object)[:-1]
    except Exception as error:  # ragged lists, tensors on a GPU, and whatever else has an __array__
        raise ParameterTypeError(
            f"{argument} must be a list of positions, a mask or {names_of(of)}, got a {type(given).__name__} that "
            f"numpy cannot turn into an array: {error}"
        ) from error
    if typed and array.ndim == 2 and (array.shape[1] == 1 or (array.shape[0] == 1 and array.dtype == bool)):
        array = array.reshape(-1)
    if array.ndim == 1 and array.dtype.kind in "OST" and len(array):
        return _by_value(array.astype(object), argument, of)
    return array


def _mixed(given: Sequence[Any]) -> bool:
    """Whether a list has values of several types of which numpy would make one."""
    types = set(map(type, given))
    return len(types) > 1 and any(issubclass(kind, bool | np.bool_ | str | bytes) for kind in types)


def _by_value(array: NDArray[Any], argument: str, of: str) -> NDArray[Any]:
    """Objects as an array of their common type; unchanged if they have several, or one that cannot choose rows."""
    refuse_missing(np.array([value is None or _is_nan(value) for value in array]), argument, of)
    if all(isinstance(value, bool | np.bool_) for value in array):
        return array.astype(bool)
    if any(isinstance(value, bool | np.bool_) for value in array):
        raise ParameterTypeError(
            f"{argument} must be positions, a mask or {names_of(of)}, got booleans mixed with values like "
            f"{next(value for value in array if not isinstance(value, bool | np.bool_))!r}"
        )
    if all(isinstance(value, str) for value in array):
        return array.astype(str)
    if all(isinstance(value, bytes) for value in array):
        try:
            return np.array([value.decode() for value in array])
        except UnicodeDecodeError as error:
            raise ParameterError(f"{argument} holds bytes that are not UTF-8: {error}") from error
    return array


def _is_nan(value: Any) -> bool:
    """Whether a value is NaN, NaT or pandas' NA, without importing pandas."""
    return (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in ("NAType", "NaTType")


def names_of(of: str) -> str:
    """What names of rows, or of genes, are called in errors."""
    return "obs names" if of == "rows" else "names"


def _as_row_array(array: NDArray[Any], n_obs: int, argument: str, of: str) -> RowArray:
    names = names_of(of)
    if array.ndim != 1:
        got = f"{array.tolist()!r:.80}"
        hint = f": write [{got}]" if array.ndim == 0 and array.dtype.kind in "iu" else ""
        raise ParameterError(f"{argument} must be a list of positions, a mask or {names}, got {got}{hint}")
    if array.dtype == bool:
        if len(array) != n_obs:
            raise ParameterError(f"{argument} is a mask of length {len(array)}, but there are {n_obs} {of}")
        return np.flatnonzero(array)
    # Beyond 64 bits integers are objects.
    whole = array.dtype.kind in "iu" or all(isinstance(value, int | np.integer) for value in array)
    if len(array) and not whole:
        hint = "; positions are integers: astype(int)" if array.dtype.kind == "f" else ""
        raise ParameterTypeError(f"{argument} must be positions, a mask or {names}, got values like {array[0]!r}{hint}")
    _check_bounds(array, n_obs, argument, of)
    return array.astype(np.int64)


def _check_bounds(rows: NDArray[Any], n_obs: int, argument: str, of: str) -> None:
    wrong = rows[(rows < 0) | (rows >= n_obs)]
    if len(wrong):
        raise RowIndexError(f"{argument} must lie in 0 … {n_obs - 1} ({n_obs} {of}), got {wrong[0]}")


def brief_rows(rows: Rows) -> str:
    """``rows`` for a repr: whole if that is short."""
    if isinstance(rows, range) or len(rows) <= 8:
        return repr(rows if isinstance(rows, range) else rows.tolist())
    return f"<{len(rows):,} rows>"


def rows_fingerprint(rows: Rows) -> str:
    """A few characters that differ for other rows, or for another order of them."""
    if isinstance(rows, range):
        return f"{rows.start}:{rows.stop}"
    return f"{len(rows)} rows, crc {zlib.crc32(np.ascontiguousarray(rows, np.int64).data):08x}"


def take_rows(rows: Rows, positions: RowArray) -> RowArray:
    """The rows at ``positions``; shape as ``positions``."""
    if isinstance(rows, range):
        return positions + rows.start if rows.start else positions
    return rows[positions]


def values_of(values: NDArray[Any], rows: Rows) -> NDArray[Any]:
    """The values that ``rows`` have; a view of them if rows are a range."""
    return values[rows.start : rows.stop] if isinstance(rows, range) else values[rows]


def join_ranges(starts: RowArray, lengths: RowArray) -> RowArray:
    """``start … start+length-1`` of each pair, one after the other.

    >>> join_ranges(np.array([5, 0]), np.array([2, 3]))
    array([5, 6, 0, 1, 2])
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(total)  # (total,)


def runs(rows: RowArray) -> tuple[RowArray, RowArray]:
    """First rows and lengths of the stretches of consecutive numbers in ascending ``rows``.

    >>> runs(np.array([3, 4, 5, 9]))
    (array([3, 9]), array([3, 1]))
    """
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    firsts = np.concatenate([[0], breaks]) if len(rows) else np.zeros(0, np.int64)
    return rows[firsts], np.diff(np.append(firsts, len(rows)))
