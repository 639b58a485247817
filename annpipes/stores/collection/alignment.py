"""The genes of several files as one list, and what their tables say alike of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, reduce
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from annpipes.errors import FormatError, ParameterError
from annpipes.plans.rows import RowArray
from annpipes.stores.base import FieldStore
from annpipes.stores.gene_tables import with_names
from annpipes.stores.generics import AnyIndex, AnySeries
from annpipes.stores.genes import Genes
from annpipes.stores.series import TEXT, as_dtype, common_dtype, is_mixed
from annpipes.stores.vocabularies import AS_NAMED, Matching, places_of_genes, refuse_repeated

__all__ = ["JoinedGenes", "agreed_columns", "first_few", "join_names", "union"]


class JoinedGenes:
    """The genes of several stores as one list.

    Parameters
    ----------
    stores, files
        Whose genes they are, and what errors call these.
    join
        Which of them, as for `Collection`.
    matching
        How those of one store are recognised in another; a list of genes may name some that none has.
    """

    def __init__(
        self, stores: Sequence[FieldStore], files: Sequence[str], join: str | Sequence[str], matching: Matching
    ) -> None:
        self.stores: Sequence[FieldStore] = stores
        self.matching: Matching = matching
        tables = [self._keys(store) for store in stores]
        if isinstance(join, str):
            if matching.missing == "fill":
                raise ParameterError(f"missing_genes='fill' fills a list of genes, join=[…], but join is {join!r}")
            for store, keys in zip(stores, tables, strict=True):
                self._need_all(store, keys)
        self._known = join_names(tables, files, join, matching, lambda: stores[0].var)
        self.names: AnyIndex = self._known if isinstance(join, str) else pd.Index(join)
        """What the genes of the whole are called."""

    def _keys(self, store: FieldStore) -> AnyIndex:
        """What the genes of one store are recognised by; None where nothing is known."""
        keys = store.gene_keys(self.matching.column)
        keys = keys.astype(str) if self.matching.column is None else keys
        return keys if self.matching.versions == "keep" else pd.Index(self.matching.compared(keys), dtype=object)

    def _need_all(self, store: FieldStore, keys: AnyIndex) -> None:
        unknown = store.var_names[keys.isna()]
        if len(unknown):
            raise ParameterError(
                f"the var column {self.matching.column!r} of {store.name} has no value for {len(unknown)} genes "
                f"({first_few(unknown)}), so they cannot be aligned: fill it in, or give the genes as a list, join=[…]"
            )

    @property
    def table(self) -> pd.DataFrame:
        """The columns of the stores' var tables that do not contradict each other."""
        agreed = agreed_columns([self._frame(store) for store in self.stores], self._known)
        return agreed if self.names is self._known else agreed.set_axis(self.names)

    def _frame(self, store: FieldStore) -> pd.DataFrame:
        if self.matching.column is None and self.matching.versions == "keep":
            return store.var
        keys, frame = self._keys(store), with_names(store.var)
        return frame[keys.notna()].set_axis(keys[keys.notna()])

    @cached_property
    def kept(self) -> list[Genes | None]:
        """For each store which of its genes are kept, and where; None where all stay."""
        known: dict[tuple[str, ...], Genes | None] = {}
        maps = []
        for store in self.stores:
            keys = self._keys(store)
            names = tuple(keys)
            if names not in known:
                known[names] = None if keys.equals(self._known) else Genes.of(self._places(keys), len(keys))
            maps.append(known[names])
        return maps

    def _places(self, keys: AnyIndex) -> RowArray:
        """Where each gene of the whole stands in one store, or -1."""
        if keys.is_unique:
            return keys.get_indexer(self._known).astype(np.int64)
        known = np.flatnonzero(keys.notna())
        return np.append(known, -1)[keys[known].get_indexer(self._known)]

    def refuse_left_out(self, names: Sequence[str], matching: Matching) -> None:
        """Refuse to fill genes that a store has and the join has left out."""
        asked = dict(zip(matching.compared(names), names, strict=True))
        for store in self.stores:
            if matching.column is not None and matching.column not in store.var:
                continue
            keys = self._keys(store) if matching.column is None else store.gene_keys(matching.column)
            left = [asked[key] for key in matching.compared(keys) if key in asked]
            if left:
                raise ParameterError(
                    f"{store.name} has {len(left)} of the genes that are missing ({first_few(left)}): they would be "
                    f"filled because not all files have them; Collection(…, join='outer') or join=[…] keeps them"
                )


