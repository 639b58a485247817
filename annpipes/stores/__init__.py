"""Where bytes lie: the only part that knows files, anndata and decoders."""

from __future__ import annotations

import os
from typing import Any

from annpipes.stores.base import FieldStore
from annpipes.stores.bytes.local import exclusive
from annpipes.stores.checking import Found, check_file
from annpipes.stores.checking.ledgers import Damage
from annpipes.stores.codecs.encoding import CODECS, codec_of
from annpipes.stores.collection import Collection
from annpipes.stores.collection.patterns import is_pattern, paths_of
from annpipes.stores.dense import densify
from annpipes.stores.describing.advice import Finding, findings_of
from annpipes.stores.describing.fields import Element, FieldReport, describe_file
from annpipes.stores.engine.pools import core_count
from annpipes.stores.genes import Genes
from annpipes.stores.limits import BareReading, densifying
from annpipes.stores.limits.threads import BareWork, Threads
from annpipes.stores.marks import mark_of
from annpipes.stores.opening import open_one
from annpipes.stores.protocol import Store, as_fields, field_key
from annpipes.stores.writing.assembling import Assembly
from annpipes.stores.writing.carrying import as_left_out
from annpipes.stores.writing.parts import (
    Matrix,
    PartFile,
    encoded_row_bytes,
    finish,
    matrices_of,
    part_lengths,
    row_lengths,
    sync,
)

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
