"""What a rewrite reads besides matrices, of each of its inputs: an ``.h5ad`` file, or what comes to the same.

What is not read by rows from a Zarr store, mainly tables, is first written by anndata to a small ``.h5ad`` file of its
own, so tables are carried over in one way only.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anndata
import h5py
from anndata.io import read_elem, write_elem

from annpipes.stores.base import FieldStore
from annpipes.stores.collection import Collection
from annpipes.stores.containers.hdf5 import Hdf5File
from annpipes.stores.generics import AnyIndex
from annpipes.stores.h5ad import H5adStore
from annpipes.stores.protocol import is_matrix_field
from annpipes.stores.surveying import SPARSE, encoding_of
from annpipes.stores.zarr import ZarrStore

__all__ = ["Input", "inputs_of"]

_GROUPS = ("layers", "obsm", "obsp", "varm", "varp", "uns")


@dataclass(frozen=True, eq=False)
class Input:
    """One input.

    Parameters
    ----------
    store
        Its rows.
    file
        All else, as an ``.h5ad`` file has it.
    """

    store: FieldStore
    file: Hdf5File

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.store.name

    @property
    def path(self) -> str:
        """Where it is, as it was given."""
        return self.store.files[0]

    @property
    def n_bytes(self) -> int:
        """What it takes where it is."""
        assert isinstance(self.store, H5adStore | ZarrStore)
        return self.store.stored_bytes

    @property
    def n_obs(self) -> int:
        """How many rows it has."""
        return self.store.n_obs

    @property
    def fields(self) -> tuple[str, ...]:
        """Its fields."""
        return self.store.fields

    @property
    def var_names(self) -> AnyIndex:
        """The names of its genes."""
        return self.store.var_names


_written: weakref.WeakKeyDictionary[ZarrStore, Hdf5File] = weakref.WeakKeyDictionary()
"""Of each store the file beside it; an `Input` would keep its store forever."""


def inputs_of(store: FieldStore) -> list[Input]:
    """The files whose rows a store has."""
    return [_input(one) for one in (store.stores if isinstance(store, Collection) else [store])]


def _input(store: FieldStore) -> Input:
    assert isinstance(store, H5adStore | ZarrStore)
    if isinstance(store, H5adStore):
        return Input(store, store.file)
    if store not in _written:
        _written[store] = _beside(store)
    return Input(store, _written[store])


def _beside(store: ZarrStore) -> Hdf5File:
    """A file with everything in a Zarr store that is not read by rows; it disappears with the store."""
    folder = tempfile.TemporaryDirectory(prefix="annpipes-")
    path = os.path.join(folder.name, "tables.h5ad")
    nullable = anndata.settings.override(allow_write_nullable_strings=True)
    with store.container.reading(""), h5py.File(path, "w") as file, nullable:
        for name in _GROUPS:
            file.create_group(name)
        for name, element in _elements(store):
            if name.startswith("obsp/"):
                file[name] = 0  # never taken along, and named among what is left out
            else:
                group, _, key = name.rpartition("/")  # as anndata 0.13 takes no key with a slash
                write_elem(file.require_group(group or "/"), key, read_elem(element))
    weakref.finalize(store, folder.cleanup)
    written = Hdf5File(path)
    written.source.name = store.path  # as errors should call it
    return written


def _elements(store: ZarrStore) -> Iterator[tuple[str, Any]]:
    """Name and element of all that has no rows which a store's readers give."""
    group = store.container.group
    for name in ("obs", "var", *(["raw/var", "raw/varm"] if "raw" in group else [])):
        if name in group:
            yield name, group[name]
    for name in _GROUPS:
        for key in sorted(group[name].keys()) if name in group else ():
            path = f"{name}/{key}"
            if not (is_matrix_field(path) and _is_matrix(store, path)):
                yield path, group[path]


def _is_matrix(store: ZarrStore, path: str) -> bool:
    """Whether an element is a matrix of numbers, which the store reads by rows."""
    element = store.container.group[path]
    if store.container.is_group(path):
        return encoding_of(element) in SPARSE
    return len(element.shape) == 2 and element.dtype.kind in "biufc"
