"""Where bytes lie: the only part that knows files, anndata and decoders."""

from __future__ import annotations

import os
from typing import Any

from annpipes._store.base import FieldStore
from annpipes._store.collection import Collection
from annpipes._store.dense import densify
from annpipes._store.genes import Genes
from annpipes._store.opening import open_one
from annpipes._store.protocol import Store, as_fields, field_key

__all__ = ["Collection", "Genes", "Store", "as_fields", "densify", "field_key", "open_store"]


def open_store(data: Any) -> Store:
    """The store for whatever the caller has: a path, a pattern, an AnnData, a list of these, or a store."""
    if isinstance(data, FieldStore | Store):  # ours first: before Python 3.12, a protocol evaluates every property
        return data
    path = isinstance(data, str | os.PathLike)
    pattern = path and any(sign in os.fspath(data) for sign in "*?[") and not os.path.exists(data)
    if pattern or isinstance(data, list | tuple):
        return Collection(data)
    return open_one(data)
