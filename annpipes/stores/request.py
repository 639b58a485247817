"""What is read of a store: fields, genes, and what codes of labels stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from toolz import merge

from annpipes.errors import FieldError, ParameterError
from annpipes.plans.rows import Rows
from annpipes.stores.base import FieldStore
from annpipes.stores.begun import Begun
from annpipes.stores.gene_tables import chosen_table
from annpipes.stores.genes import Genes, has_genes, take_genes
from annpipes.stores.labels import LabelTables, Unknown
from annpipes.stores.protocol import Store, as_fields, field_key
from annpipes.stores.vocabularies import AS_NAMED, FoundGenes, Matching
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
    genes, raw_genes
        The columns of X and layers, and those of raw/X, to keep; all when None.
    labels
        The tables of obs columns that are read as codes.
    extras
        What transforms must know beside the fields: obs columns of numbers, and totals of fields.
    matching
        How genes were looked up, if they were given as names.
    """

    store: Store
    fields: tuple[str, ...]
    genes: Genes | None
    labels: LabelTables
    extras: tuple[Need, ...] = ()
    raw_genes: Genes | None = None
    matching: Matching = AS_NAMED

    @classmethod
    def of(
        cls,
        store: Store,
        fields: Sequence[str],
        *,
        genes: Any = None,
        matching: Matching = AS_NAMED,
        categories: Mapping[str, Sequence[Any]] | None = None,
        unknown: Unknown = "error",
        rows: Rows | None = None,
    ) -> Self:
        """The request that a caller's words mean, each of them checked.

        Parameters
        ----------
        fields, genes, categories, unknown
            As for `RowReader`.
        matching
            How genes given as names are looked up.
        rows
            The rows that may be read, whose labels must be known; all when None.
        """
        names = as_fields(fields)
        store.check(names)
        chosen, of_raw = _chosen(store, names, genes, matching)
        labels = LabelTables(store, categories, unknown, names, rows)
        return cls(store, names, chosen, labels, raw_genes=of_raw, matching=matching)

    def knowing(self, needs: Sequence[Need]) -> Request:
        """The same with more extras; totals are left out where all genes are read, whose sum is the total."""
        new = [need for need in needs if not isinstance(need, Total) or self.has_some_genes(need.field)]
        for column in new:
            if not isinstance(column, Total):
                self.store.check([column])
                if self.store.column_values(column.removeprefix("obs/")).dtype.kind not in "biuf":
                    raise FieldError(f"{column} holds labels, but totals must be numbers")
        return replace(self, extras=tuple(dict.fromkeys([*self.extras, *new])))

    def genes_of(self, field: str) -> Genes | None:
        """The columns of a field that are read; None where that is all."""
        return next(
            (genes for genes in (self.genes, self.raw_genes) if genes is not None and genes.covers(field)), None
        )

    def has_some_genes(self, field: str) -> bool:
        """Whether only some of the columns of a field are read."""
        return self.genes_of(field) is not None

    def read(self, chunk: Chunk) -> Batch:
        """The chunk's rows, in the drawn order."""
        batch: Batch = self.begin(chunk, 0).first
        return batch

    def begin(self, chunk: Chunk, first: int) -> Begun:
        """The batch that ``read`` gives, when its ``first`` rows are there; all of them if that is 0."""
        totals = [need for need in self.extras if isinstance(need, Total)]
        columns = [need for need in self.extras if not isinstance(need, Total)]
        summed = {total.field for total in totals}
        fields = [name for name in self.fields if name not in summed]
        begun = self._begin(chunk, 0 if totals else first, fields)
        noted = self.store.read(chunk, columns) if columns else {}
        known: dict[Need, Any] = dict(zip(columns, noted.values(), strict=True))
        for total in totals:
            genes = self.genes_of(total.field)
            for key, whole in self.store.read(chunk, [total.field]).items():  # none if the field is skipped
                known[total] = whole.totals if isinstance(whole, SparseRows) else whole.sum(1, dtype=np.float64)
                begun.first[key] = whole if genes is None else take_genes(whole, genes)
        rows = Batch(chunk.drawn, {}, known)
        if totals or not first:
            return Begun.of(self._with(rows, begun.first), first)
        return Begun(self._with(rows[:first], begun.first), lambda: self._with(rows[first:], begun.rest()))

    def _with(self, rows: Batch, found: Mapping[str, Any]) -> Batch:
        """A batch to which the fields are added that were found, in the order in which they were asked for."""
        ordered = {field_key(name): found[field_key(name)] for name in self.fields if field_key(name) in found}
        return rows.replace(**self.labels.recode(ordered))

    def _begin(self, chunk: Chunk, first: int, fields: Sequence[str]) -> Begun:
        """Begin fields, each with the genes that are read of it, by key."""
        if self.raw_genes is None:
            return self._begun(chunk, first, fields, self.genes)
        apart = [name for name in fields if self.raw_genes.covers(name)]
        others = [name for name in fields if name not in apart]
        parts = [self._begun(chunk, first, *some) for some in ((others, self.genes), (apart, self.raw_genes))]
        return Begun(merge(*(part.first for part in parts)), lambda: merge(*(part.rest() for part in parts)))

    def _begun(self, chunk: Chunk, first: int, fields: Sequence[str], genes: Genes | None) -> Begun:
        if first and isinstance(self.store, FieldStore):
            return self.store.begin(chunk, first, fields, genes)
        values = self.store.read(chunk, fields, genes)
        return Begun.each({key: Begun.of(of_field, first) for key, of_field in values.items()})

    @property
    def chosen(self) -> Genes | None:
        """The genes of which the batch has columns; None for all of var."""
        return self.raw_genes if self.genes is None else self.genes

    @property
    def _raw_alone(self) -> bool:
        """Whether genes are columns of ``raw/X`` and of nothing else that is read."""
        return "raw/X" in self.fields and not any(map(has_genes, self.fields))

    @property
    def n_vars(self) -> int:
        """How many genes are read."""
        if self.chosen is not None:
            return len(self.chosen)
        return len(self.store.gene_table(raw=True)) if self._raw_alone else self.store.n_vars

    @property
    def var(self) -> pd.DataFrame:
        """What is known about the genes that are read, in the order of X's columns; missing of those that are filled.

        Genes that were chosen by names are called by these. If ``raw/X`` alone is read, the genes are its columns.
        """
        return self._table(raw=self._raw_alone)

    @property
    def raw_var(self) -> pd.DataFrame:
        """The same of the columns of ``raw/X``."""
        self.store.check(["raw/X"])
        return self._table(raw=True)

    def _table(self, *, raw: bool) -> pd.DataFrame:
        table, genes = self.store.gene_table(raw=raw), self.raw_genes if raw else self.genes
        return table if genes is None else chosen_table(table, genes)

    @property
    def found_genes(self) -> FoundGenes:
        """How many of the genes that are read the data has, and each file; apart of raw/X that is read beside X."""
        column = self.matching.column
        if self._raw_alone:
            return self.store.found_genes(self.raw_genes, column, raw=True)
        found = self.store.found_genes(self.genes, column)
        if "raw/X" not in self.fields:
            return found
        return replace(found, raw=self.store.found_genes(self.raw_genes, column, raw=True))

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
        """A few characters that the codes of labels and the genes of columns depend on."""
        chosen = [genes.fingerprint for genes in (self.genes, self.raw_genes) if genes is not None]
        of_raw = self.store.genes_fingerprint(raw=True) if "raw/X" in self.fields else None
        return {
            **self.labels.fingerprint(),
            **({"chosen_genes": "; ".join(chosen)} if chosen else {}),
            **({"raw_genes": of_raw} if of_raw is not None else {}),
        }


def _chosen(store: Store, fields: Sequence[str], genes: Any, matching: Matching) -> tuple[Genes | None, Genes | None]:
    """The genes of var and those of raw that are read, of the fields that have any; None for all."""
    if genes is None:
        matching.need_names("genes has none")
        return None, None
    if "raw/X" not in fields:
        return store.genes(genes, matching), None
    if any(map(has_genes, fields)):
        of_var = store.genes(genes, matching)
        return of_var, None if of_var.names is None else store.genes(of_var.names, matching, raw=True)
    of_raw = store.genes(genes, matching, raw=True)
    if of_raw.names is None and len(of_raw):
        raise ParameterError("genes are positions or a mask along var, but raw/X has its own genes: give names")
    return None, of_raw
