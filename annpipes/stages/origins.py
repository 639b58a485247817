"""The stage at which a pipe begins, and what can be asked of its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annpipes.plans.rows import RowArray
from annpipes.stages.base import PlanStage
from annpipes.stores import LabelTables, Obs, Route, Store

__all__ = ["OfSource", "Source"]


class Source(PlanStage):
    """The stage at which a pipe begins: a plan over the rows of a store."""

    store: Store

    def fingerprint(self) -> Mapping[str, Any]:
        """Values that distinguish this data from others."""
        return self.store.fingerprint()

    @property
    def n_obs(self) -> int:
        """How many rows the data have; the source may have chosen only some of them."""
        return self.store.n_obs

    @property
    def n_vars(self) -> int:
        """How many genes the data has."""
        return self.store.n_vars

    @property
    def obs(self) -> Obs:
        """The columns of obs for all rows of the data, each loaded when it is asked for.

        >>> IndexSource("pbmc.h5ad").obs["phase"].value_counts().to_dict()
        {'G1': 501, 'S': 182, 'G2M': 17}
        """
        return Obs(self.store)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that can be read for each row."""
        return tuple(self.store.fields)

    @property
    def var(self) -> Any:
        """A `pandas.DataFrame` of what is known about the genes, in the order of X's columns."""
        return self.store.var

    @property
    def raw_var(self) -> Any:
        """A `pandas.DataFrame` of what is known about the genes of raw, in the order of the columns of ``raw/X``."""
        self.store.check(["raw/X"])
        return self.store.gene_table(raw=True)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that rows come from; the field ``file`` has their numbers."""
        return self.store.files

    def route(self, field: str = "X") -> Route:
        """How a field is read: by annpipes itself (``direct``), through ``h5py`` and why, or from memory.

        >>> IndexSource("pbmc.h5ad").route("raw/X")
        'direct (uncompressed)'
        """
        return self.store.route(field)

    def locate(self, rows: Any) -> tuple[RowArray, RowArray]:
        """The file of each of these rows, and the row's number in it; each ``(n,)``.

        >>> IndexSource(["pbmc.h5ad", "pbmc.h5ad"]).locate([699, 700])
        (array([0, 1]), array([699,   0]))
        """
        return self.store.locate(rows)

    def row_of(self, file: int, row: int) -> int:
        """The number, over all files, of row ``row`` of file ``file``.

        >>> IndexSource(["pbmc.h5ad", "pbmc.h5ad"]).row_of(1, 0)
        700
        """
        return self.store.row_of(file, row)

    def categories(self, column: str) -> tuple[Any, ...]:
        """The labels of an obs column, in the order of their codes.

        >>> IndexSource("pbmc.h5ad").categories("phase")
        ('G1', 'G2M', 'S')
        """
        return LabelTables(self.store).categories(column)

    def decode(self, column: str, codes: Any) -> list[Any]:
        """The labels of an obs column that ``codes``, ``(n,)``, stand for; ``""`` for -1.

        >>> IndexSource("pbmc.h5ad").decode("phase", [2, -1])
        ['S', '']
        """
        return LabelTables(self.store).decode(column, codes)


class OfSource:
    """What a stage or dataset that reads a source says about its data."""

    source: Source

    @property
    def n_obs(self) -> int:
        """How many rows the data have; the source may have chosen only some of them."""
        return self.source.n_obs

    @property
    def obs(self) -> Obs:
        """The columns of obs for all rows of the data, each loaded when it is asked for."""
        return self.source.obs
