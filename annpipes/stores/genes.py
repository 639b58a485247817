"""Some of the genes, in an order of their own."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from annpipes.errors import FormatError, ParameterError
from annpipes.plans.rows import RowArray, as_rows, brief_rows
from annpipes.stores.choices import plain_choice
from annpipes.stores.compiled.kernels import copy_values, keep_columns, renumber_columns
from annpipes.stores.engine.pools import Work, empty, run
from annpipes.stores.generics import AnyIndex
from annpipes.stores.vocabularies import AS_NAMED, Matching, places_of_genes, refuse_repeated
from annpipes.types import SparseRows

__all__ = ["Genes", "as_genes", "fill_columns", "has_genes", "move_columns", "take_genes"]

_PART_ROWS = 512
_SHORT, _MOST = np.iinfo(np.int16).max, np.iinfo(np.int32).max
_BRIEF = 8


@dataclass(frozen=True, eq=False)
class Genes:
    """Genes to keep, of which the data may lack some.

    Parameters
    ----------
    positions
        Which, in the order of the batch's columns, or -1 for one that the data lacks; shape ``(kept,)``.
    columns
        For each gene of the data its column in the batch, or -1; shape ``(n_vars,)``, int16 or int32.
    names
        What they were called when they were chosen by names, shape ``(kept,)``; else None.
    raw
        Whether they are genes of raw, which has its own, rather than of var.
    """

    positions: RowArray
    columns: NDArray[np.signedinteger[Any]]
    names: NDArray[Any] | None = None
    raw: bool = False

    @classmethod
    def of(cls, positions: RowArray, n_vars: int, names: NDArray[Any] | None = None, *, raw: bool = False) -> Genes:
        """Genes at these positions of ``n_vars``."""
        if n_vars > _MOST:
            raise FormatError(f"genes can be chosen from at most {_MOST:,} columns, not {n_vars:,}: read all")
        dtype: Any = np.int16 if len(positions) <= _SHORT else np.int32  # half as large, it stays in a faster cache
        columns = np.full(n_vars, -1, dtype)
        columns[positions[positions >= 0]] = np.flatnonzero(positions >= 0)
        return cls(positions, columns, names, raw)

    def __len__(self) -> int:
        return len(self.positions)

    def __repr__(self) -> str:
        if self.names is not None and len(self) <= _BRIEF:
            return repr(self.names.tolist())
        return brief_rows(self.positions).replace("rows", "genes")

    @cached_property
    def fingerprint(self) -> str:
        """A few characters that differ for other genes, for another order of them, and for others that are lacking."""
        crc = zlib.crc32(np.ascontiguousarray(self.positions, np.int64).data)
        lacking = [] if self.names is None else self.names[self.absent].tolist()
        crc = zlib.crc32("\n".join(lacking).encode(), crc)
        return f"{len(self)}, {len(self.absent)} of them filled, crc {crc:08x}"

    def covers(self, field: str) -> bool:
        """Whether they are columns of a field."""
        return field == "raw/X" if self.raw else has_genes(field)

    @cached_property
    def all_kept(self) -> bool:
        """Whether no gene of the data is left out."""
        return bool((self.columns >= 0).all())

    @cached_property
    def absent(self) -> RowArray:
        """The columns that the data lacks."""
        return np.flatnonzero(self.positions < 0)

    def then(self, others: Genes | None) -> Genes:
        """Of these genes, again only some."""
        if others is None:
            return self
        positions = np.where(others.positions < 0, -1, self.positions[others.positions])
        return Genes.of(positions, len(self.columns))


def as_genes(
    genes: Any,
    names: AnyIndex,
    keys: Callable[[], AnyIndex],
    where: str,
    matching: Matching = AS_NAMED,
    *,
    table: Callable[[], pd.DataFrame] | None = None,
    raw: bool = False,
) -> Genes:
    """Genes given as names, positions or a mask; an error names those that are unknown or given twice.

    Parameters
    ----------
    genes
        As the caller has them.
    names
        The names of the data's genes, in whose order masks are.
    keys
        Loads what names are looked up in.
    where, matching, table
        As for `places_of_genes`.
    raw
        Whether they are looked up among the genes of raw.
    """
    if len(names) > _MOST:
        raise FormatError(f"genes can be chosen from at most {_MOST:,} columns; {where} has {len(names):,}: read all")
    given = plain_choice(genes, len(names), lambda: names, "genes", of="genes")
    chosen = as_rows(given, len(names), argument="genes", of="genes", positions_of=lambda named: named)
    if isinstance(chosen, np.ndarray) and chosen.dtype == object:
        refuse_repeated(chosen.tolist(), matching, "genes name")
        places = places_of_genes(chosen, keys(), where, matching, table)
        return Genes.of(places, len(names), chosen, raw=raw)
    if len(chosen):
        matching.need_names("genes are positions or a mask")
    positions = np.asarray(chosen, np.int64)
    unique, counts = np.unique(positions, return_counts=True)
    if len(unique) < len(positions):
        raise ParameterError(f"genes name {names[unique[counts > 1][0]]!r} more than once")
    return Genes.of(positions, len(names), raw=raw)


def has_genes(field: str) -> bool:
    """Whether the columns of a field are the genes of ``var``."""
    return field == "X" or field.startswith("layers/")


def take_genes(values: Any, genes: Genes, fill: float = 0) -> Any:
    """The kept genes of rows just read, ``(n, kept)``, ``fill`` where there is none; sparse rows are overwritten."""
    if isinstance(values, SparseRows):
        kept = move_columns(values, [(genes, np.arange(len(values)))], len(genes))
        return fill_columns(kept, genes.absent, fill) if fill else kept
    if values.shape[1] == 0:
        return np.full((len(values), len(genes)), fill, values.dtype)
    taken = values.take(genes.positions, axis=1, out=empty((len(values), len(genes)), values.dtype), mode="clip")
    taken[:, genes.absent] = fill
    return taken


def move_columns(rows: SparseRows, moves: Sequence[tuple[Genes, RowArray]], n_vars: int) -> SparseRows:
    """Sparse rows, overwritten, in which some rows have other columns, and only those values that have one.

    Parameters
    ----------
    rows
        What was read.
    moves
        Genes to keep, and the rows that keep them; rows that are in none keep everything.
    n_vars
        The new width.
    """
    kept = rows.lengths  # values of each row
    words = rows.data.view(f"u{rows.data.itemsize}")
    run(*(_moving(rows, words, genes, some, kept) for genes, some in moves))
    indptr = np.concatenate([[0], np.cumsum(kept)])
    if indptr[-1] == rows.indptr[-1]:
        return SparseRows(rows.data, rows.indices, rows.indptr, n_vars)
    data, indices = (_compacted(array, rows.indptr, indptr, kept) for array in (rows.data, rows.indices))
    return SparseRows(data, indices, indptr, n_vars)


def _moving(rows: SparseRows, words: NDArray[Any], genes: Genes, some: RowArray, kept: RowArray) -> Work:
    parts = pairwise([*range(0, len(some), _PART_ROWS), len(some)])
    indices = rows.indices.view(f"u{rows.indices.itemsize}")
    if genes.all_kept:
        move = partial(renumber_columns, indices, rows.indptr, genes.columns, some)
        return Work([partial(move, *part) for part in parts])
    keep = partial(keep_columns, words, indices, rows.indptr, genes.columns, some)
    return Work([partial(keep, *part, kept) for part in parts])


def fill_columns(rows: SparseRows, columns: RowArray, fill: float) -> SparseRows:
    """Sparse rows with ``fill`` stored in each of these columns, which hold nothing so far."""
    ends = np.repeat(rows.indptr[1:], len(columns))
    data = np.insert(rows.data, ends, rows.data.dtype.type(fill))
    indices = np.insert(rows.indices, ends, np.tile(columns, len(rows)).astype(rows.indices.dtype))
    return SparseRows(data, indices, rows.indptr + len(columns) * np.arange(len(rows) + 1), rows.n_vars)


def _compacted(values: NDArray[Any], froms: RowArray, tos: RowArray, lengths: RowArray) -> NDArray[Any]:
    out = empty(int(tos[-1]), values.dtype)
    copy_values(values, froms[:-1], tos[:-1], lengths, out)
    return out
