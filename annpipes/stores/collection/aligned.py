"""A store of several, as far as its genes go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from annpipes.errors import ParameterError
from annpipes.stores.base import FieldStore
from annpipes.stores.collection.alignment import JoinedGenes, agreed_columns
from annpipes.stores.generics import AnyIndex
from annpipes.stores.genes import Genes
from annpipes.stores.vocabularies import AS_NAMED, Matching

__all__ = ["AlignedStore"]


class AlignedStore(FieldStore):
    """Stores whose genes are aligned."""

    stores: list[FieldStore]
    on: str | None
    fill_value: float
    _joined: JoinedGenes

    @property
    def var_names(self) -> AnyIndex:
        return self._joined.names

    @property
    def var(self) -> pd.DataFrame:
        """The columns of the files' var tables on which the files agree."""
        return self._joined.table

    def genes(self, chosen: Any, matching: Matching = AS_NAMED, *, raw: bool = False) -> Genes:
        found = super().genes(chosen, matching, raw=raw)
        if found.names is not None and len(found.absent) and not raw:
            if self.fill_value:
                raise ParameterError(
                    f"missing_genes='fill' puts zeros where all files lack a gene, but fill_value is "
                    f"{self.fill_value}: give the genes to the collection, join=[…] with missing_genes='fill'"
                )
            self._joined.refuse_left_out(found.names[found.absent].tolist(), matching)
        return found

    def keep_genes(self, *, raw: bool = False) -> None:
        for store in self.stores:
            if not raw or "raw/X" in store.fields:
                store.keep_genes(raw=raw)

    def gene_keys(self, column: str | None, *, raw: bool = False) -> AnyIndex:
        return super().gene_keys(self.on if raw and column is None else column, raw=raw)

    def column_names(self, field: str) -> AnyIndex | None:
        named = (store.column_names(field) for store in self.stores if field in store.fields)
        return next((names for names in named if names is not None), None)

    def _raw_var(self) -> pd.DataFrame:
        tables = [store.gene_table(raw=True) for store in self.stores if "raw/X" in store.fields]
        return agreed_columns(tables, tables[0].index)

    def _presence(self) -> list[NDArray[np.bool_]]:
        every = np.ones(self.n_vars, bool)
        return [every if genes is None else genes.positions >= 0 for genes in self._joined.kept]

    @property
    def named_by(self) -> str:
        return self.on or "var_names"
