"""Labels of obs columns, and the codes that stand for them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from annpipes.errors import FieldError, ParameterError, ParameterTypeError
from annpipes.plans.rows import Rows, values_of
from annpipes.stores.protocol import Store, field_key

__all__ = ["LabelTables", "Unknown"]

Unknown = Literal["error", "missing"]


class LabelTables:
    """For each obs column of labels what its codes stand for: the data's own table, or one that is given.

    Parameters
    ----------
    store
        The data.
    given
        Tables to use in place of the data's, by column.
    unknown
        What becomes of labels that a given table lacks: an ``"error"`` at once, or code -1 (``"missing"``).
    fields
        Those that are read; tables can only be given for codes among them.
    rows
        The rows that are read, for which labels must be known; all when None.
    """

    def __init__(
        self,
        store: Store,
        given: Mapping[str, Sequence[Any]] | None = None,
        unknown: Unknown = "error",
        fields: Iterable[str] = (),
        rows: Rows | None = None,
    ) -> None:
        if unknown not in get_args(Unknown):
            raise ParameterError(f"unknown must be one of {', '.join(get_args(Unknown))}, got {unknown!r}")
        self.store: Store = store
        self.unknown = unknown
        if given is not None and not isinstance(given, Mapping):
            raise ParameterTypeError(f"categories must be a dict of lists of labels, got {given!r}")
        self.given: dict[str, tuple[Any, ...]] = {}
        self._recoded: dict[str, NDArray[np.int64]] = {}
        for column, table in {self._name(column): table for column, table in (given or {}).items()}.items():
            if f"obs/{column}:code" not in fields:
                raise ParameterError(
                    f"categories are given for {column!r}, but fields has no 'obs/{column}:code' (it has "
                    f"{', '.join(fields) or 'nothing'})"
                )
            self.given[column] = _as_table(column, table, store.categories(column))
            self._recoded[field_key(f"obs/{column}:code")] = self._recoding(column, rows)

    def _recoding(self, column: str, rows: Rows | None) -> NDArray[np.int64]:
        """For each code of the data the given table's; the last one for a missing label."""
        own, place = self.store.categories(column), {label: code for code, label in enumerate(self.given[column])}
        recoded = np.array([*(place.get(label, -1) for label in own), -1], np.int64)
        lacking = np.flatnonzero(recoded[:-1] < 0)
        if self.unknown == "error" and len(lacking):
            codes = self.store.codes(column)
            present = np.intersect1d(lacking, codes if rows is None else values_of(codes, rows))
            if len(present):
                labels = "label" if len(present) == 1 else "labels"
                some = ", ".join(repr(own[code]) for code in present[:5].tolist())
                raise ParameterError(
                    f"obs column {column!r} has {len(present)} {labels} that the given categories lack "
                    f"({some}): add them, or pass unknown='missing' to give them code -1"
                )
        return recoded

    def fingerprint(self) -> dict[str, str]:
        """A few characters that distinguish these tables from the data's own."""
        return {"categories": f"crc {zlib.crc32(repr(sorted(self.given.items())).encode()):08x}"} if self.given else {}

    def recode(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of a batch, by key, with codes of the given tables."""
        return {key: self._recoded[key][values] if key in self._recoded else values for key, values in fields.items()}

    def categories(self, column: str) -> tuple[Any, ...]:
        """The labels of an obs column, in the order of their codes."""
        column = self._name(column)
        return self.given[column] if column in self.given else self.store.categories(column)

    def _name(self, column: str) -> str:
        """A column by its own name, or as a field has it."""
        if not isinstance(column, str):
            raise FieldError(f"column must be the name of an obs column, got {column!r}")
        known = f"obs/{column}" in self.store.fields
        return column if known else column.removeprefix("obs/").removesuffix(":code")

    def decode(self, column: str, codes: Any) -> list[Any]:
        """The labels that codes stand for; for -1 ``""``, or None among integers and booleans."""
        known = self.categories(column)
        table = np.array([*known, "" if all(isinstance(label, str) for label in known) else None], object)
        places = np.asarray(codes.cpu() if isinstance(codes, Tensor) else codes)
        if places.dtype.kind not in "iu" and places.size:
            raise ParameterTypeError(f"codes must be integers, got {places.dtype}")
        wrong = places[(places < -1) | (places >= len(table) - 1)]
        if len(wrong):
            raise ParameterError(f"codes of {column!r} must lie in -1 … {len(table) - 2}, got {wrong[0]}")
        labels: list[Any] = table[places.astype(np.int64)].tolist() if places.ndim else table[int(places)]
        return labels


def _as_table(column: str, table: Sequence[Any], own: tuple[Any, ...]) -> tuple[Any, ...]:
    """A given table: of strings, as all labels are, unless the data's ``own`` are integers or booleans."""
    if isinstance(table, str) or not hasattr(table, "__getitem__"):  # a set has another order in each process
        raise ParameterTypeError(f"categories of {column!r} must be a list of labels, got {table!r}")
    labels = tuple(label.item() if isinstance(label, np.generic) else label for label in table)
    if not own or isinstance(own[0], str):
        labels = tuple(map(str, labels))
    twice = [label for label in labels if labels.count(label) > 1] if len(set(labels)) < len(labels) else []
    if twice:
        raise ParameterError(f"categories of {column!r} name {twice[0]!r} twice")
    return labels
