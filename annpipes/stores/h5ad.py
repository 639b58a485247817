"""Rows of an ``.h5ad`` file: which fields it has, and how each is encoded.

Encodings follow anndata's on-disk format,
https://anndata.readthedocs.io/en/stable/fileformat-prose.html
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import h5py
import numpy as np
import pandas as pd

from annpipes.stores.arrays import DenseByNumpy
from annpipes.stores.base import FieldStore
from annpipes.stores.bytes.remote import Remote
from annpipes.stores.bytes.remote_file import RemoteFile
from annpipes.stores.containers.hdf5 import Hdf5File
from annpipes.stores.elements import Element, open_element
from annpipes.stores.frame import Column, column_of, refuse_twice
from annpipes.stores.generics import AnyIndex, AnySeries
from annpipes.stores.protocol import MatrixReader
from annpipes.stores.refusals import refuse_other_hdf5
from annpipes.stores.routes import Route
from annpipes.stores.surveying import encoding_of, sparse_shape
from annpipes.stores.tables import (
    frame_columns,
    frame_length,
    index_key,
    is_frame,
    member_names,
    read_column,
    read_frame,
    read_index,
)

__all__ = ["H5adStore", "open_matrix"]


class H5adStore(FieldStore):
    """An ``.h5ad`` file, opened when something is asked of it.

    Of each field that is asked for, what stays in memory is ``indptr`` of a sparse matrix
    and the whole of an obs column; matrices are read row by row.
    """

    def __init__(self, path: str | os.PathLike[str] | RemoteFile) -> None:
        super().__init__()
        self.remote: Remote | None = path.remote if isinstance(path, RemoteFile) else None
        self.name: str = path.remote.last if isinstance(path, RemoteFile) else os.path.basename(path)
        self.file: Hdf5File = Hdf5File(path if isinstance(path, RemoteFile) else os.fspath(path))
        self.distant: bool = self.file.source.distant
        with self.file.open() as file:
            refuse_other_hdf5(file, self.file.path)
            self.n_obs: int = frame_length(file["obs"])
            self.n_vars: int = frame_length(file["var"])

    def fingerprint(self) -> Mapping[str, str | int]:
        """Size rather than name: a file that was moved is still the same."""
        return {"n_obs": self.n_obs, "n_vars": self.n_vars, "file_bytes": self.file.source.size}

    def __repr__(self) -> str:
        return repr(self.file.path if self.remote is None else self.remote)

    @property
    def files(self) -> tuple[str, ...]:
        return (self.file.path,)

    @property
    def stored_bytes(self) -> int:
        """What it takes where it is."""
        return self.file.source.size

    @property
    def obs_names(self) -> AnyIndex:
        return self._index_of("obs")

    @property
    def obs_index(self) -> AnyIndex:
        with self.file.reading("obs") as file:
            key = index_key(file["obs"])
        return self.obs_names.rename(None if key == "_index" else key)  # as anndata calls it

    def series(self, column: Any) -> AnySeries:
        with self.file.reading(f"obs/{column}") as file:
            refuse_twice(frame_columns(file["obs"]), column, self.name)
            return read_column(file, "obs", column)

    @property
    def var_names(self) -> AnyIndex:
        return self._index_of("var")

    def _index_of(self, name: str) -> AnyIndex:
        with self.file.reading(name) as file:
            return read_index(file, name)

    @property
    def var(self) -> pd.DataFrame:
        return self._frame("var")

    def _raw_var(self) -> pd.DataFrame:
        return self._frame(self._raw_var_path)

    def _frame(self, path: str) -> pd.DataFrame:
        return frame_at(self.file, path)

    @property
    def _raw_var_path(self) -> str:
        return var_of(self._raw)

    def gene_column(self, column: str, *, raw: bool = False) -> AnySeries:
        path = self._raw_var_path if raw else "var"
        with self.file.reading(path) as file:
            if frame_columns(file[path]).count(column) == 1:
                return read_column(file, path, column)
        return super().gene_column(column, raw=raw)  # whose error names the existing ones

    def close(self) -> None:
        self.file.source.close()

    def column_names(self, field: str) -> AnyIndex | None:
        if field == "raw/X":
            return self._index_of(self._raw_var_path)
        with self.file.reading(field) as file:
            return pd.Index(frame_columns(file[field])) if field in file and is_frame(file[field]) else None

    @cached_property
    def _raw(self) -> str:
        return raw_x(self.file)

    def _list_fields(self) -> Sequence[str]:
        with self.file.open() as file:
            groups = {name: member_names(file[name]) if name in file else () for name in ("layers", "obsm")}
            return [
                *(["X"] if _present(file, "X") else []),
                *(f"layers/{key}" for key in groups["layers"]),
                *(["raw/X"] if _present(file, self._raw) else []),
                *(f"obsm/{key}" for key in groups["obsm"]),
                *dict.fromkeys(f"obs/{column}" for column in frame_columns(file["obs"])),
            ]

    @property
    def container(self) -> Hdf5File:
        """What holds its arrays."""
        return self.file

    def path_of(self, field: str) -> str:
        """Where a matrix stands in the file."""
        return self._raw if field == "raw/X" else field

    def described(self, path: str) -> Element:
        """What is said of the element at ``path``."""
        with self.file.reading(path) as opened:
            return _described(opened[path]) if path in opened else Element("table")

    def _open_matrix(self, group: str, key: str) -> MatrixReader:
        if group == "raw":
            return open_matrix(self.file, self._raw)
        with self.file.reading(group) as file:
            together = isinstance(file[group], h5py.Dataset) and bool(key)  # anndata < 0.7: one table of all in obsm
            if together:
                values = np.asarray(file[group][key])  # one column: a number in each record
                return DenseByNumpy(values.reshape(len(values), -1), route=Route("memory", "a table"))
        return open_matrix(self.file, f"{group}/{key}" if key else group)

    def _open_column(self, column: str) -> Column:
        return column_of(self.series(column), f"obs/{column} of {self.name}")


def raw_x(file: Hdf5File) -> str:
    """Where raw's X is; anndata < 0.7 had no group for raw."""
    with file.open() as opened:
        return "raw.X" if "raw.X" in opened else "raw/X"


def var_of(path: str) -> str:
    """Where the table of raw's genes is, beside raw's X at ``path``."""
    return path.replace("X", "var")


def frame_at(file: Hdf5File, path: str) -> pd.DataFrame:
    """A table of a file."""
    with file.reading(path) as opened:
        return read_frame(opened, path)


def open_matrix(file: Hdf5File, path: str) -> MatrixReader:
    """The rows of the matrix at ``path``.

    Raises
    ------
    FormatError
        It is stored by columns, or is no matrix.
    """
    with file.reading(path) as opened:
        element = _described(opened[path])

    def table() -> pd.DataFrame:
        with file.reading(path) as opened:
            return read_frame(opened, path)

    return open_element(file, path, element, table, "read_h5ad")


def _described(element: h5py.Group | h5py.Dataset) -> Element:
    if is_frame(element):
        return Element("table")
    if isinstance(element, h5py.Dataset):
        return Element("array", shape=tuple(element.shape or ()), dtype=element.dtype)
    data, said = element.get("data"), element.attrs.get("shape", element.attrs.get("h5sparse_shape"))
    dtype = data.dtype if isinstance(data, h5py.Dataset) else None
    return Element("group", encoding_of(element), sparse_shape(element), dtype, said)


def _present(file: h5py.File, path: str) -> bool:
    try:
        return path in file and file[path].attrs.get("encoding-type") != "null"
    except Exception:  # it is there, and opening it will report what is wrong
        return True
