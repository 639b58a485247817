"""The store for an AnnData in a Zarr store.

https://anndata.readthedocs.io/en/stable/fileformat-prose.html; tables are read by anndata itself.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from anndata.io import read_elem

from annpipes.stores.base import FieldStore
from annpipes.stores.bytes.remote import Remote
from annpipes.stores.containers.zarr import ZarrGroup
from annpipes.stores.containers.zarr_places import Places
from annpipes.stores.elements import Element, open_element
from annpipes.stores.frame import Column, column_of, refuse_twice
from annpipes.stores.generics import AnyIndex, AnySeries
from annpipes.stores.protocol import MatrixReader
from annpipes.stores.refusals import refuse_other_zarr
from annpipes.stores.surveying import encoding_of, sparse_shape
from annpipes.stores.tables import names_of, text_of

__all__ = ["ZarrStore"]

_COLUMN_BY_COLUMN = "0.2.0"
"""The version of tables whose columns are elements of their own, as since anndata 0.8."""


class ZarrStore(FieldStore):
    """An AnnData in a Zarr store, opened when something is asked of it.

    What stays in memory is that of an `H5adStore`, and where each storage chunk lies.
    """

    def __init__(self, path: str | os.PathLike[str] | Places) -> None:
        super().__init__()
        self.container: ZarrGroup = ZarrGroup(path if isinstance(path, Places) else os.fspath(path))
        self.remote: Remote | None = self.container.places.remote
        self.path: str = self.container.path
        self.distant: bool = self.remote is not None
        self.name: str = os.path.basename(os.path.normpath(self.path))
        refuse_other_zarr(self.container.group, self.path)
        self.n_obs: int = self._length("obs")
        self.n_vars: int = self._length("var")

    def __repr__(self) -> str:
        return repr(self.path if self.remote is None else self.remote)

    def fingerprint(self) -> Mapping[str, str | int]:
        """Arrays rather than the name: a store that was moved is still the same."""
        return {"n_obs": self.n_obs, "n_vars": self.n_vars, "arrays": self._arrays}

    @cached_property
    def _arrays(self) -> str:
        members = sorted(self.container.members())
        listed = [(path, tuple(one.shape), str(one.dtype), tuple(one.chunks)) for path, one in members]
        return f"crc {zlib.crc32(repr(listed).encode()):08x}"

    @property
    def files(self) -> tuple[str, ...]:
        return (self.path,)

    @property
    def stored_bytes(self) -> int:
        """What it takes where it is; on a web server without metadata."""
        return self.container.bytes_below("")

    @property
    def obs_names(self) -> AnyIndex:
        return self._index_of("obs")

    @property
    def obs_index(self) -> AnyIndex:
        key = self._index_key("obs")
        return self.obs_names.rename(None if key == "_index" else key)  # as anndata calls it

    @property
    def var_names(self) -> AnyIndex:
        return self._index_of("var")

    @property
    def var(self) -> pd.DataFrame:
        return self._frame("var")

    def _raw_var(self) -> pd.DataFrame:
        return self._frame("raw/var")

    def gene_column(self, column: str, *, raw: bool = False) -> AnySeries:
        path = "raw/var" if raw else "var"
        if self._columns(path).count(column) != 1 or not self._by_columns(path):
            return super().gene_column(column, raw=raw)  # whose error names the existing ones
        with self.container.reading(path):
            return pd.Series(read_elem(self.container.group[path][column]))

    def series(self, column: Any) -> AnySeries:
        refuse_twice(self._columns("obs"), column, self.name)
        if not self._by_columns("obs"):
            whole: AnySeries = self._frame("obs")[column]
            return whole.reset_index(drop=True)
        with self.container.reading(f"obs/{column}"):
            values = read_elem(self.container.group["obs"][column])
            repeated = np.repeat(np.atleast_1d(values), self.n_obs) if np.ndim(values) == 0 else values
            return pd.Series(repeated)

    def close(self) -> None:
        self.container.close()

    def column_names(self, field: str) -> AnyIndex | None:
        if field == "raw/X":
            return self._index_of("raw/var")
        if self._is_table(field):
            return pd.Index(self._columns(field))
        return None

    def _list_fields(self) -> Sequence[str]:
        with self.container.reading(""):
            group = self.container.group
            members = {name: sorted(group[name].keys()) if name in group else [] for name in ("layers", "obsm")}
            return [
                *(["X"] if self._present("X") else []),
                *(f"layers/{key}" for key in members["layers"]),
                *(["raw/X"] if self._present("raw/X") else []),
                *(f"obsm/{key}" for key in members["obsm"]),
                *dict.fromkeys(f"obs/{column}" for column in self._columns("obs")),
            ]

    def _present(self, path: str) -> bool:
        group = self.container.group
        return path in group and encoding_of(group[path]) != "null"

    def path_of(self, field: str) -> str:
        """Where a field stands in the store; ``obs_names`` is the index of obs."""
        return f"obs/{self._index_key('obs')}" if field == "obs_names" else field

    def _open_matrix(self, group: str, key: str) -> MatrixReader:
        path = "raw/X" if group == "raw" else f"{group}/{key}" if key else group
        with self.container.reading(path):
            element = self.described(path)
        return open_element(self.container, path, element, lambda: self._frame(path), "read_zarr")

    def described(self, path: str) -> Element:
        """What is said of the element at ``path``."""
        found = self.container.group[path]
        if self._is_table(path):
            return Element("table")
        if not self.container.is_group(path):
            return Element("array", shape=tuple(found.shape), dtype=np.dtype(found.dtype))
        dtype = np.dtype(found["data"].dtype) if "data" in found else None
        return Element("group", encoding_of(found), sparse_shape(found), dtype, found.attrs.get("shape"))

    def _open_column(self, column: str) -> Column:
        return column_of(self.series(column), f"obs/{column} of {self.name}")

    def _is_table(self, path: str) -> bool:
        group = self.container.group
        return path in group and encoding_of(group[path]) == "dataframe"

    def _by_columns(self, path: str) -> bool:
        return bool(text_of(self.container.group[path].attrs.get("encoding-version")) == _COLUMN_BY_COLUMN)

    def _columns(self, path: str) -> tuple[str, ...]:
        return tuple(map(str, self.container.group[path].attrs.get("column-order", ())))

    def _index_key(self, path: str) -> str:
        return str(self.container.group[path].attrs.get("_index", "_index"))

    def _length(self, path: str) -> int:
        with self.container.reading(path):
            return self.container.length(f"{path}/{self._index_key(path)}")

    def _index_of(self, path: str) -> AnyIndex:
        with self.container.reading(path):
            return names_of(read_elem(self.container.group[path][self._index_key(path)]))

    def _frame(self, path: str) -> pd.DataFrame:
        with self.container.reading(path):
            frame: pd.DataFrame = read_elem(self.container.group[path])
        return frame
