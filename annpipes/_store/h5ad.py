"""Rows of an ``.h5ad`` file: which fields it has, and how each is encoded.

Encodings follow anndata's on-disk format,
https://anndata.readthedocs.io/en/stable/fileformat-prose.html
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from numpy.typing import NDArray

from annpipes._store.base import FieldStore
from annpipes._store.frame import Column, column_of
from annpipes._store.hdf5 import Hdf5File
from annpipes._store.matrix import DenseFile, SparseFile
from annpipes._store.protocol import MatrixReader
from annpipes.errors import FormatError

__all__ = ["H5adStore", "open_matrix"]


class H5adStore(FieldStore):
    """An ``.h5ad`` file, opened when something is asked of it.

    Of each field that is asked for, what stays in memory is ``indptr`` of a sparse matrix
    and the whole of an obs column; matrices are read row by row.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self.name = os.path.basename(path)
        self.file = Hdf5File(os.fspath(path))
        with self.file.open() as file:
            if "obs" not in file or "var" not in file:
                raise FormatError(f"{path} is no AnnData file: it has no group 'obs' or 'var' ({', '.join(file)})")
            self.n_obs, self.n_vars = _frame_length(file["obs"]), _frame_length(file["var"])

    def fingerprint(self) -> Mapping[str, str | int]:
        """Size rather than name: a file that was moved is still the same."""
        return {"n_obs": self.n_obs, "n_vars": self.n_vars, "file_bytes": self.file.stamp[0]}

    def __repr__(self) -> str:
        return repr(self.file.path)

    @property
    def obs_names(self) -> pd.Index[Any]:
        return self._frame_index("obs")

    @property
    def var_names(self) -> pd.Index[Any]:
        return self._frame_index("var")

    def _frame_index(self, name: str) -> pd.Index[Any]:
        with self.file.open() as file:
            frame = file[name]
            table = isinstance(frame, h5py.Dataset)
            names: pd.Index[Any] = pd.Index(
                _decoded(frame[_index_key(frame)]) if table else read_elem(frame[_index_key(frame)])
            )
        return names.astype(str)

    def _list_fields(self) -> Sequence[str]:
        with self.file.open() as file:
            groups = {name: tuple(file[name]) if name in file else () for name in ("layers", "obsm")}
            return [
                *(["X"] if _present(file, "X") else []),
                *(f"layers/{key}" for key in groups["layers"]),
                *(["raw/X"] if _present(file, "raw/X") else []),
                *(f"obsm/{key}" for key in groups["obsm"]),
                *(f"obs/{column}" for column in _frame_columns(file["obs"])),
            ]

    def _open_matrix(self, group: str, key: str) -> MatrixReader:
        return open_matrix(self.file, f"{group}/{key}" if key else group)

    def _open_column(self, column: str) -> Column:
        with self.file.reading(f"obs/{column}") as file:
            frame = file["obs"]
            if isinstance(frame, h5py.Dataset):
                return column_of(_table_column(file, column))
            if "__categories" in frame:  # anndata 0.7 kept them aside, and can only read the whole frame
                return column_of(read_elem(frame)[column])
            return column_of(pd.Series(read_elem(frame[column])))


def open_matrix(file: Hdf5File, path: str) -> MatrixReader:
    """The rows of the matrix at ``path``.

    Raises
    ------
    FormatError
        It is stored by columns, or is no matrix.
    """
    with file.reading(path) as opened:
        element = opened[path]
        attributes = dict(element.attrs)
        dense = isinstance(element, h5py.Dataset)
        # anndata < 0.7 wrote h5sparse_format and h5sparse_shape.
        shape = element.shape if dense else attributes.get("shape", attributes.get("h5sparse_shape"))
        encoding = attributes.get("encoding-type", attributes.get("h5sparse_format", "unknown"))
    if dense:
        if len(element_shape := tuple(shape or ())) != 2:
            raise FormatError(f"{path} of {file.path} has shape {element_shape}, not two dimensions")
        return DenseFile(file, path)
    if encoding in ("csr_matrix", "csr") and shape is not None:
        sides = np.atleast_1d(shape)
        if sides.shape != (2,) or sides.dtype.kind not in "iu" or (sides < 0).any():
            raise FormatError(f"{path} of {file.path} has shape {shape!r}, not two numbers")
        return SparseFile(file, path, (int(sides[0]), int(sides[1])))
    if encoding in ("csc_matrix", "csc"):
        raise FormatError(
            f"{path} of {file.path} is stored by columns (CSC), which has no rows to read. Write it as CSR once: "
            f"adata = anndata.read_h5ad({file.path!r}); {_attribute(path)} = {_attribute(path)}.tocsr(); "
            f"adata.write_h5ad(…)"
        )
    raise FormatError(f"{path} of {file.path} is encoded as {encoding!r}, not as a dense or CSR matrix")


def _attribute(path: str) -> str:
    """How Python reaches an element: ``layers/counts`` is ``adata.layers['counts']``."""
    group, _, key = path.partition("/")
    return f"adata.{group}" if not key else f"adata.raw.{key}" if group == "raw" else f"adata.{group}[{key!r}]"


def _present(file: h5py.File, path: str) -> bool:
    try:
        return path in file and file[path].attrs.get("encoding-type") != "null"
    except Exception:  # it is there, and opening it will tell what is wrong
        return True


def _table_column(file: h5py.File, column: str) -> pd.Series[Any]:
    """A column of a compound table, as anndata 0.6 wrote obs: codes there, their categories in uns."""
    values = file["obs"][column]
    if (categories := f"uns/{column}_categories") in file:
        return pd.Series(pd.Categorical.from_codes(values, pd.Index(_decoded(file[categories][:]))))
    return pd.Series(_decoded(values) if values.dtype.kind in "SO" else values)


def _decoded(strings: NDArray[Any]) -> list[str]:
    """Strings as old files have them: bytes."""
    return [value.decode() if isinstance(value, bytes) else str(value) for value in strings.tolist()]


def _index_key(frame: h5py.Group | h5py.Dataset) -> str:
    if isinstance(frame, h5py.Dataset):
        return str(frame.dtype.names[0])
    return str(frame.attrs.get("_index", "index" if "index" in frame else "_index"))


def _frame_length(frame: h5py.Group | h5py.Dataset) -> int:
    return len(frame) if isinstance(frame, h5py.Dataset) else len(frame[_index_key(frame)])


def _frame_columns(frame: h5py.Group | h5py.Dataset) -> tuple[str, ...]:
    if isinstance(frame, h5py.Dataset):  # a compound table, as anndata < 0.7 wrote it
        return tuple(name for name in frame.dtype.names if name != _index_key(frame))
    ordered = [str(column) for column in frame.attrs.get("column-order", ())]
    return tuple(ordered or (key for key in frame if key not in (_index_key(frame), "__categories")))
