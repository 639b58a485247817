"""Disjoint sets of rows, for training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import ParameterError
from annpipes.plans.permutation import Permutation
from annpipes.plans.rows import RowArray, as_natural
from annpipes.stores import Store, open_store

__all__ = ["split"]


@overload
def split(
    data: Any,
    fractions: Mapping[str, float],
    *,
    groupby: str | None = ...,
    stratify: str | None = ...,
    rows: Any = ...,
    seed: int = ...,
) -> dict[str, RowArray]: ...
@overload
def split(
    data: Any,
    fractions: Sequence[float],
    *,
    groupby: str | None = ...,
    stratify: str | None = ...,
    rows: Any = ...,
    seed: int = ...,
) -> tuple[RowArray, ...]: ...
def split(
    data: Any,
    fractions: Mapping[str, float] | Sequence[float],
    *,
    groupby: str | None = None,
    stratify: str | None = None,
    rows: Any = None,
    seed: int = 0,
) -> dict[str, RowArray] | tuple[RowArray, ...]:
    """Disjoint sets of rows, with every row in exactly one set; each is an ascending array for ``rows=``.

    >>> train, test = split("pbmc.h5ad", [0.8, 0.2], stratify="louvain")
    >>> len(train), len(test)
    (560, 140)
    >>> sorted(split("pbmc.h5ad", {"train": 0.9, "val": 0.1}, groupby="phase"))
    ['train', 'val']
    >>> [len(part) for part in split("pbmc.h5ad", [0.5, 0.5], rows="louvain.notna() and phase == 'G1'")]
    [250, 251]

    Parameters
    ----------
    data
        As for `IndexSource`.
    fractions
        The share of each set, by name or in order, adding up to 1; or how many rows each set gets, as integers
        that add up to all of them (met as closely as whole groups and equal shares of labels allow).
    groupby
        An obs column whose groups (donors, say) stay whole: no group is in two sets. Shares are met as
        closely as the sizes of the groups allow.
    stratify
        An obs column whose labels have the same shares in every set; missing ones count as a label.
    rows
        Which rows to divide, as for `IndexSource`: for instance those that have a label, ``"cell_type.notna()"``.
        The sets still hold positions along obs. All rows when None.
    seed
        Equal seeds give equal sets.

    Raises
    ------
    ParameterError
        Fractions are negative or do not add up to 1 (counts: to all rows), ``rows`` is invalid, or there are more
        sets than groups.
    FieldError
        There is no such column, or it holds floats.
    """
    store = open_store(data)
    among = np.unique(np.asarray(store.rows(rows), np.int64))  # (rows,)
    shares = _shares(fractions, len(among))
    groups = np.arange(len(among)) if groupby is None else _codes(store, groupby, among)
    strata = np.zeros(len(among), np.int64) if stratify is None else _codes(store, stratify, among)
    assign = _by_row if groupby is None else _by_group
    chosen = assign(groups, strata, shares, as_natural(seed, "seed"))  # (rows,)
    parts = tuple(among[chosen == part] for part in range(len(shares)))
    return dict(zip(fractions, parts, strict=True)) if isinstance(fractions, Mapping) else parts


def _shares(fractions: Mapping[str, float] | Sequence[float], n_rows: int) -> NDArray[np.float64]:
    """The share of each set; shape ``(sets,)``."""
    given = np.array([*(fractions.values() if isinstance(fractions, Mapping) else fractions)])
    counts = given.dtype.kind in "iu" and given.sum() != 1
    if counts and (given.min() < 0 or given.sum() != n_rows):
        raise ParameterError(f"counts must be positive and add up to the {n_rows:,} rows there are, got {fractions}")
    shares: NDArray[np.float64] = given / n_rows if counts else given.astype(float)
    if len(shares) == 0 or (shares < 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise ParameterError(f"fractions must be positive and add up to 1, got {fractions}")
    return shares


def _codes(store: Store, column: str, among: RowArray) -> NDArray[np.int64]:
    """The group of each of these rows, missing ones in a group of their own; shape ``(rows,)``."""
    return np.unique(store.codes(column)[among], return_inverse=True)[1]


def _by_row(_: RowArray, strata: RowArray, shares: NDArray[np.float64], seed: int) -> RowArray:
    """A set for each row: every stratum is shuffled and cut at the shares; shape ``(n_obs,)``."""
    chosen = np.empty(len(strata), np.int64)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        shuffled = rows[Permutation(len(rows), (seed, int(stratum)))(np.arange(len(rows)))]
        cuts = np.rint(np.cumsum(shares)[:-1] * len(rows)).astype(int)
        for part, members in enumerate(np.split(shuffled, cuts)):
            chosen[members] = part
    return chosen


def _by_group(groups: RowArray, strata: RowArray, shares: NDArray[np.float64], seed: int) -> RowArray:
    """A set for each row: groups, large ones first, go where they bring all labels nearest to their shares."""
    counts = np.zeros((groups.max(initial=-1) + 1, strata.max(initial=-1) + 1))  # (groups, labels)
    np.add.at(counts, (groups, strata), 1)
    if len(counts) < len(shares):
        raise ParameterError(f"{len(shares)} sets need at least as many groups, got {len(counts)}")
    order = Permutation(len(counts), (seed,))(np.arange(len(counts)))
    order = order[np.argsort(-counts[order].sum(1), kind="stable")]
    missing = shares[:, None] * counts.sum(0)  # (sets, labels)
    part_of = np.empty(len(counts), np.int64)
    for group in order:
        gain = ((missing - counts[group]) ** 2 - missing**2) / np.maximum(shares, 1e-9)[:, None]
        part_of[group] = gain.sum(1).argmin()
        missing[part_of[group]] -= counts[group]
    return part_of[groups]
