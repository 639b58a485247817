"""The store for one file or object."""

from __future__ import annotations

import os
from typing import Any

from anndata import AnnData

from annpipes.errors import ParameterTypeError
from annpipes.stores.base import FieldStore
from annpipes.stores.h5ad import H5adStore
from annpipes.stores.memory import MemoryStore
from annpipes.stores.refusals import refuse_lazy

__all__ = ["open_one"]


def open_one(data: Any) -> FieldStore:
    """The store for a path, an AnnData, or a store."""
    if isinstance(data, AnnData):
        refuse_lazy(data)
        return MemoryStore(data)
    if isinstance(data, str | os.PathLike):
        return H5adStore(data)
    if isinstance(data, FieldStore):
        return data
    raise ParameterTypeError(f"data must be a path, an AnnData or a list of these, got {type(data).__name__}")
