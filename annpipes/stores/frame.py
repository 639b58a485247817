"""Rows of obs columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from annpipes.errors import FieldError, FormatError, ParameterError
from annpipes.stores.generics import AnyIndex, AnySeries
from annpipes.stores.refusals import refuse_numbers
from annpipes.types import Chunk

__all__ = ["Codes", "Column", "Labels", "column_of", "positions_of", "refuse_twice"]

MISSING_LABEL = ""
"""What stands for a missing string or category."""


class Column(Protocol):
    """One obs column, whole in memory in its narrowest form."""

    def __len__(self) -> int: ...

    def read(self, chunk: Chunk) -> NDArray[Any]:
        """Values of the chunk's rows in the drawn order; shape ``(n,)``."""

    def coded(self, name: str) -> Labels:
        """The column as codes and categories; a `FieldError` naming the column if it holds floats."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """Numbers and booleans as they are; ``kind`` is what they were where some are missing and NaN, "b" or "i"."""

    values: NDArray[Any]  # (n_obs,)
    kind: str = ""

    def __len__(self) -> int:
        return len(self.values)

    def read(self, chunk: Chunk) -> NDArray[Any]:
        values: NDArray[Any] = self.values[chunk.drawn]
        return values

    def coded(self, name: str) -> Labels:
        kind = self.kind or self.values.dtype.kind
        if kind not in "biu":
            raise FieldError(
                f"obs column {name!r} holds numbers that are not whole; categories, strings, integers and booleans "
                f"have codes: ask for {f'obs/{name}'!r}, or make them labels, "
                f"adata.obs[{name!r}] = adata.obs[{name!r}].astype('category')"
            )
        if not self.kind:
            native = self.values.astype(self.values.dtype.newbyteorder("="), copy=False)
            return _factorized(native, np.ones(len(native), bool))
        there = ~np.isnan(self.values)
        return _factorized(self.values[there].astype(bool if kind == "b" else np.int64), there)


@dataclass(frozen=True, eq=False)
class Labels:
    """Categories: a code for each row (missing: -1) and what the codes stand for, all strings, integers or booleans."""

    codes: NDArray[Any]  # (n_obs,)
    categories: tuple[Any, ...]
    ordered: bool = False

    def __len__(self) -> int:
        return len(self.codes)

    def read(self, chunk: Chunk) -> NDArray[Any]:
        # The label for "missing" comes last, where code -1 finds it.
        labels: NDArray[Any] = np.array([*self.categories, MISSING_LABEL], object)[self.codes[chunk.drawn]]
        return labels

    def coded(self, name: str) -> Labels:
        return self


@dataclass(frozen=True, eq=False)
class Strings:
    """Strings that mostly differ from row to row."""

    values: NDArray[Any]  # (n_obs,) of str
    missing: NDArray[np.bool_]  # (n_obs,)

    def __len__(self) -> int:
        return len(self.values)

    def read(self, chunk: Chunk) -> NDArray[Any]:
        return self.values[chunk.drawn]

    def coded(self, name: str) -> Labels:
        return _factorized(self.values[~self.missing], ~self.missing)


@dataclass(frozen=True, eq=False)
class Codes:
    """The codes of a column of labels."""

    labels: Labels

    def read(self, chunk: Chunk) -> NDArray[np.int64]:
        return self.labels.codes[chunk.drawn].astype(np.int64)


def column_of(values: AnySeries, where: str = "an obs column") -> Column:
    """A pandas column in its narrowest form.

    Numbers and booleans keep their type. Nullable ones with a missing value become float64,
    NaN where missing. Everything else becomes strings, ``""`` where missing. Numbers that no tensor
    holds, and whole numbers that float64 would change, are a `FormatError` that names ``where``.
    """
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        found: Any = values.array  # whose codes are a view; those of ``cat`` are a copy since pandas 3
        return Labels(found.codes, tuple(map(str, found.categories)), bool(dtype.ordered))
    if isinstance(dtype, np.dtype) and dtype.kind in "biufcV":
        refuse_numbers(dtype, where)
        return Numbers(values.to_numpy())
    if pd.api.types.is_bool_dtype(dtype) or pd.api.types.is_numeric_dtype(dtype):
        if values.isna().any():
            kind = "b" if pd.api.types.is_bool_dtype(dtype) else "i" if pd.api.types.is_integer_dtype(dtype) else ""
            return Numbers(_as_floats(values, where), kind)
        return Numbers(values.to_numpy(getattr(dtype, "numpy_dtype", None)))
    missing = values.isna().to_numpy()
    strings = values.astype(object).where(~missing, MISSING_LABEL).map(str)
    return Strings(np.asarray(strings, object), missing)


def _factorized(values: NDArray[Any], there: NDArray[np.bool_]) -> Labels:
    """The labels of a column with ``values`` in the rows that are ``there``, ``(n_obs,)``; their table is sorted."""
    present, categories = pd.factorize(values, sort=True)
    codes = np.full(len(there), -1, np.min_scalar_type(-len(categories) - 1))
    codes[there] = present
    return Labels(codes, tuple(categories.tolist()))


def _as_floats(values: AnySeries, where: str) -> NDArray[np.float64]:
    floats: NDArray[np.float64] = values.to_numpy(np.float64, na_value=np.nan)
    large = np.flatnonzero(np.abs(floats) > _WHOLE)
    if not pd.api.types.is_integer_dtype(values.dtype):
        return floats
    if any(int(floats[row]) != int(values.iloc[row]) for row in large.tolist()):
        raise FormatError(
            f"{where} has missing values and whole numbers beyond 2**53, which a column of floats cannot hold "
            f"together: fill the missing values (fillna), or store strings"
        )
    return floats


_WHOLE = 2.0**53 - 1
"""Up to here, float64 tells all whole numbers apart."""


def refuse_twice(columns: Sequence[str], column: str, where: str) -> None:
    """Refuse a column whose name others have, too."""
    if columns.count(column) > 1:
        raise FormatError(
            f"obs of {where} has {columns.count(column)} columns named {column!r}: give each a name of its own "
            f"(adata.obs.columns = …)"
        )


def positions_of(names: NDArray[Any], index: AnyIndex, where: str) -> NDArray[np.int64]:
    """Where each name stands in ``index``; a `FieldError` or `ParameterError` if that has no one answer."""
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise ParameterError(f"obs names of {where} are not unique ({twice!r} occurs twice): choose rows by position")
    positions = index.get_indexer(pd.Index(names))
    unknown = np.asarray(names)[positions < 0]
    if len(unknown):
        raise FieldError(f"no obs name {str(unknown[0])!r} in {where} ({len(unknown)} of {len(names)} names unknown)")
    return positions.astype(np.int64)
