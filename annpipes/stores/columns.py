"""Columns of a table, in every encoding that anndata reads.

https://anndata.readthedocs.io/en/stable/fileformat-prose.html; other languages leave out attributes, store one value
as no array, and booleans as integers, which is read as well.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from numpy.typing import NDArray

from annpipes.errors import DamageError, FormatError

__all__ = ["column_encoding", "column_length", "read_values", "rows_of", "text_of"]

_NULLABLE = {"nullable-integer", "nullable-boolean", "nullable-string-array"}
_UNKNOWN = "store it as numbers, strings or categories, or leave it out"


def text_of(value: Any) -> Any:
    """An attribute, decoded where it is text of fixed length or an array of one, as other languages write it."""
    if isinstance(value, np.ndarray) and value.shape == (1,):
        value = value[0]
    return value.decode() if isinstance(value, bytes) else value


def column_encoding(element: h5py.Group | h5py.Dataset) -> str:
    """How a column is encoded; judged by its parts where it does not say."""
    said = str(text_of(element.attrs.get("encoding-type", "")))
    if said or isinstance(element, h5py.Dataset):
        return said
    if "codes" in element and "categories" in element:
        return "categorical"
    if "values" in element and "mask" in element:
        values = element["values"]
        kind = values.dtype.kind if isinstance(values, h5py.Dataset) else ""
        return {"b": "nullable-boolean", "i": "nullable-integer", "u": "nullable-integer"}.get(
            kind, "nullable-string-array"
        )
    return ""


def rows_of(element: h5py.Group | h5py.Dataset) -> h5py.Dataset:
    """The dataset of a column that has a value for each row."""
    if isinstance(element, h5py.Dataset):
        return element
    encoding = column_encoding(element)
    if encoding == "categorical":
        return rows_of(element["codes"])
    if encoding in _NULLABLE:
        return rows_of(element["values"])
    raise FormatError(
        f"{_where(element)} is a group encoded as {encoding or 'nothing'!r}, which is not a column: {_UNKNOWN}"
    )


def _where(element: h5py.Group | h5py.Dataset) -> str:
    return f"{str(element.name).lstrip('/')} of {element.file.filename}"


def column_length(element: h5py.Group | h5py.Dataset) -> int:
    """How many rows a column has, whatever its encoding."""
    rows = rows_of(element)
    if not rows.shape or len(rows.shape) > 1:
        what = f"has {len(rows.shape)} dimensions" if rows.shape else "is one value or none"
        raise FormatError(f"{_where(rows)} {what}, not one value for each row")
    return int(rows.shape[0])


def read_values(element: h5py.Group | h5py.Dataset, *, aside: bool = False) -> Any:
    """The values of a column, ``(n,)`` or a single one, as an array of numpy or pandas.

    Parameters
    ----------
    element
        The column.
    aside
        Whether codes refer to categories that stand elsewhere, as in tables of version 0.1.0.
    """
    where, encoding = _where(element), column_encoding(element)
    rows = rows_of(element)
    _refuse_type(rows, where)
    if aside and isinstance(element, h5py.Dataset) and "categories" in element.attrs:
        labels = element.parent[text_of(element.attrs["categories"])]
        return _categorical(element, labels, bool(text_of(labels.attrs.get("ordered", False))), where)
    if isinstance(element, h5py.Dataset):
        return _read(element, where)
    if encoding == "categorical":
        ordered = bool(text_of(element.attrs.get("ordered", False)))
        return _categorical(element["codes"], element["categories"], ordered, where)
    return _nullable(element, encoding, where)


def _refuse_type(rows: h5py.Dataset, where: str) -> None:
    dtype = rows.dtype
    if rows.shape is None:
        raise FormatError(f"{where} is empty (an empty dataspace): leave it out")
    if len(rows.shape) > 1:
        raise FormatError(f"{where} has {len(rows.shape)} dimensions, but a column has one: put it into obsm")
    if dtype.kind == "V" or (dtype.kind == "O" and h5py.check_string_dtype(dtype) is None):
        raise FormatError(f"{where} holds {dtype}, which is neither numbers nor text: {_UNKNOWN}")


def _read(element: h5py.Group | h5py.Dataset, where: str) -> Any:
    """What anndata reads of an element; text that calls itself ASCII and is not, as UTF-8."""
    encoding = str(text_of(element.attrs.get("encoding-type", "")))
    version = str(text_of(element.attrs.get("encoding-version", "")))
    if isinstance(element, h5py.Dataset):
        kind = h5py.check_string_dtype(element.dtype)
        untold = encoding == "" and kind is not None and (kind.encoding == "utf-8" or kind.length is not None)
        if kind is not None and (untold or encoding in ("string-array", "string")):
            return _text(element)
        if encoding in ("", "array", "numeric-scalar"):
            return element[()]
    try:
        return read_elem(element)
    except Exception as error:
        if type(error).__name__ != "IORegistryError":
            raise
        raise FormatError(
            f"{where} is encoded as {encoding!r} {version!r}, which the installed anndata does not know: {_UNKNOWN}"
        ) from error


def _text(dataset: h5py.Dataset) -> Any:
    """Text in UTF-8, of which ASCII is a part."""
    found = dataset.asstr("utf-8")[()]
    return found if isinstance(found, str) else np.asarray(found, object)


def _categorical(codes: Any, labels: Any, ordered: bool, where: str) -> pd.Categorical:
    if isinstance(labels, h5py.Dataset) and labels.shape is None:
        categories: Any = np.zeros(0, object)
    else:
        categories = read_values(labels)
        categories = np.atleast_1d(categories) if np.ndim(categories) == 0 else categories
    numbers = np.asarray(_read(codes, where))
    if numbers.dtype.kind not in "iu":
        raise FormatError(f"{where} has codes of {numbers.dtype}, but codes are whole numbers")
    if len(numbers) and not -1 <= int(numbers.min()) <= int(numbers.max()) < len(categories):
        wrong = np.flatnonzero((numbers < -1) | (numbers >= len(categories)))
        raise DamageError(
            f"{where} has the code {numbers[wrong[0]]} in row {wrong[0]}, but only {len(categories)} categories; "
            f"a missing one has code -1"
        )
    index = pd.Index(categories)
    if index.has_duplicates or index.hasnans:
        raise FormatError(
            f"{where} has a duplicate or missing category, which neither pandas nor anndata can read: "
            f"store it as strings"
        )
    smallest = np.result_type(np.int8, np.min_scalar_type(-len(index) - 1))  # as pandas has them, without a wider copy
    return pd.Categorical.from_codes(numbers.astype(smallest, copy=False), index, ordered=ordered)


def _nullable(group: h5py.Group, encoding: str, where: str) -> Any:
    """As anndata reads it; booleans, and the mask, may be integers 0 and 1."""
    if "mask" not in group:
        raise FormatError(f"{where} has no 'mask', which says what is missing: write it again with anndata")
    mask = np.asarray(_read(group["mask"], where))
    values = np.asarray(_read(group["values"], where))
    if mask.shape != values.shape:
        raise DamageError(f"{where} has {len(values)} values, but its mask has {np.size(mask)}")
    mask = _truths(mask, f"the mask of {where}")
    if encoding == "nullable-string-array":
        missing = np.nan if text_of(group.attrs.get("na-value", "NA")) == "NaN" else pd.NA
        strings = pd.array([text_of(value) for value in values.tolist()], dtype=_string_dtype(missing))
        strings[mask] = pd.NA
        return strings
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if encoding == "nullable-boolean":
        return pd.arrays.BooleanArray(_truths(values, where, mask), mask=mask)
    if values.dtype.kind not in "iu":
        raise FormatError(f"{where} is encoded as {encoding} but holds {values.dtype}, not whole numbers: {_UNKNOWN}")
    return pd.arrays.IntegerArray(values, mask=mask)


def _string_dtype(missing: Any) -> Any:
    """The type of pandas' strings, which knew one kind of missing value before version 3."""
    return pd.StringDtype(na_value=missing) if pd.__version__ >= "3" else "string"


def _truths(values: NDArray[Any], where: str, mask: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    if values.dtype.kind == "b":
        return values
    known = values if mask is None else values[~mask]
    if values.dtype.kind not in "iu" or ((known != 0) & (known != 1)).any():
        raise FormatError(f"{where} must be booleans, or integers 0 and 1, but holds other {values.dtype}")
    return np.asarray(values == 1)
