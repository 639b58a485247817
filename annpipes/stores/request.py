"""What is read of a store: fields, genes, and what codes of labels stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from annpipes.plans.rows import Rows
from annpipes.stores.genes import Genes
from annpipes.stores.labels import LabelTables, Unknown
from annpipes.stores.protocol import Store, as_fields
from annpipes.types import Batch, Chunk

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
    """

    store: Store
    fields: tuple[str, ...]
    genes: Genes | None
    labels: LabelTables

    @classmethod
    def of(
        cls,
        store: Store,
        fields: Sequence[str],
        *,
        genes: Any = None,
        categories: Mapping[str, Sequence[str]] | None = None,
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

    def read(self, chunk: Chunk) -> Batch:
        """The chunk's rows, in the drawn order."""
        return Batch(chunk.drawn, self.labels.recode(self.store.read(chunk, self.fields, self.genes)))

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

    def categories(self, column: str) -> tuple[str, ...]:
        """The labels of an obs column, in the order of their codes."""
        return self.labels.categories(column)

    def decode(self, column: str, codes: Any) -> list[str]:
        """The labels of an obs column that ``codes``, ``(n,)``, stand for; ``""`` for -1."""
        return self.labels.decode(column, codes)

    def fingerprint(self) -> Mapping[str, str]:
        """What makes the codes of labels others, in a few characters."""
        return self.labels.fingerprint()
