"""Rows of the tables of several files, column by column, in pandas' types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from numpy.typing import NDArray

from annpipes.errors import FormatError
from annpipes.plans.rows import RowArray
from annpipes.stores.collection.alignment import union
from annpipes.stores.containers.slabs import rows_in_slabs
from annpipes.stores.frame import MISSING_LABEL
from annpipes.stores.generics import AnySeries
from annpipes.stores.row_space import RowSpace
from annpipes.stores.series import TEXT, as_dtype, common_dtype, is_mixed
from annpipes.stores.surveying import encoding_of
from annpipes.stores.tables import frame_columns, frame_length, index_key, is_plain_frame, read_column, read_index
from annpipes.stores.writing.inputs import Input
from annpipes.types import Chunk

__all__ = ["Table", "scratch_file"]


class Table:
    """One table (``obs``, or one of ``obsm``) over the rows of several files.

    Of columns, those that all files have, in the type that `common_dtype` gives them. Where strings stand for numbers
    of some files, what is missing is ``""``.
    """

    def __init__(self, stores: Sequence[Input], path: str, space: RowSpace, without: Sequence[str] = ()) -> None:
        self.stores: Sequence[Input] = stores
        self.path: str = path
        self.space: RowSpace = space
        listed = [_columns(store, path) for store in stores]
        self.columns: list[str] = [name for name in listed[0] if all(name in names for names in listed)]
        self.columns = [name for name in self.columns if f"{path}/{name}" not in without and path not in without]
        self.left_out: list[str] = [name for name in union(listed) if name not in self.columns]
        with stores[0].file.reading(path) as file:
            self.index_name: str = index_key(file[path])
        self._known: dict[str, list[Any]] = {}

    def index(self, rows: RowArray) -> NDArray[Any]:
        """The names of these rows, in the order given; objects ``(n,)``."""
        return np.asarray(self._gather(None, rows, np.dtype(object)), object)

    def column(self, name: str, rows: RowArray, dtype: Any) -> Any:
        """The values of a column for these rows, in the order given and in its `dtype`, as an array ``(n,)``."""
        return self._gather(name, rows, dtype)

    def dtype(self, name: str) -> Any:
        """What a column is over all files; strings of which some may be missing are nullable ones."""
        dtypes = self._dtypes(name)
        dtype = common_dtype(dtypes)
        if dtype != TEXT or is_mixed(dtypes) or all(isinstance(one, np.dtype) for one in dtypes):
            return dtype
        return pd.StringDtype()

    def check(self) -> None:
        """Raise what writing it would: a column twice, or an integer that the column of all files cannot hold."""
        for store in self.stores:
            twice = [name for name, count in Counter(_columns(store, self.path)).items() if count > 1]
            if twice:
                raise FormatError(
                    f"{self.path} of {store.path} has the column {twice[0]!r} twice: rename one and write it again"
                )
        for name in self.columns:
            dtype = self.dtype(name)
            if getattr(dtype, "kind", "") == "f" and not all(
                isinstance(one, np.dtype) and one.kind == "f" for one in self._dtypes(name)
            ):
                for number, store in enumerate(self.stores):
                    whole = _some_rows(store, self.path, name, np.arange(store.n_obs))
                    self._converted(whole, number, name, dtype)

    def _dtypes(self, name: str) -> list[Any]:
        none = np.zeros(0, np.int64)
        if name not in self._known:
            self._known[name] = [_some_rows(store, self.path, name, none).dtype for store in self.stores]
        return self._known[name]

    def _converted(self, values: AnySeries, number: int, name: str | None, dtype: Any) -> AnySeries:
        what = f"{self.path}/{name or 'index'} of {self.stores[number].path}"
        values = as_dtype(values, dtype, what)
        # A column of strings has no place for what is missing, as documented.
        return values.where(values.notna(), MISSING_LABEL) if dtype == TEXT else values

    def _gather(self, name: str | None, rows: RowArray, dtype: Any) -> Any:
        chunk = Chunk.of(rows)
        parts = [
            self._converted(
                _some_rows(self.stores[share.number], self.path, name, share.rows), share.number, name, dtype
            )
            for share in self.space.shares(chunk.rows)
        ] or [pd.Series([], dtype=dtype)]
        together = parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)
        return together.iloc[chunk.order].values


def scratch_file() -> h5py.File:
    """An HDF5 file in memory."""
    return h5py.File("scratch", "w", driver="core", backing_store=False)


def _columns(store: Input, path: str) -> tuple[str, ...]:
    with store.file.reading(path) as file:
        return frame_columns(file[path])


def _some_rows(store: Input, path: str, column: str | None, rows: RowArray) -> AnySeries:
    """A column (None: the names) of ascending ``rows``."""
    with store.file.reading(f"{path}/{column or 'index'}") as file:
        frame = file[path]
        if not is_plain_frame(frame):  # of old versions, which anndata reads whole
            whole = read_index(file, path).to_series() if column is None else read_column(file, path, column)
            return whole.iloc[rows].reset_index(drop=True)
        name = column or index_key(frame)
        if _is_text(frame[name]):  # not through a copy in HDF5, which takes most of the time
            return pd.Series(rows_in_slabs(frame[name], rows, text=True), dtype=object)
        if column is None:  # numbers, categories, bytes, nullable strings
            return pd.Series(np.asarray(read_index(file, path), object)[rows], dtype=object)
        with scratch_file() as scratch:
            _pick(frame, name, scratch, rows, frame_length(frame))
            values = read_elem(scratch[name])
    return pd.Series(values).reset_index(drop=True)


def _pick(group: h5py.Group, name: str, target: h5py.Group, rows: RowArray, length: int) -> None:
    """Copy an element with only some of its rows."""
    element = group[name]
    if isinstance(element, h5py.Group):
        copy = target.create_group(name)
        for part in element:
            _pick(element, part, copy, rows, length)
    elif element.shape[:1] != (length,) or name == "categories":
        group.copy(name, target)
        return
    else:
        copy = target.create_dataset(name, data=rows_in_slabs(element, rows), dtype=element.dtype)
    for key, value in element.attrs.items():
        copy.attrs[key] = value


def _is_text(element: h5py.Group | h5py.Dataset) -> bool:
    """Whether an element is a row of strings without missing values."""
    return isinstance(element, h5py.Dataset) and encoding_of(element) == "string-array"
