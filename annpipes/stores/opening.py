"""The store for one file or object."""

from __future__ import annotations

import os
from typing import Any

from anndata import AnnData

from annpipes.errors import ParameterError, ParameterTypeError
from annpipes.stores.base import FieldStore
from annpipes.stores.bytes.remote import as_remote
from annpipes.stores.bytes.remote_file import RemoteFile
from annpipes.stores.caching.settings import Cache, SourceCache
from annpipes.stores.containers.zarr_places import Places, is_zarr
from annpipes.stores.containers.zarr_remote import found_at
from annpipes.stores.h5ad import H5adStore
from annpipes.stores.memory import MemoryStore
from annpipes.stores.refusals import at_home, refuse_lazy
from annpipes.stores.zarr import ZarrStore

__all__ = ["open_one"]


def open_one(data: Any, cache: Cache | None = None) -> FieldStore:
    """The store for a path, an address, what was found there, an AnnData, or a store.

    What it decodes is kept in a cache, if there is one.
    """
    if isinstance(data, AnnData):
        refuse_lazy(data)
        memory = MemoryStore(data)
        return _with(cache, memory, os.path.abspath(data.filename)) if data.isbacked else memory
    remote = as_remote(data)
    if remote is not None:
        data = found_at(remote)
    if isinstance(data, Places):
        return _with(cache, ZarrStore(data), data.path)
    if isinstance(data, RemoteFile):
        return _with(cache, H5adStore(data), data.name)
    if isinstance(data, str | os.PathLike):
        path = at_home(data)
        return _with(cache, ZarrStore(path) if is_zarr(path) else H5adStore(path), os.path.abspath(path))
    if isinstance(data, FieldStore):
        if cache is not None:
            raise ParameterError(f"data is {data!r} already: give cache where that is made")
        return data
    raise ParameterTypeError(f"data must be a path, an AnnData or a list of these, got {type(data).__name__}")


def _with(cache: Cache | None, store: FieldStore, path: str) -> FieldStore:
    store.decoded_in = None if cache is None else SourceCache(cache, path)
    return store
