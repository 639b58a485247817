"""What is read of a store: fields, genes, and what codes of labels stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from annpipes.errors import FieldError
from annpipes.plans.rows import Rows
from annpipes.stores.genes import Genes, take_genes
from annpipes.stores.labels import LabelTables, Unknown
from annpipes.stores.protocol import Store, as_fields, field_key, has_genes
from annpipes.types import Batch, Chunk, Need, SparseRows, Total

__all__ = ["Request"]


@dataclass(frozen=True, eq=False)
class Request:
    """A store with what is read of its rows; the same for every chunk.

    Parameters
    ----------
    store
        Where rows come from.
    fields
        What is read, and nothing else.
    genes
        The columns of X and layers to keep; all when None.
    labels
        The tables of obs columns that are read as codes.
    extras
        What transforms must know beside the fields: obs columns of numbers, and totals of fields.
    """

    store: Store
    fields: tuple[str, ...]
    genes: Genes | None
    labels: LabelTables
    extras: tuple[Need, ...] = ()

    @classmethod
    def of(
        cls,
        store: Store,
        fields: Sequence[str],
        *,
        genes: Any = None,
        categories: Mapping[str, Sequence[Any]] | None = None,
        unknown: Unknown = "error",
        rows: Rows | None = None,
    ) -> Self:
        """The request that a caller's words mean, each of them checked.

        Parameters
        ----------
        fields, genes, categories, unknown
            As of `RowReader`.
        rows
            The rows that may be read, whose labels must be known; all when None.
        """
        names = as_fields(fields)
        chosen = None if genes is None else store.genes(genes)
        store.check(names)
        return cls(store, names, chosen, LabelTables(store, categories, unknown, names, rows))

    def knowing(self, needs: Sequence[Need]) -> Request:
        """The same with more extras; totals are left out where all genes are read, whose sum is the total."""
        new = [need for need in needs if not isinstance(need, Total) or self.has_some_genes(need.field)]
        for column in new:
            if not isinstance(column, Total):
                self.store.check([column])
                if self.store.column_values(column.removeprefix("obs/")).dtype.kind not in "biuf":
                    raise FieldError(f"{column} holds labels, and totals are numbers")
        return replace(self, extras=tuple(dict.fromkeys([*self.extras, *new])))

    def has_some_genes(self, field: str) -> bool:
        """Whether only some of the columns of a field are read."""
        return self.genes is not None and has_genes(field)

    def read(self, chunk: Chunk) -> Batch:
        """The chunk's rows, in the drawn order."""
        if not self.extras:
            return Batch(chunk.drawn, self.labels.recode(self.store.read(chunk, self.fields, self.genes)))
        totals = [need for need in self.extras if isinstance(need, Total)]
        columns = [need for need in self.extras if not isinstance(need, Total)]
        summed = {total.field for total in totals}
        found = dict(self.store.read(chunk, [name for name in self.fields if name not in summed], self.genes))
        known: dict[Need, Any] = dict(zip(columns, self.store.read(chunk, columns).values(), strict=True))
        for total in totals:
            for key, whole in self.store.read(chunk, [total.field]).items():  # none if the field is skipped
                known[total] = whole.totals if isinstance(whole, SparseRows) else whole.sum(1, dtype=np.float64)
                found[key] = take_genes(whole, self.genes) if self.genes is not None else whole
        ordered = {field_key(name): found[field_key(name)] for name in self.fields if field_key(name) in found}
        return Batch(chunk.drawn, self.labels.recode(ordered), known)

    @property
    def n_vars(self) -> int:
        """How many genes are read."""
        return self.store.n_vars if self.genes is None else len(self.genes)

    @property
    def var(self) -> Any:
        """A `pandas.DataFrame` of what is known about the genes that are read, in the order of X's columns."""
        return self.store.var if self.genes is None else self.store.var.iloc[self.genes.positions]

    @property
    def row_bytes(self) -> float:
        """Memory that an average row takes."""
        return self.store.row_bytes(self.fields)

    def categories(self, column: str) -> tuple[Any, ...]:
        """The labels of an obs column, in the order of their codes."""
        return self.labels.categories(column)

    def decode(self, column: str, codes: Any) -> list[Any]:
        """The labels of an obs column that ``codes``, ``(n,)``, stand for; ``""`` for -1."""
        return self.labels.decode(column, codes)

    def fingerprint(self) -> Mapping[str, str]:
        """What makes the codes of labels others, in a few characters."""
        return self.labels.fingerprint()
