"""The genes of several files as one list, and what their tables say alike of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from annpipes._store.genes import positions_in
from annpipes.errors import ParameterError

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
        found = [_plain(frame[column]).reindex(names) for frame in frames if column in frame]
        values = reduce(lambda one, other: one.where(one.notna(), other), found)
        if all(((values == other) | other.isna()).all() for other in found):
            kinds = {frame[column].dtype for frame in frames if column in frame}
            agreed[column] = values.astype(kinds.pop()) if len(kinds) == 1 and values.notna().all() else values
    return agreed


def _plain(values: pd.Series[Any]) -> pd.Series[Any]:
    """Categories as their labels: those of different tables cannot be compared."""
    return values.astype(object) if isinstance(values.dtype, pd.CategoricalDtype) else values


def first_few(names: Any) -> str:
    return ", ".join(map(str, names[:3])) + (" …" if len(names) > 3 else "")
