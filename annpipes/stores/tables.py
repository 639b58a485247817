"""Tables of an ``.h5ad`` file, as anndata writes them and as it wrote them since version 0.5.

https://anndata.readthedocs.io/en/stable/fileformat-prose.html#dataframes; before version 0.7 a table was one
dataset of compound elements, its categories in ``uns``, and strings were bytes.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from annpipes.errors import FormatError
from annpipes.stores.columns import column_length, read_values, text_of
from annpipes.stores.containers.hdf5_tables import need_filters
from annpipes.stores.generics import AnyIndex, AnySeries

__all__ = [
    "frame_columns",
    "frame_length",
    "index_key",
    "is_frame",
    "is_plain_frame",
    "matrix_of",
    "member_names",
    "names_of",
    "read_column",
    "read_frame",
    "read_index",
    "text_of",
]


def is_frame(element: h5py.Group | h5py.Dataset) -> bool:
    """Whether an element is a table."""
    if isinstance(element, h5py.Dataset):
        return element.dtype.names is not None and len(element.shape or ()) == 1
    return bool(text_of(element.attrs.get("encoding-type")) == "dataframe")


def member_names(element: h5py.Group | h5py.Dataset) -> tuple[str, ...]:
    """What a group holds; before anndata 0.7, obsm was one compound dataset."""
    return tuple(element.dtype.names or ()) if isinstance(element, h5py.Dataset) else tuple(element)


def frame_length(frame: h5py.Group | h5py.Dataset) -> int:
    """How many rows a table has."""
    return len(frame) if isinstance(frame, h5py.Dataset) else column_length(frame[index_key(frame)])


def frame_columns(frame: h5py.Group | h5py.Dataset) -> tuple[str, ...]:
    """The columns of a table without its index."""
    if isinstance(frame, h5py.Dataset):
        return tuple(name for name in frame.dtype.names or () if name != index_key(frame))
    ordered = frame.attrs.get("column-order")
    if ordered is None:
        return tuple(key for key in frame if key not in (index_key(frame), "__categories"))
    if isinstance(ordered, h5py.Empty):
        return ()
    return tuple(str(text_of(column)) for column in np.atleast_1d(ordered))  # one column alone may be no array


def read_index(file: h5py.File, path: str) -> AnyIndex:
    """The names of a table's rows, as text."""
    frame = file[path]
    values = _readable(frame, index_key(frame))
    if isinstance(frame, h5py.Dataset):
        return pd.Index(_decoded(values)).astype(str)
    return names_of(read_values(values))


def names_of(found: Any) -> AnyIndex:
    """The values of a table's index as names: text."""
    found = found.astype(np.float64) if found.dtype == np.float16 else found  # pandas has no such index
    names: AnyIndex = pd.Index(found)
    if isinstance(found, np.ndarray) and found.dtype.kind in "cfbiu":
        return names.astype(str)
    return pd.Index(
        [name.decode() if isinstance(name, bytes) else str(name) for name in names],
        dtype=object if names.dtype == object else None,
    ).astype(str)


def read_column(file: h5py.File, path: str, column: str) -> AnySeries:
    """One column of a table."""
    frame = file[path]
    if not isinstance(frame, h5py.Dataset):
        found = read_values(_readable(frame, column), aside=not is_plain_frame(frame))
        if np.ndim(found) == 0 or (isinstance(found, np.ndarray) and len(found) == 1):  # anndata repeats it
            repeated = np.repeat(np.atleast_1d(np.asarray(found, _dtype_of(found))), frame_length(frame))
            return pd.Series(repeated)
        return pd.Series(found, copy=False)  # which pandas 3 would copy
    values = frame[column]
    if (place := f"uns/{column}_categories") in file and values.dtype.kind in "iu":
        categories = _decoded(np.atleast_1d(file[place][()]))
        if (values < len(categories)).all():  # else they are those of a column of var that has the same name
            return pd.Series(pd.Categorical.from_codes(values, pd.Index(categories)))
    return pd.Series(_decoded(values) if values.dtype.kind in "SO" else values, copy=False)


def _dtype_of(values: Any) -> Any:
    """The type of values, or of one; strings are objects."""
    return object if isinstance(values, str) else values.dtype


def read_frame(file: h5py.File, path: str) -> pd.DataFrame:
    """A whole table."""
    frame = file[path]
    names = frame_columns(frame)
    columns = {column: read_column(file, path, column).array for column in names}
    whole = pd.DataFrame(columns, index=read_index(file, path), columns=list(names) or None)
    if not isinstance(frame, h5py.Dataset) and (key := index_key(frame)) != "_index":
        whole.index.name = key
    return whole


def matrix_of(frame: pd.DataFrame, where: str) -> NDArray[Any]:
    """The columns of a table side by side, ``(n, columns)``; they must hold numbers."""
    wrong = [column for column in frame if not _is_real(frame[column].dtype)]
    if wrong:
        raise FormatError(
            f"{where} is a table whose column {wrong[0]!r} holds {frame[wrong[0]].dtype}, not numbers: copy it to obs"
        )
    missing = frame.isna().to_numpy().any()
    values = frame.to_numpy(np.float64, na_value=np.nan) if missing else np.asarray(frame.to_numpy())
    return values if values.dtype.kind in "biuf" else values.astype(np.float64)


def _is_real(dtype: Any) -> bool:
    """Whether values are booleans, integers or floats of at most 64 bits."""
    if isinstance(dtype, np.dtype):
        return dtype.kind in "biuf" and dtype.itemsize <= 8
    return bool(pd.api.types.is_numeric_dtype(dtype))


def _readable(frame: h5py.Group | h5py.Dataset, name: str) -> Any:
    """A column or group of a table, once the filters that it needs are there."""
    if isinstance(frame, h5py.Dataset):
        need_filters(frame, f"{frame.name} of {frame.file.filename}")
        return frame[name]
    element = frame[name]
    for part in element.values() if isinstance(element, h5py.Group) else [element]:
        if isinstance(part, h5py.Dataset):
            need_filters(part, f"{part.name} of {part.file.filename}")
    return element


def is_plain_frame(frame: h5py.Group | h5py.Dataset) -> bool:
    """Whether each column of a table is an element of its own, as since anndata 0.8."""
    if isinstance(frame, h5py.Dataset):
        return False
    return "__categories" not in frame and text_of(frame.attrs.get("encoding-version")) != "0.1.0"


def index_key(frame: h5py.Group | h5py.Dataset) -> str:
    """The name under which a table keeps the names of its rows."""
    if isinstance(frame, h5py.Dataset):
        return str((frame.dtype.names or ("",))[0])
    return str(text_of(frame.attrs.get("_index", "index" if "index" in frame else "_index")))


def _decoded(strings: NDArray[Any]) -> list[str]:
    """Strings as old files have them: bytes."""
    return [value.decode() if isinstance(value, bytes) else str(value) for value in strings.tolist()]
