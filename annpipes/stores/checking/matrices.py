"""Whether the parts of a sparse matrix fit together, and what its values and columns are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.plans.rows import RowArray
from annpipes.stores.checking.ledgers import Ledger, Ledgers
from annpipes.stores.containers.base import Container
from annpipes.stores.engine.scanning import INFINITE, NAN, OUTSIDE, TWICE, UNSORTED, flags_of_columns, flags_of_values
from annpipes.stores.engine.stretches import STRETCH_BYTES, Stretches
from annpipes.stores.surveying import SPARSE, encoding_of, is_expression, sparse_shape, unit_of

__all__ = ["check_sparse", "check_values"]

_LEAST_STORAGE_CHUNKS = 4  # in a stretch: those at its edges are decoded twice


def check_sparse(
    container: Container,
    arrays: Mapping[str, Any],
    group: Any,
    path: str,
    ledgers: Ledgers,
    advance: Callable[[int], None],
) -> tuple[int, int] | None:
    """The shape of a sparse matrix, if it has one, after everything in it was read.

    ``group`` is as h5py or zarr has it, and ``arrays`` are those in it.
    """
    damage, parts = ledgers.damage, dict[str, Stretches]()
    for name in ("indptr", "indices", "data"):
        part, place = arrays.get(name), f"{path}/{name}"
        if part is not None and part.shape is not None and len(part.shape) == 1:
            parts[name] = Stretches(container, part, place)
        elif not damage.knows(place):
            damage.note(place, "is missing, or not a one-dimensional array of numbers")
    by_rows = SPARSE[encoding_of(group)] == "csr"
    unit = unit_of(path) if by_rows else "columns"
    shape = sparse_shape(group)
    if shape is None and not set(group.attrs.keys()).isdisjoint(("shape", "h5sparse_shape")):  # none is no damage
        damage.note(path, "has no two-dimensional shape")
    major, minor = (None, None) if shape is None else shape if by_rows else shape[::-1]
    counts = [len(parts[name]) for name in ("indices", "data") if name in parts]
    indptr = None
    if "indptr" in parts:
        indptr = _indptr(parts["indptr"], f"{path}/indptr", unit, major, counts, damage)
        advance(len(parts["indptr"]) * parts["indptr"].row_bytes)
    for name in ("indices", "data"):
        if name in parts:
            _check_entries(
                parts[name], path, name, unit if indptr is not None else "entries", indptr, minor, ledgers, advance
            )
    return shape


def check_values(values: NDArray[Any], path: str, unit: str, first: int, ledgers: Ledgers) -> None:
    """NaN and infinite values in rows of a dense matrix, the first of which is row ``first``."""
    _note_values(values.reshape(-1), np.arange(len(values) + 1) * values.shape[1], path, unit, first, ledgers)


def _indptr(
    part: Stretches, path: str, unit: str, major: int | None, counts: list[int], damage: Ledger
) -> RowArray | None:
    """Where rows begin, or None if that contradicts itself."""
    before = len(damage)
    pieces = [values for edges in part.edges() for _, values in part.intact(*edges)]
    for bad in part.bad:
        end = len(part) - 2  # entry i begins row i; the last entry ends the last row
        damage.note(path, bad.reason, unit, min(bad.first, end), min(bad.last, end))
    if part.table and not part.bad:
        damage.note(path, part.table)
    if part.dtype.kind not in "iu":
        damage.note(path, f"holds {part.dtype}, not whole numbers")
    if len(damage) > before:
        return None
    indptr = np.concatenate([np.zeros(0, np.int64), *pieces]).astype(np.int64)
    if major is not None and len(indptr) != major + 1:
        damage.note(path, f"has {len(indptr):,} entries, but {major:,} {unit} need one more")
    if len(indptr) and indptr[0] != 0:
        damage.note(path, f"begins with {indptr[0]:,}, not with 0", unit, 0)
    damage.note_rows(path, "decreases", unit, np.flatnonzero(indptr[1:] < indptr[:-1]))
    stored = min(counts, default=0)
    damage.note_rows(path, f"ends beyond the {stored:,} stored values", unit, np.flatnonzero(indptr[1:] > stored))
    if len(indptr) and indptr[-1] < max(counts, default=0):
        damage.note(path, f"ends with {indptr[-1]:,}, but there are {max(counts):,} stored values")
    return None if len(damage) > before or not len(indptr) else indptr


def _check_entries(
    part: Stretches,
    path: str,
    name: str,
    unit: str,
    indptr: RowArray | None,
    width: int | None,
    ledgers: Ledgers,
    advance: Callable[[int], None],
) -> None:
    """The values, or the column of each; where no rows are known, each entry counts for itself."""
    whole = name == "data" or part.dtype.kind in "iu"
    if not whole:
        ledgers.damage.note(f"{path}/{name}", f"holds {part.dtype}, not whole numbers")
    for first, last in part.edges() if indptr is None else _row_edges(indptr, part):
        for begin, values in part.intact(first, last):
            row, pointers = _rows_in(indptr, begin, len(values))
            if name == "data" and is_expression(path):
                _note_values(values, pointers, path, unit, row, ledgers)
            elif name == "indices" and whole and width is not None:
                _note_columns(values, pointers, f"{path}/indices", unit, row, width, ledgers)
        advance((last - first) * part.row_bytes)
    ledgers.note_bad(part, f"{path}/{name}", unit, indptr)


def _note_columns(
    indices: NDArray[Any], indptr: RowArray, path: str, unit: str, first: int, width: int, ledgers: Ledgers
) -> None:
    flags, other = flags_of_columns(indices, indptr, width), "row" if unit == "columns" else "column"
    for flag, ledger, what in (
        (OUTSIDE, ledgers.damage, f"a {other} is not in 0 … {width - 1:,}"),
        (UNSORTED, ledgers.remarks, f"{other}s do not ascend"),
        (TWICE, ledgers.remarks, f"a {other} is stored twice: its values are added"),
    ):
        ledger.note_rows(path, what, unit, np.flatnonzero(flags & flag) + first)


def _note_values(values: NDArray[Any], indptr: RowArray, path: str, unit: str, first: int, ledgers: Ledgers) -> None:
    if values.dtype.kind == "f" and values.dtype.itemsize <= 8:
        flags = flags_of_values(values, indptr)
        for flag, what in {NAN: "NaN", INFINITE: "an infinite value"}.items():
            ledgers.damage.note_rows(path, what, unit, np.flatnonzero(flags & flag) + first)


def _row_edges(indptr: RowArray, part: Stretches) -> list[tuple[int, int]]:
    """First entry and end of stretches of whole rows."""
    most = max(1, STRETCH_BYTES // part.row_bytes, _LEAST_STORAGE_CHUNKS * part.step)
    wanted = np.arange(most, max(len(part), 1), most)
    edges = np.unique([0, *indptr[np.searchsorted(indptr, wanted, side="right") - 1].tolist(), len(part)]).tolist()
    return [(first, last) for first, last in pairwise(edges) if last > first]


def _rows_in(indptr: RowArray | None, first: int, count: int) -> tuple[int, RowArray]:
    """The first row that has some of ``count`` entries from ``first``, and where it and the next ones begin there."""
    if indptr is None:
        return first, np.arange(count + 1)
    begin = int(np.searchsorted(indptr, first, side="right")) - 1
    end = int(np.searchsorted(indptr, first + count, side="left"))
    return begin, np.clip(indptr[begin : end + 1] - first, 0, count)
