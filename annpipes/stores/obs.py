"""The columns of obs, each loaded when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, overload

import pandas as pd

from annpipes.plans.rows import Rows
from annpipes.stores.generics import AnyIndex, AnySeries
from annpipes.stores.protocol import Store, no_such_field

__all__ = ["Obs"]


class Obs:
    """The columns of obs as pandas has them, each loaded when it is asked for.

    >>> obs = IndexSource("pbmc.h5ad").obs
    >>> obs.shape, obs.columns[:3]
    ((700, 8), ['bulk_labels', 'n_genes', 'percent_mito'])
    >>> obs["phase"].value_counts().to_dict()
    {'G1': 501, 'S': 182, 'G2M': 17}

    A column is a `pandas.Series`, a list of columns a `pandas.DataFrame`; the index has the names of the rows.

    Parameters
    ----------
    store
        The data.
    rows
        Which rows, in which order; all when None.
    """

    def __init__(self, store: Store, rows: Rows | None = None) -> None:
        self._store, self._rows = store, rows

    @property
    def index(self) -> AnyIndex:
        """The names of the rows."""
        index = self._store.obs_index
        return index if self._rows is None else index.take(pd.Index(self._rows).to_numpy())

    @property
    def columns(self) -> list[Any]:
        """The names of the columns."""
        return list(self._store.obs_columns())

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._store.n_obs if self._rows is None else len(self._rows), len(self.columns)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.columns)

    def keys(self) -> list[Any]:
        """The names of the columns, as of a table."""
        return self.columns

    def __contains__(self, column: object) -> bool:
        return column in self.columns

    @overload
    def __getitem__(self, column: str) -> AnySeries: ...
    @overload
    def __getitem__(self, column: list[str]) -> pd.DataFrame: ...
    def __getitem__(self, column: Any) -> Any:
        if isinstance(column, list):
            return pd.DataFrame({name: self[name] for name in column}, index=self.index)
        if f"obs/{column}" not in self._store.fields:
            raise no_such_field(f"obs/{column}", self._store.fields, self._store.name)
        values = self._store.series(column)
        if self._rows is not None:
            values = values.iloc[pd.Index(self._rows).to_numpy()]
        return values.set_axis(self.index).rename(column)

    def __repr__(self) -> str:
        rows, columns = self.shape
        return f"obs of {self._store.name}: {rows:,} rows × {columns:,} columns: {', '.join(map(str, self.columns))}"
