"""What a store says of its genes, and how some of them are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from annpipes.errors import DamageError
from annpipes.stores.generics import AnyIndex, AnySeries
from annpipes.stores.genes import Genes, as_genes
from annpipes.stores.vocabularies import AS_NAMED, FoundGenes, Matching, as_keys, need_column

__all__ = ["GeneTables", "chosen_table", "with_names"]


class GeneTables:
    """The genes of var, and those of raw; a store derives from it."""

    name: str
    n_vars: int

    @property
    def files(self) -> tuple[str, ...]:
        """What the files are called that rows come from."""
        return (self.name,)

    @property
    def var_names(self) -> AnyIndex:
        """Names of the genes."""
        raise NotImplementedError

    @property
    def var(self) -> pd.DataFrame:
        """What is known about the genes; index: their names."""
        raise NotImplementedError

    def column_names(self, field: str) -> AnyIndex | None:
        """The names of the columns of ``raw/X`` or of a table in obsm; None where they have no names."""
        return None

    def keep_genes(self, *, raw: bool = False) -> None:
        """From now on, refuse to read if the genes have changed, because something depends on their order."""

    def gene_table(self, *, raw: bool = False) -> pd.DataFrame:
        """What is known about the genes of var, or of raw; index: their names."""
        return self._raw_var() if raw else self.var

    def _raw_var(self) -> pd.DataFrame:
        raise NotImplementedError

    def gene_keys(self, column: str | None, *, raw: bool = False) -> AnyIndex:
        """The names of the genes of var, or of raw, or what a column has in their place; None where that has none."""
        names = self.column_names("raw/X") if raw else self.var_names
        assert names is not None  # raw has names as var has
        if column is None:
            return names
        what = f"the var column {column!r} of {self.genes_where(raw=raw)}"
        keys = as_keys(self.gene_column(column, raw=raw), what)
        if len(keys) != len(names):
            raise DamageError(f"{what} has {len(keys)} values, but there are {len(names)} genes")
        return keys

    def gene_column(self, column: str, *, raw: bool = False) -> AnySeries:
        """One column of var, or of raw's; a store that can reads no other."""
        return need_column(self.gene_table(raw=raw), column, self.genes_where(raw=raw))

    def genes_where(self, *, raw: bool = False) -> str:
        """What errors call the table of the genes of var, or of raw."""
        return f"raw of {self.name}" if raw else self.name

    def genes_fingerprint(self, *, raw: bool) -> str | None:
        """A fingerprint of the genes of ``raw`` or var, where that of the store does not cover them."""
        return None

    def genes(self, chosen: Any, matching: Matching = AS_NAMED, *, raw: bool = False) -> Genes:
        """Genes given as names, positions or a mask; of ``raw``, which has genes of its own, names alone."""
        self.keep_genes(raw=raw)
        where = self.genes_where(raw=raw)
        return as_genes(
            chosen,
            self.gene_keys(None, raw=raw),
            lambda: self.gene_keys(matching.column, raw=raw),
            where if matching.column is None else f"{matching.column!r} of {where}",
            matching,
            table=lambda: self.gene_table(raw=raw),
            raw=raw,
        )

    @property
    def named_by(self) -> str:
        """What names of genes are: ``var_names``, or the values of a column."""
        return "var_names"

    def found_genes(self, genes: Genes | None, column: str | None = None, *, raw: bool = False) -> FoundGenes:
        """How many of these genes, or of all of var or raw, the data has, and each file; ``column`` as looked up."""
        raw = raw if genes is None else genes.raw
        known = np.asarray(self.gene_keys(None, raw=raw), object)
        places = np.arange(len(known)) if genes is None else genes.positions
        names = known[places] if genes is None or genes.names is None else genes.names
        found = [np.append(present, np.False_)[places] for present in self._presence(len(known), raw=raw)]  # (genes,)
        counts = [int(np.count_nonzero(of_file)) for of_file in found]
        missing = names[~np.any(found, axis=0)]
        files = tuple(zip(self.files, counts, strict=True))
        return FoundGenes(len(places), tuple(map(str, missing)), column or self.named_by, files)

    def _presence(self, n_genes: int, *, raw: bool) -> Sequence[NDArray[np.bool_]]:
        """For each file which of the genes of var, or of raw, it has."""
        return [np.ones(n_genes, bool)]


def chosen_table(table: pd.DataFrame, genes: Genes) -> pd.DataFrame:
    """The rows of var that are these genes, called by the names by which they were chosen.

    What is said of a gene that the data lacks is missing, as `pandas.DataFrame.reindex` has it. Where other
    names were asked for than those of var, these stand in a column ``var_names``.
    """
    found = table.iloc[genes.positions[genes.positions >= 0]]
    if genes.names is None:
        return found
    asked = pd.Index(genes.names, name=table.index.name)
    same = bool(found.index.astype(str).equals(asked[genes.positions >= 0]))
    if same and len(found) == len(asked):
        return found
    named, whole = (asked, table) if same else (asked.rename(None), with_names(table))
    return whole.reset_index(drop=True).reindex(genes.positions).set_axis(named)


def with_names(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose index is also its first column ``var_names``, unless it has one."""
    if "var_names" in table:
        return table
    whole = table.copy()
    whole.insert(0, "var_names", table.index.astype(str))
    return whole
