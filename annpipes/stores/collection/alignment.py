"""The genes of several files as one list, and what their tables say alike of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from annpipes.errors import FormatError, ParameterError
from annpipes.stores.genes import positions_in
from annpipes.stores.series import TEXT, as_dtype, common_dtype, is_mixed

__all__ = ["agreed_columns", "first_few", "join_names", "union"]


def join_names(indexes: Sequence[pd.Index[Any]], where: Sequence[str], join: str | Sequence[str]) -> pd.Index[Any]:
    """The genes of the whole."""
    names = [index.astype(str) for index in indexes]
    if isinstance(join, str) and all(index.equals(names[0]) for index in names):
        return names[0]
    for index, name in zip(names, where, strict=True):
        if not index.is_unique:
            raise ParameterError(
                f"{name} has the gene {index[index.duplicated()][0]!r} twice, so its genes cannot be aligned with "
                f"those of the other files: adata.var_names_make_unique() and write it again"
            )
    if join == "inner":
        common = names[0][np.all([names[0].isin(index) for index in names], axis=0)]
        if len(common) == 0:
            raise ParameterError(
                f"no gene is in all {len(names)} files ({first_few(names[0])} in {where[0]}, {first_few(names[-1])} in "
                f"{where[-1]}): are var_names of one kind?"
            )
        return common
    every = pd.Index(union(names))
    if join == "outer":
        return every
    chosen = pd.Index([str(gene) for gene in join])
    if not chosen.is_unique:
        raise ParameterError(f"join names the gene {chosen[chosen.duplicated()][0]!r} more than once")
    positions_in(np.asarray(chosen, object), every, f"any of {len(names)} files")
    return chosen


def union(tables: Iterable[Iterable[str]]) -> list[str]:
    """All members, in the order in which they first come."""
    return list(dict.fromkeys(chain.from_iterable(tables)))


def agreed_columns(frames: Sequence[pd.DataFrame], names: pd.Index[Any]) -> pd.DataFrame:
    """The columns on which all frames that have them agree about each name."""
    frames = [frame.set_axis(frame.index.astype(str)) for frame in frames]
    if all(frame.equals(frames[0]) for frame in frames):
        return frames[0] if frames[0].index.equals(names) else frames[0].reindex(names)
    agreed = pd.DataFrame(index=names)
    if not names.is_unique:
        return agreed
    for column in dict.fromkeys(column for frame in frames for column in frame):
        values = _agreed([frame[column] for frame in frames if column in frame], names)
        if values is not None:
            agreed[column] = values
    return agreed


def _agreed(columns: Sequence[pd.Series[Any]], names: pd.Index[Any]) -> pd.Series[Any] | None:
    """One column of all, in the type that `common_dtype` gives them; None where they contradict each other."""
    dtypes = [column.dtype for column in columns]
    if is_mixed(dtypes):
        return None
    partial = not np.any([names.isin(column.index) for column in columns], axis=0).all()
    dtype = common_dtype([*dtypes, None] if partial else dtypes)
    try:
        found = _objects(columns, dtype, names)
    except FormatError:  # integers too large for floats
        dtype = common_dtype([pd.array(column.array[:0].astype(column.dtype)).dtype for column in columns])
        if isinstance(dtype, np.dtype):
            return None
        found = _objects(columns, dtype, names)
    values = reduce(lambda one, other: one.where(one.notna(), other), found)
    if not all((other.isna() | (values == other)).all() for other in found):
        return None
    if isinstance(dtype, pd.CategoricalDtype):
        return pd.Series(pd.Categorical(values, dtype=dtype), names)
    return values if dtype == TEXT else values.astype(dtype)


def _objects(columns: Sequence[pd.Series[Any]], dtype: Any, names: pd.Index[Any]) -> list[pd.Series[Any]]:
    """The columns' values in the common type, as objects: these may be missing and stay what they are."""
    return [as_dtype(column, dtype, f"var column {column.name!r}").astype(object).reindex(names) for column in columns]


def first_few(names: Any) -> str:
    return ", ".join(map(str, names[:3])) + (" …" if len(names) > 3 else "")
