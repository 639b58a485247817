"""The genes of a store that joins several."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from annpipes.errors import ParameterError
from annpipes.stores.base import FieldStore
from annpipes.stores.collection.alignment import JoinedGenes
from annpipes.stores.generics import AnyIndex
from annpipes.stores.genes import Genes, has_genes
from annpipes.stores.vocabularies import AS_NAMED, Matching

__all__ = ["AlignedStore"]


class AlignedStore(FieldStore):
    """Stores whose genes are aligned: those of var, and apart from them those of raw."""

    stores: list[FieldStore]
    join: str | list[str]
    on: str | None
    fill_value: float
    _matching: Matching
    _of_var: JoinedGenes

    @cached_property
    def _of_raw(self) -> JoinedGenes:
        """The genes of raw, joined only when ``raw/X`` is asked for."""
        self.keep_genes(raw=True)
        return JoinedGenes(self.stores, self.join, self._matching, raw=True)

    def _joined(self, *, raw: bool) -> JoinedGenes:
        return self._of_raw if raw else self._of_var

    def _genes_along(self, field: str) -> JoinedGenes | None:
        """The genes that are the columns of a field; None where its columns are no genes."""
        return self._joined(raw=field == "raw/X") if field == "raw/X" or has_genes(field) else None

    @property
    def var_names(self) -> AnyIndex:
        return self._of_var.names

    @property
    def var(self) -> pd.DataFrame:
        """The columns of the files' var tables on which the files agree."""
        return self._of_var.table

    def _raw_var(self) -> pd.DataFrame:
        return self._of_raw.table

    def column_names(self, field: str) -> AnyIndex | None:
        if field == "raw/X":
            return self._of_raw.names
        named = (store.column_names(field) for store in self.stores if field in store.fields)
        return next((names for names in named if names is not None), None)

    def genes(self, chosen: Any, matching: Matching = AS_NAMED, *, raw: bool = False) -> Genes:
        found = super().genes(chosen, matching, raw=raw)
        if found.names is not None and len(found.absent):
            if self.fill_value:
                raise ParameterError(
                    f"missing_genes='fill' puts zeros where all files lack a gene, but fill_value is "
                    f"{self.fill_value}: give the genes to the collection, join=[…] with missing_genes='fill'"
                )
            self._joined(raw=raw).refuse_left_out(found.names[found.absent].tolist(), matching)
        return found

    def keep_genes(self, *, raw: bool = False) -> None:
        for store in self.stores:
            if not raw or "raw/X" in store.fields:
                store.keep_genes(raw=raw)

    def genes_fingerprint(self, *, raw: bool) -> str:
        return self._joined(raw=raw).fingerprint

    def _presence(self, n_genes: int, *, raw: bool) -> Sequence[NDArray[np.bool_]]:
        return self._joined(raw=raw).presence

    @property
    def named_by(self) -> str:
        return self.on or "var_names"
