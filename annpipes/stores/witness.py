"""What an AnnData in memory was when a source was made of it, and which of its parts have been replaced since."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from annpipes.errors import ChangedError
from annpipes.plans.rows import RowArray
from annpipes.stores.generics import AnyIndex, AnySeries

__all__ = ["COMPRESSED", "Snapshot", "Witness", "element_of", "owner_of"]

COMPRESSED = (sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix, sparse.csc_array)
"""What scipy keeps as ``data``, ``indices`` and ``indptr``."""


class Witness:
    """The rows of an AnnData, which must stay, and its elements, which may be replaced.

    Parameters
    ----------
    adata
        The object; of a view, the object that it looks at is watched as well.
    """

    def __init__(self, adata: AnnData) -> None:
        self.genes_stay = False
        """Whether something was made of the genes as they are, such as a choice of some."""
        self._raw: AnyIndex | None = None
        self._whole = _Names(adata)
        self._owner = _Names(owner_of(adata))
        self._elements: dict[str, tuple[Any, int]] = {}  # by field: the element, and how often it was replaced

    def __getstate__(self) -> Mapping[str, Any]:
        return {**vars(self), "_elements": {}}  # they are not the same objects elsewhere

    def version(self, adata: AnnData, field: str, *, in_file: bool) -> int:
        """A number that grows when a field is another object than before; those in a file have a stamp of their own.

        Raises
        ------
        ChangedError
            Rows have changed, or genes that should stay, or the field is gone.
        """
        self._whole.check(adata, genes=self.genes_stay)
        if adata.is_view:
            self._owner.check(owner_of(adata), genes=True)
        if self._raw is not None and field == "raw/X":
            self.keep_raw_genes(adata)
        found = None if in_file else _watched(adata, field)
        kept = self._elements.get(field)
        if kept is None or not _is(kept[0], found):
            kept = self._elements[field] = found, 0 if kept is None else kept[1] + 1
        return kept[1]

    def keep_raw_genes(self, adata: AnnData) -> None:
        """From now on, refuse other genes of raw: something was made of them as they are."""
        if adata.raw is not None:  # of a backed object in another process, raw stays behind
            now = adata.raw.var_names
            self._raw = now if self._raw is None else _unchanged(self._raw, now, "genes of raw", "raw.var_names")

    def touch(self, field: str) -> None:
        """Count a field as another object: something within it was seen to change."""
        if (kept := self._elements.get(field)) is not None:
            self._elements[field] = kept[0], kept[1] + 1


class _Names:
    """The names of one object."""

    def __init__(self, adata: AnnData) -> None:
        self.obs, self.var = adata.obs_names, adata.var_names

    def check(self, adata: AnnData, *, genes: bool) -> None:
        """Refuse other rows, and other ``genes`` if they must stay."""
        self.obs = _unchanged(self.obs, adata.obs_names, "rows", "obs_names")
        if genes:
            self.var = _unchanged(self.var, adata.var_names, "genes", "var_names")


def _unchanged(before: AnyIndex, now: AnyIndex, what: str, names: str) -> AnyIndex:
    if before is not now and not before.equals(now):
        difference = f"{len(before)} {what} and now has {len(now)}" if len(before) != len(now) else f"other {names}"
        raise ChangedError(f"the AnnData had {difference} when a source was made from it: make the source again")
    return now


def owner_of(adata: AnnData) -> AnnData:
    """The object that holds the arrays of ``adata``: what a view looks at, or itself."""
    owner: AnnData = adata._adata_ref if adata.is_view else adata  # anndata has no public name for it
    return owner


def element_of(adata: AnnData, field: str) -> Any:
    """The matrix of a field, as an object that stays the same as long as nobody replaces it (not of a view)."""
    group, _, key = field.partition("/")
    if group in ("layers", "obsm"):
        return getattr(adata, group)[key]
    return adata.raw.X if group == "raw" else adata.X


def _watched(adata: AnnData, field: str) -> Any:
    """The object whose replacement would make a reader of this field stale."""
    group, _, key = field.partition("/")
    try:
        if group == "obs":
            return _column(adata.obs, key)
        if group in ("obs_names", "rows", "file"):
            return adata.obs_names
        return _parts(element_of(adata if group == "raw" else owner_of(adata), field))  # a view has a raw of its own
    except (KeyError, AttributeError):
        raise ChangedError(f"the AnnData no longer has {field}, which it had when a source was made from it") from None


def _parts(element: Any) -> Any:
    """An element; of a compressed matrix also its arrays, which scipy replaces when it changes one in place."""
    if isinstance(element, COMPRESSED):
        return element, element.data, element.indices, element.indptr
    return element


def _column(obs: pd.DataFrame, name: str) -> Any:
    """The values of a column; the whole table where they are not to be had by this name."""
    found = obs.get(name)
    if found is None and name not in map(str, obs.columns):  # a name may be a number
        raise KeyError(name)
    return found.array if isinstance(found, pd.Series) else obs


def _is(one: Any, other: Any) -> bool:
    """Whether two elements are one; numpy columns come in a new wrapper each time."""
    if one is other:
        return True
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(operator.is_, one, other))
    wrapped = pd.arrays.NumpyExtensionArray
    if not (isinstance(one, wrapped) and isinstance(other, wrapped) and one.dtype == other.dtype):
        return False
    places = (array.to_numpy().__array_interface__ for array in (one, other))
    return len({(place["data"], place["shape"], place["strides"]) for place in places}) == 1


class Snapshot:
    """A column as it was when it was converted: what is set within it afterwards must show.

    Pandas 2 sets values within a column that stays the same object, so rows are compared with a copy. Since pandas 3,
    setting values makes another object, as long as somebody holds the column: this does.

    Parameters
    ----------
    column
        The column.
    copied
        Whether its converted form is always a copy; otherwise numbers and codes are views, in which changes show.
    """

    def __init__(self, column: AnySeries, *, copied: bool) -> None:
        self.column: AnySeries = column
        dtype = column.dtype
        views = isinstance(dtype, pd.CategoricalDtype) or (isinstance(dtype, np.dtype) and dtype.kind in "biuf")
        self.before: Any | None = None if _COPIES_ON_WRITE or (views and not copied) else column.array.copy()

    def holds(self, rows: RowArray) -> bool:
        """Whether these rows have their old values, where changes do not show by themselves."""
        now: Any = self.column.array  # whose `equals` pandas' stubs do not have
        return self.before is None or bool(now.take(rows).equals(self.before.take(rows)))


_COPIES_ON_WRITE = int(pd.__version__.split(".")[0]) >= 3
