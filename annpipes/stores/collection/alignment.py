"""The genes of several files as one list, and the columns of var on which the files agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, reduce
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from annpipes.errors import FormatError, ParameterError
from annpipes.plans.rows import RowArray
from annpipes.stores.base import FieldStore
from annpipes.stores.gene_tables import with_names
from annpipes.stores.generics import AnyIndex, AnySeries
from annpipes.stores.genes import Genes
from annpipes.stores.protocol import MatrixReader, names_crc
from annpipes.stores.series import TEXT, as_dtype, common_dtype, is_mixed
from annpipes.stores.vocabularies import AS_NAMED, Matching, places_of_genes, refuse_repeated

__all__ = ["JoinedGenes", "agreed_columns", "first_few", "join_names", "union"]


class JoinedGenes:
    """The genes along which some fields of several stores lie, as one list: those of var, or those of raw.

    Parameters
    ----------
    stores
        Whose genes they are. A store without raw has no genes of raw and does not affect which are joined.
    join
        Which of them, as for `Collection`.
    matching
        How those of one store are recognised in another; a list of genes may name some that none has.
    raw
        Whether they are the genes of raw, along which ``raw/X`` lies, rather than those of X and layers.
    """

    def __init__(
        self, stores: Sequence[FieldStore], join: str | Sequence[str], matching: Matching, *, raw: bool = False
    ) -> None:
        self.stores: Sequence[FieldStore] = stores
        self.matching: Matching = matching
        self.raw: bool = raw
        self._having = list(filter(self._has, stores))
        tables = [self._keys(store) for store in self._having]
        if isinstance(join, str):
            if matching.missing == "fill":
                raise ParameterError(f"missing_genes='fill' fills a list of genes, join=[…], but join is {join!r}")
            for store, keys in zip(self._having, tables, strict=True):
                self._need_all(store, keys)
        where = [f"{'raw of ' if raw else ''}{store.files[0]}" for store in self._having]
        self._known = join_names(tables, where, join, matching, raw=raw, table=lambda: self._table(self._having[0]))
        self.names: AnyIndex = self._known if isinstance(join, str) else pd.Index(join)
        """What the genes of the whole are called."""

    def _has(self, store: FieldStore) -> bool:
        return not self.raw or "raw/X" in store.fields

    def _table(self, store: FieldStore) -> pd.DataFrame:
        return store.gene_table(raw=self.raw)

    def _keys(self, store: FieldStore) -> AnyIndex:
        """What the genes of one store are recognised by; None where nothing is known."""
        keys = store.gene_keys(self.matching.column, raw=self.raw)
        keys = keys.astype(str) if self.matching.column is None else keys
        return keys if self.matching.versions == "keep" else pd.Index(self.matching.compared(keys), dtype=object)

    def _need_all(self, store: FieldStore, keys: AnyIndex) -> None:
        unknown = store.gene_keys(None, raw=self.raw)[keys.isna()]
        if len(unknown):
            raise ParameterError(
                f"the var column {self.matching.column!r} of {store.genes_where(raw=self.raw)} has no value for "
                f"{len(unknown)} genes "
                f"({first_few(unknown)}), so they cannot be aligned: fill it in, or give the genes as a list, join=[…]"
            )

    @property
    def table(self) -> pd.DataFrame:
        """The columns of the stores' tables that do not contradict each other."""
        agreed = agreed_columns([self._frame(store) for store in self._having], self._known)
        return agreed if self.names is self._known else agreed.set_axis(self.names)

    def _frame(self, store: FieldStore) -> pd.DataFrame:
        if self.matching.column is None and self.matching.versions == "keep":
            return self._table(store)
        keys, frame = self._keys(store), with_names(self._table(store))
        return frame[keys.notna()].set_axis(keys[keys.notna()])

    @cached_property
    def kept(self) -> list[Genes | None]:
        """For each store which of its genes are kept, and where; None where all stay, or where it has none."""
        known: dict[tuple[str, ...], Genes | None] = {}
        maps: list[Genes | None] = []
        for store in self.stores:
            if not self._has(store):
                maps.append(None)
                continue
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

    @property
    def presence(self) -> list[NDArray[np.bool_]]:
        """For each store which of the genes it has; each ``(genes,)``."""
        return [
            np.full(len(self.names), self._has(store)) if genes is None else genes.positions >= 0
            for store, genes in zip(self.stores, self.kept, strict=True)
        ]

    @cached_property
    def fingerprint(self) -> str:
        """What they are recognised by."""
        how = f", {self.matching.column or 'var_names'}, versions {self.matching.versions}"
        return f"{len(self.names)}, {names_crc(self.names)}{'' if self.matching == AS_NAMED else how}"

    def check(self, field: str, matrices: Sequence[MatrixReader | None]) -> None:
        """Refuse a matrix, of each store that has the field, whose columns are not the genes of its store."""
        for store, matrix, genes in zip(self.stores, matrices, self.kept, strict=True):
            if matrix is not None:
                store.refuse_other_width(field, matrix, len(self._known if genes is None else genes.columns))

    def refuse_left_out(self, names: Sequence[str], matching: Matching) -> None:
        """Refuse to fill genes that a store has and the join has left out."""
        asked = dict(zip(matching.compared(names), names, strict=True))
        for store in self._having:
            if matching.column is not None and matching.column not in self._table(store):
                continue
            own = matching.column is None
            keys = self._keys(store) if own else store.gene_keys(matching.column, raw=self.raw)
            left = [asked[key] for key in matching.compared(keys) if key in asked]
            if left:
                raise ParameterError(
                    f"{store.genes_where(raw=self.raw)} has {len(left)} of the genes that are missing "
                    f"({first_few(left)}): they would be filled because not all files have them; "
                    f"Collection(…, join='outer') or join=[…] keeps them"
                )


def join_names(
    tables: Sequence[AnyIndex],
    where: Sequence[str],
    join: str | Sequence[str],
    matching: Matching = AS_NAMED,
    *,
    raw: bool = False,
    table: Callable[[], pd.DataFrame] | None = None,
) -> AnyIndex:
    """The genes of the whole, of those that each file has; of a list of genes, as they are compared."""
    if isinstance(join, str) and all(index.equals(tables[0]) for index in tables):
        return tables[0]
    for index, name in zip(tables, where, strict=True):
        _refuse_twice(index[index.notna()], name, matching, raw=raw)
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
    any_file = f"{'raw of ' if raw else ''}any of {len(tables)} files"
    places_of_genes(np.asarray(list(join), object), every, any_file, matching, table)
    chosen: AnyIndex = pd.Index(matching.compared(join))
    return chosen


def _refuse_twice(keys: AnyIndex, where: str, matching: Matching, *, raw: bool) -> None:
    if keys.is_unique:
        return
    twice = keys[keys.duplicated()][0]
    if matching.versions == "drop":
        how, remedy = "without their versions", "gene_versions='keep', or one name for each"
    elif matching.column is not None:
        how, remedy = f"in {matching.column!r}", "give each a value of its own"
    else:
        unique = "adata.var_names_make_unique()"
        of_raw = "raw = adata.raw.to_adata(); raw.var_names_make_unique(); adata.raw = raw"
        how, remedy = "", f"{of_raw if raw else unique} and write it again"
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
        empty: list[tuple[Any, Any]] = [(column.array[:0], column.dtype) for column in columns]
        dtype = common_dtype([pd.array(none.astype(dtype)).dtype for none, dtype in empty])  # those that may be missing
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