def join_names(
    tables: Sequence[AnyIndex],
    where: Sequence[str],
    join: str | Sequence[str],
    matching: Matching = AS_NAMED,
    table: Callable[[], pd.DataFrame] | None = None,
) -> AnyIndex:
    """The genes of the whole, of those that each file has; of a list of genes, as they are compared."""
    if isinstance(join, str) and all(index.equals(tables[0]) for index in tables):
        return tables[0]
    for index, name in zip(tables, where, strict=True):
        _refuse_twice(index[index.notna()], name, matching)
    if join == "inner":
        common = tables[0][np.all([tables[0].isin(index) for index in tables], axis=0)]
        if len(common) == 0:
            raise ParameterError(
                f"no gene is in all {len(tables)} files ({first_few(tables[0])} in {where[0]}, {first_few(tables[-1])} "
                f"in {where[-1]}): are {matching.column or 'var_names'} of one kind?"
            )
        return common
    every: AnyIndex = pd.Index(union(index[index.notna()] for index in tables))
    if join == "outer":
        return every
    refuse_repeated(list(join), matching, "join names the gene")
    places_of_genes(np.asarray(list(join), object), every, f"any of {len(tables)} files", matching, table)
    chosen: AnyIndex = pd.Index(matching.compared(join))
    return chosen


def _refuse_twice(keys: AnyIndex, where: str, matching: Matching) -> None:
    if keys.is_unique:
        return
    twice = keys[keys.duplicated()][0]
    if matching.versions == "drop":
        how, remedy = "without their versions", "gene_versions='keep', or one name for each"
    elif matching.column is not None:
        how, remedy = f"in {matching.column!r}", "give each a value of its own"
    else:
        how, remedy = "", "adata.var_names_make_unique() and write it again"
    raise ParameterError(
        f"{where} has the gene {twice!r} twice{how and ' '}{how}, so its genes cannot be aligned with those of the "
        f"other files: {remedy}"
    )


def union(tables: Iterable[Iterable[str]]) -> list[str]:
    """All members, in the order in which they first come."""
    return list(dict.fromkeys(chain.from_iterable(tables)))


def agreed_columns(frames: Sequence[pd.DataFrame], names: AnyIndex) -> pd.DataFrame:
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


def _agreed(columns: Sequence[AnySeries], names: AnyIndex) -> AnySeries | None:
    """One column of all, in the type that `common_dtype` gives them; None where they contradict each other."""
    dtypes = [column.dtype for column in columns]
    if is_mixed(dtypes):
        return None
    partial = not np.any([names.isin(column.index) for column in columns], axis=0).all()
    dtype = common_dtype([*dtypes, None] if partial else dtypes)
    try:
        found = _objects(columns, dtype, names)
    except FormatError:  # integers too large for floats
        empty: list[Any] = [column.array[:0] for column in columns]
        dtype = common_dtype([pd.array(none.astype(none.dtype)).dtype for none in empty])
        if isinstance(dtype, np.dtype):
            return None
        found = _objects(columns, dtype, names)
    values = reduce(lambda one, other: one.where(one.notna(), other), found)
    if not all((other.isna() | (values == other)).all() for other in found):
        return None
    if isinstance(dtype, pd.CategoricalDtype):
        return pd.Series(pd.Categorical(values, dtype=dtype), names)
    return values if dtype == TEXT else values.astype(dtype)


def _objects(columns: Sequence[AnySeries], dtype: Any, names: AnyIndex) -> list[AnySeries]:
    """The columns' values in the common type, as objects: these may be missing and stay what they are."""
    return [as_dtype(column, dtype, f"var column {column.name!r}").astype(object).reindex(names) for column in columns]


def first_few(names: Any) -> str:
    return ", ".join(map(str, names[:3])) + (" …" if len(names) > 3 else "")
