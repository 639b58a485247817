"""Rows of an AnnData object, in memory or backed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from annpipes._store.base import FieldStore
from annpipes._store.frame import column_of, refuse_twice
from annpipes._store.h5ad import open_matrix, raw_x
from annpipes._store.hdf5 import Hdf5File
from annpipes._store.matrix import DenseMemory, SparseMemory
from annpipes._store.protocol import MatrixReader
from annpipes._store.refusals import refuse_values
from annpipes._store.tables import matrix_of
from annpipes.errors import FormatError

__all__ = ["MemoryStore"]


class MemoryStore(FieldStore):
    """An AnnData object; the X of a backed one is read from its file.

    A field is taken from the object at its first use. Of a view, that copies the field's
    selected rows once.
    """

    def __init__(self, adata: AnnData) -> None:
        super().__init__()
        self.adata = adata
        self.file: Hdf5File | None = None
        if adata.isbacked:
            if adata.is_view:
                raise FormatError(
                    f"data is a view of a backed AnnData: pass its file {str(adata.filename)!r} and choose rows instead"
                )
            self.file = Hdf5File(str(adata.filename))
        self.n_obs, self.n_vars = int(adata.n_obs), int(adata.n_vars)
        self.name = f"AnnData({self.n_obs} × {self.n_vars})"

    def fingerprint(self) -> Mapping[str, str | int]:
        """Shape and names."""
        names = "\n".join(map(str, self.obs_names)).encode()
        return {"n_obs": self.n_obs, "n_vars": self.n_vars, "obs_names": f"crc {zlib.crc32(names):08x}"}

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def __getstate__(self) -> dict[str, Any]:
        """A backed object travels without the open file behind its X."""
        state = super().__getstate__()
        if self.file is not None:
            state["adata"] = _without_x(self.adata)
        return state

    @property
    def obs_names(self) -> pd.Index[Any]:
        names: pd.Index[Any] = pd.Index(self.adata.obs_names)
        return names

    @property
    def var_names(self) -> pd.Index[Any]:
        names: pd.Index[Any] = pd.Index(self.adata.var_names)
        return names

    @property
    def var(self) -> pd.DataFrame:
        frame: pd.DataFrame = self.adata.var
        return frame

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def column_names(self, field: str) -> pd.Index[Any] | None:
        if field == "raw/X":
            names: pd.Index[Any] = self.adata.raw.var_names
            return names
        values = self._values(*field.split("/", 1)) if field.startswith("obsm/") else None
        if not isinstance(values, pd.DataFrame):
            return None
        columns: pd.Index[Any] = values.columns
        return columns

    def _list_fields(self) -> Sequence[str]:
        adata = self.adata
        return [
            *(["X"] if self.file is not None or adata.X is not None else []),
            *(f"layers/{key}" for key in adata.layers),
            *(["raw/X"] if adata.raw is not None else []),
            *(f"obsm/{key}" for key in adata.obsm),
            *dict.fromkeys(f"obs/{column}" for column in adata.obs.columns),
        ]

    def _open_column(self, column: str) -> Any:
        return column_of(self.series(column), f"obs/{column} of {self.name}")

    def series(self, column: Any) -> pd.Series[Any]:
        names = [name for name in self.adata.obs.columns if str(name) == column]  # a name may be a number
        refuse_twice([str(name) for name in self.adata.obs.columns], column, self.name)
        values: pd.Series[Any] = self.adata.obs[names[0]]
        return values

    def _open_matrix(self, group: str, key: str) -> MatrixReader:
        if self.file is not None and group in ("X", "raw"):
            return open_matrix(self.file, raw_x(self.file) if group == "raw" else "X")
        values, field = self._values(group, key), f"{group}/{key}" if key else group
        refuse_values(values, f"{field} of {self.name}")
        if sparse.issparse(values):
            return SparseMemory(values)
        if isinstance(values, np.ndarray) and values.ndim == 2:
            return DenseMemory(np.asarray(values))
        if isinstance(values, pd.DataFrame):
            return DenseMemory(matrix_of(values, f"{field} of {self.name}"))
        raise FormatError(
            f"{field} of {self.name} is a {type(values).__name__}, not a dense or sparse matrix, so it has no rows to "
            f"read: leave it out, or store what you need of it as an array"
        )

    def _values(self, group: str, key: str) -> Any:
        if group in ("layers", "obsm"):
            return getattr(self.adata, group)[key]
        return self.adata.raw.X if group == "raw" else self.adata.X


def _without_x(adata: AnnData) -> AnnData:
    return AnnData(obs=adata.obs, var=adata.var, layers=dict(adata.layers), obsm=dict(adata.obsm))
