"""Rows of an AnnData object, in memory or backed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from annpipes.errors import FormatError
from annpipes.plans.rows import RowArray
from annpipes.stores.arrays import Selected, dense_rows, sparse_rows
from annpipes.stores.base import FieldStore
from annpipes.stores.by_columns import columns_refused
from annpipes.stores.containers.hdf5 import Hdf5File
from annpipes.stores.frame import column_of, refuse_twice
from annpipes.stores.generics import AnyIndex, AnySeries
from annpipes.stores.genes import Genes, has_genes
from annpipes.stores.h5ad import frame_at, open_matrix, raw_x, var_of
from annpipes.stores.protocol import MatrixReader, names_crc
from annpipes.stores.refusals import refuse_values
from annpipes.stores.tables import matrix_of
from annpipes.stores.witness import Snapshot, Witness, element_of, owner_of

__all__ = ["MemoryStore"]


class MemoryStore(FieldStore):
    """An AnnData object; the X of a backed one is read from its file.

    Fields are read from the object as it is at that time: what was replaced since the last read is opened anew. Rows
    that have changed since the beginning are refused, and so are genes once some of them were chosen. A view is
    read through the object that it looks at, without a copy (where names are not unique, its rows are copied once).
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
        self.n_obs: int = int(adata.n_obs)
        self.name: str = f"AnnData({self.n_obs} × {self.n_vars})"
        self._witness = Witness(adata)
        self._snapshots: dict[str, Snapshot] = {}
        self._known: tuple[AnyIndex, str] | None = None  # names, and their fingerprint

    @property
    def n_vars(self) -> int:  # type: ignore[override] # genes may be filtered in place
        return int(self.adata.n_vars)

    def keep_genes(self, *, raw: bool = False) -> None:
        if raw:
            self._witness.keep_raw_genes(self.adata)
        else:
            self._witness.genes_stay = True

    def fingerprint(self) -> Mapping[str, str | int]:
        """Shape and names."""
        names = self.adata.obs_names
        if self._known is None or self._known[0] is not names:  # an Index does not change, and a state asks often
            self._known = names, names_crc(names)
        return {"n_obs": self.n_obs, "n_vars": self.n_vars, "obs_names": self._known[1]}

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def __getstate__(self) -> dict[str, Any]:
        """A backed object travels without the open file behind its X."""
        state = super().__getstate__()
        if self.file is not None:
            state["adata"] = _without_x(self.adata)
            state["_witness"] = Witness(state["adata"])
        return {**state, "_snapshots": {}}

    def version(self, field: str) -> int:
        """How often a field was seen to be another object."""
        plain = field if field in self.fields else field.removesuffix(":code")
        if plain not in self.fields:
            return 0
        return self._witness.version(self.adata, plain, in_file=self._in_file(plain))

    def _in_file(self, field: str) -> bool:
        """Whether a backed object leaves a field in its file."""
        return self.file is not None and field in ("X", "raw/X")

    def notice(self, field: str, rows: RowArray) -> None:
        plain = field if field in self._snapshots else field.removesuffix(":code")
        snapshot = self._snapshots.get(plain)
        if snapshot is not None and not snapshot.holds(rows):
            self._witness.touch(plain)

    @property
    def obs_names(self) -> AnyIndex:
        names: AnyIndex = pd.Index(self.adata.obs_names)
        return names

    @property
    def obs_index(self) -> AnyIndex:
        index: AnyIndex = self.adata.obs.index
        return index

    @property
    def var_names(self) -> AnyIndex:
        names: AnyIndex = pd.Index(self.adata.var_names)
        return names

    @property
    def var(self) -> pd.DataFrame:
        frame: pd.DataFrame = self.adata.var
        return frame

    def _raw_var(self) -> pd.DataFrame:
        if self.file is not None:  # as raw/X is; the object does not take raw along into other processes
            return frame_at(self.file, var_of(raw_x(self.file)))
        frame: pd.DataFrame = self.adata.raw.var
        return frame

    def close(self) -> None:
        if self.file is not None:
            self.file.source.close()

    def column_names(self, field: str) -> AnyIndex | None:
        if field == "raw/X":
            names: AnyIndex = self._raw_var().index
            return names
        values = element_of(owner_of(self.adata), field) if field.startswith("obsm/") else None
        if not isinstance(values, pd.DataFrame):
            return None
        columns: AnyIndex = values.columns
        return columns

    def _list_fields(self) -> Sequence[str]:
        adata = self.adata
        return [
            *(["X"] if self._has_x() else []),
            *(f"layers/{key}" for key in adata.layers if key is not None),  # since anndata 0.13, None is X
            *(["raw/X"] if adata.raw is not None else []),
            *(f"obsm/{key}" for key in adata.obsm),
            *dict.fromkeys(f"obs/{column}" for column in adata.obs.columns),
        ]

    def _has_x(self) -> bool:
        if self.file is None:
            return owner_of(self.adata).X is not None
        with self.file.open() as file:
            return "X" in file

    def obs_columns(self) -> Sequence[Hashable]:
        return list(self.adata.obs.columns)

    def series(self, column: Any) -> AnySeries:
        obs = self.adata.obs
        names = [name for name in obs.columns if str(name) == str(column)]  # a name may be a number
        refuse_twice([str(name) for name in obs.columns], str(column), self.name)
        values: AnySeries = obs[names[0]]
        self._snapshots[f"obs/{column}"] = Snapshot(values, copied=True)
        return values

    def _open_column(self, column: str) -> Any:
        values = self.series(column)
        self._snapshots[f"obs/{column}"] = Snapshot(values, copied=False)
        return column_of(values, f"obs/{column} of {self.name}")

    def _open_matrix(self, group: str, key: str) -> MatrixReader:
        field = f"{group}/{key}" if key else group
        if self.file is not None and self._in_file(field):
            return open_matrix(self.file, raw_x(self.file) if group == "raw" else "X")
        if self.adata.is_view and group != "raw":  # of raw, a view has a selection of its own
            return self._open_view(field)
        return self._matrix(field, element_of(self.adata, field))

    def _open_view(self, field: str) -> MatrixReader:
        adata, owner, genes = self.adata, owner_of(self.adata), None
        if has_genes(field) and not adata.var_names.equals(owner.var_names):
            if not (owner.var_names.is_unique and adata.var_names.is_unique):
                return self._matrix(field, element_of(adata, field))
            genes = Genes.of(owner.var_names.get_indexer(adata.var_names), owner.n_vars)
        if not owner.obs_names.is_unique:
            return self._matrix(field, element_of(adata, field))
        rows = owner.obs_names.get_indexer(adata.obs_names).astype(np.int64)
        return Selected(self._matrix(field, element_of(owner, field)), rows, genes)

    def _matrix(self, field: str, values: Any) -> MatrixReader:
        refuse_values(values, f"{field} of {self.name}")
        if isinstance(values, sparse.csc_matrix | sparse.csc_array):  # converted, it would not show later changes
            raise columns_refused(field, self.name)
        if sparse.issparse(values):
            return sparse_rows(values, field, self.name)
        if isinstance(values, np.ndarray) and values.ndim == 2:
            return dense_rows(np.asarray(values), field, self.name)
        if isinstance(values, pd.DataFrame):
            return dense_rows(matrix_of(values, f"{field} of {self.name}"), field, self.name)
        raise FormatError(
            f"{field} of {self.name} is a {type(values).__name__}, not a dense or sparse matrix, so it cannot be read "
            f"by rows: leave it out, or store the part you need as an array"
        )


def _without_x(adata: AnnData) -> AnnData:
    layers = {key: adata.layers[key] for key in adata.layers if key is not None}
    return AnnData(obs=adata.obs, var=adata.var, layers=layers, obsm=dict(adata.obsm))
