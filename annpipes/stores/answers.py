"""Questions that everything which reads a request can answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from annpipes.stores.request import Request
from annpipes.stores.vocabularies import FoundGenes

__all__ = ["Answers"]


class Answers(ABC):
    """Answers about the genes and labels that are read."""

    @abstractmethod
    def _answering(self, needed_for: str) -> Request:
        """The request that is read; an error may say what it is needed for."""

    @property
    def n_vars(self) -> int:
        """How many genes are read."""
        return self._answering("n_vars").n_vars

    @property
    def var(self) -> Any:
        """A `pandas.DataFrame` of what is known about the genes that are read, in the order of X's columns.

        If ``raw/X`` is read and neither X nor a layer, it is about the columns of ``raw/X``.
        """
        return self._answering("var").var

    @property
    def raw_var(self) -> Any:
        """The same of the columns of ``raw/X``."""
        return self._answering("raw_var").raw_var

    @property
    def found_genes(self) -> FoundGenes:
        """How many of the genes that are read were found, in total and per file, as `annpipes.reports.FoundGenes`."""
        return self._answering("found_genes").found_genes

    def categories(self, column: str) -> tuple[Any, ...]:
        """The labels of an obs column, in the order of their codes."""
        return self._answering("categories").categories(column)

    def decode(self, column: str, codes: Any) -> list[Any]:
        """The labels of an obs column that ``codes``, ``(n,)``, stand for; for -1 ``""``, or None among numbers."""
        return self._answering("decode").decode(column, codes)
