"""Where bytes lie: the only part that knows files, anndata and decoders."""

from __future__ import annotations

import os
from typing import Any

from anndata import AnnData

from annpipes._store.dense import densify
from annpipes._store.h5ad import H5adStore
from annpipes._store.memory import MemoryStore
from annpipes._store.protocol import Store, as_fields, field_key
from annpipes.errors import ParameterTypeError

__all__ = ["Store", "as_fields", "densify", "field_key", "open_store"]


def open_store(data: Any) -> Store:
    """The store for whatever the caller has: a path, an AnnData, or a store."""
    if isinstance(data, AnnData):
        return MemoryStore(data)
    if isinstance(data, str | os.PathLike):
        return H5adStore(data)
    if isinstance(data, Store):
        return data
    raise ParameterTypeError(f"data must be a path or an AnnData, got {type(data).__name__}")
