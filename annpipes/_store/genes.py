"""Some of the genes, in an order of their own."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from annpipes._rows import RowArray, as_rows, brief_rows
from annpipes._store.kernels import copy_pieces, keep_columns
from annpipes._store.pools import Work, empty, run
from annpipes.errors import FieldError, ParameterError
from annpipes.types import SparseRows

__all__ = ["Genes", "as_genes", "take_genes"]

_PART_ROWS = 512


@dataclass(frozen=True, eq=False)
class Genes:
    """Genes to keep.

    Parameters
    ----------
    positions
        Which, in the order of the batch's columns; shape ``(kept,)``.
    columns
        For each gene of the data its column in the batch, or -1; shape ``(n_vars,)``, int32.
    """

    positions: RowArray
    columns: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.positions)

    def __repr__(self) -> str:
        return brief_rows(self.positions).replace("rows", "genes")


def as_genes(genes: Any, names: pd.Index[Any], where: str) -> Genes:
    """Genes given as names, positions or a mask; an error names those that are unknown or given twice."""
    chosen = as_rows(genes, len(names), argument="genes", positions_of=lambda given: _named(given, names, where))
    positions = np.asarray(chosen, np.int64)
    unique, counts = np.unique(positions, return_counts=True)
    if len(unique) < len(positions):
        raise ParameterError(f"genes name {names[unique[counts > 1][0]]!r} more than once")
    columns = np.full(len(names), -1, np.int32)
    columns[positions] = np.arange(len(positions))
    return Genes(positions, columns)


def _named(given: NDArray[Any], names: pd.Index[Any], where: str) -> RowArray:
    places = {name: position for position, name in enumerate(names)}
    unknown = [name for name in given.tolist() if name not in places]
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), map(str, places), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise FieldError(f"no gene {unknown[0]!r} in {where} ({len(unknown)} of {len(given)} unknown){hint}")
    repeated = set(names[names.duplicated()])
    if ambiguous := [name for name in given if name in repeated]:
        raise ParameterError(f"gene {str(ambiguous[0])!r} stands more than once in {where}: choose genes by position")
    return np.array([places[name] for name in given], np.int64)


def take_genes(values: SparseRows | NDArray[Any], genes: Genes) -> SparseRows | NDArray[Any]:
    """The kept genes of rows just read, ``(n, kept)``; sparse rows are overwritten."""
    if isinstance(values, SparseRows):
        return _take_sparse(values, genes)
    return values.take(genes.positions, axis=1, out=empty((len(values), len(genes)), values.dtype), mode="clip")


def _take_sparse(rows: SparseRows, genes: Genes) -> SparseRows:
    kept = np.empty(len(rows), np.int64)  # values of each row
    words = rows.data.view(f"u{rows.data.itemsize}")
    keep = partial(keep_columns, words, rows.indices, rows.indptr, genes.columns, kept)
    run(Work([partial(keep, *part) for part in pairwise([*range(0, len(rows), _PART_ROWS), len(rows)])]))
    indptr = np.concatenate([[0], np.cumsum(kept)])
    data, indices = (_compacted(array, rows.indptr, indptr, kept) for array in (rows.data, rows.indices))
    return SparseRows(data, indices, indptr, len(genes))


def _compacted(values: NDArray[Any], froms: RowArray, tos: RowArray, lengths: RowArray) -> NDArray[Any]:
    out = empty(int(tos[-1]), values.dtype)
    size = values.itemsize
    offsets = (froms[:-1] * size, tos[:-1] * size, lengths * size)
    copy_pieces(values.view(np.uint8), *offsets, 0, len(lengths), out.view(np.uint8))
    return out
