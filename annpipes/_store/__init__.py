"""Where bytes lie: the only part that knows files, anndata and decoders."""

from __future__ import annotations

import os
from typing import Any

from annpipes._store.advising import Finding, findings_of
from annpipes._store.assembling import Assembly
from annpipes._store.bare import BareWork, Threads
from annpipes._store.base import FieldStore
from annpipes._store.carrying import as_left_out
from annpipes._store.checking import Found, check_file
from annpipes._store.collection import Collection
from annpipes._store.dense import densify
from annpipes._store.describing import Element, FieldReport, describe_file
from annpipes._store.encoding import CODECS, codec_of
from annpipes._store.genes import Genes
from annpipes._store.ledgers import Damage
from annpipes._store.limits import BareReading, densifying
from annpipes._store.local import exclusive
from annpipes._store.marks import mark_of
from annpipes._store.opening import open_one
from annpipes._store.parting import (
    Matrix,
    PartFile,
    encoded_row_bytes,
    finish,
    matrices_of,
    part_lengths,
    row_lengths,
    sync,
)
from annpipes._store.patterns import is_pattern, paths_of
from annpipes._store.pools import core_count
from annpipes._store.protocol import Store, as_fields, field_key

__all__ = [
    "CODECS",
    "Assembly",
    "BareReading",
    "BareWork",
    "Collection",
    "Damage",
    "Element",
    "FieldReport",
    "FieldStore",
    "Finding",
    "Found",
    "Genes",
    "Matrix",
    "PartFile",
    "Store",
    "Threads",
    "as_fields",
    "as_left_out",
    "check_file",
    "codec_of",
    "core_count",
    "densify",
    "densifying",
    "describe_file",
    "encoded_row_bytes",
    "exclusive",
    "field_key",
    "findings_of",
    "finish",
    "is_pattern",
    "mark_of",
    "matrices_of",
    "open_store",
    "part_lengths",
    "paths_of",
    "row_lengths",
    "sync",
]


def open_store(data: Any) -> Store:
    """The store for whatever the caller has: a path, a pattern, an AnnData, a list of these, or a store."""
    if isinstance(data, FieldStore | Store):  # ours first: before Python 3.12, a protocol evaluates every property
        return data
    pattern = isinstance(data, str | os.PathLike) and is_pattern(os.fspath(data))
    if pattern or isinstance(data, list | tuple):
        return Collection(data)
    return open_one(data)
