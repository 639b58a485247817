"""Where bytes lie: the only part that knows files, anndata and decoders.

`protocol`      what a store answers, whatever holds its rows
`begun`         rows of which the first can be had before the others
`base`          fields that are opened at their first use
`h5ad`          an `.h5ad` file
`zarr`          an AnnData in a Zarr store
`memory`        an AnnData in memory, or backed
`collection`    many of them as one
`opening`       the store for one file or object
`elements`      the rows of a matrix in a file
`matrices`      rows of dense and CSR matrices, by the engine
`arrays`        rows of matrices in memory
`gene_subsets`  some genes of sparse rows
`narrowing`     some genes of dense rows
`frame`         rows of obs columns
`tables`        tables of a file, as anndata writes and wrote them
`columns`       columns of a table, in every encoding
`series`        columns of several tables as one
`request`       what is read of a store
`answers`       what may be asked of whoever reads it
`obs`           columns of obs, loaded when they are asked for
`labels`        labels, and the codes that stand for them
`genes`         some of the genes, in an order of their own
`gene_tables`   what a store says of its genes
`vocabularies`  lists of gene names, and how they meet those of the data
`choices`       rows or genes chosen with objects of others
`expressions`   rows for which an expression is true
`unknown`       labels that an expression names, and no row has
`indptr`        where the rows of a CSR matrix begin
`row_space`     rows of several stores, one store after the other
`witness`       what an AnnData in memory was
`generics`      classes of pandas as annotations name them
`surveying`     what a file holds, element by element
`marks`         what a rewritten file says of itself
`routes`        how a field is read, and why so
`blocks`        how many rows should stay together in a shuffle
`refusals`      what is refused, and what to do about it
`by_columns`    what is said of a matrix that is stored by columns
`damage`        what damage is called
`dense`         sparse rows made dense
`engine`        elements and rows copied to their places
`containers`    file formats, and where their storage chunks lie
`codecs`        how storage chunks are encoded
`caching`       decoded storage chunks kept on a local disk
`bytes`         where bytes come from
`compiled`      inner loops
`describing`    how fields are stored, and what is wrong with that
`checking`      what a damaged file has
`limits`        the bare work that reading cannot do without
`writing`       rewritten files
"""

from __future__ import annotations

import os
from typing import Any

from annpipes.stores.answers import Answers
from annpipes.stores.base import FieldStore
from annpipes.stores.begun import Begun
from annpipes.stores.bytes.local import bytes_of, exclusive, files_below
from annpipes.stores.bytes.remote import Remote, as_remote, name_of, refuse_remote
from annpipes.stores.caching.contents import Kept, kept_in, remove_kept
from annpipes.stores.caching.settings import Cache, as_cache
from annpipes.stores.checking import Found, check_file
from annpipes.stores.checking.ledgers import Damage
from annpipes.stores.codecs.base import Encoding
from annpipes.stores.codecs.encoding import CODECS, codec_of
from annpipes.stores.collection import Collection
from annpipes.stores.collection.patterns import addresses_of, is_pattern, paths_of, several_at
from annpipes.stores.dense import densifiable, densify
from annpipes.stores.describing.advice import Finding, findings_of
from annpipes.stores.describing.fields import Element, FieldReport
from annpipes.stores.describing.files import describe_file
from annpipes.stores.engine.pools import core_count, reading
from annpipes.stores.genes import Genes
from annpipes.stores.labels import LabelTables, Unknown
from annpipes.stores.limits import BareReading, densifying
from annpipes.stores.limits.threads import BareWork, Threads
from annpipes.stores.marks import mark_of
from annpipes.stores.obs import Obs
from annpipes.stores.opening import open_one
from annpipes.stores.protocol import Store, as_fields, field_key, is_matrix_field
from annpipes.stores.request import Request
from annpipes.stores.routes import Route
from annpipes.stores.vocabularies import FoundGenes, GeneVersions, Matching, MissingGenes
from annpipes.stores.writing.assembling import Assembly
from annpipes.stores.writing.carrying import as_left_out, field_named
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
from annpipes.stores.writing.turning import TurnedRows, turn_columns

__all__ = [
    "CODECS",
    "Answers",
    "Assembly",
    "BareReading",
    "BareWork",
    "Begun",
    "Cache",
    "Collection",
    "Damage",
    "Element",
    "Encoding",
    "FieldReport",
    "FieldStore",
    "Finding",
    "Found",
    "FoundGenes",
    "GeneVersions",
    "Genes",
    "Kept",
    "LabelTables",
    "Matching",
    "Matrix",
    "MissingGenes",
    "Obs",
    "PartFile",
    "Remote",
    "Request",
    "Route",
    "Store",
    "Threads",
    "TurnedRows",
    "Unknown",
    "addresses_of",
    "as_cache",
    "as_fields",
    "as_left_out",
    "as_remote",
    "bytes_of",
    "check_file",
    "codec_of",
    "core_count",
    "densifiable",
    "densify",
    "densifying",
    "describe_file",
    "encoded_row_bytes",
    "exclusive",
    "field_key",
    "field_named",
    "files_below",
    "findings_of",
    "finish",
    "is_matrix_field",
    "is_pattern",
    "kept_in",
    "mark_of",
    "matrices_of",
    "name_of",
    "open_store",
    "part_lengths",
    "paths_of",
    "reading",
    "refuse_remote",
    "remove_kept",
    "row_lengths",
    "sync",
    "turn_columns",
]


def open_store(data: Any, cache: Any = None) -> Store:
    """The store for whatever the caller has: a path, an address, a pattern, an AnnData, a list of these, or a store.

    What it decodes is kept in ``cache``, a `Cache` or the path of its folder, if that is given.
    """
    if isinstance(data, FieldStore | Store):  # ours first: before Python 3.12, a protocol evaluates every property
        same = cache is None or (isinstance(data, Collection) and data.cache == cache)
        return data if same else open_one(data, as_cache(cache))
    remote = as_remote(data)
    if remote is not None:
        found = several_at(remote)
        return Collection(found, cache=cache) if isinstance(found, list) else open_one(found, as_cache(cache))
    pattern = isinstance(data, str | os.PathLike) and is_pattern(os.fspath(data))
    if pattern or isinstance(data, list | tuple):
        return Collection(data, cache=cache)
    return open_one(data, as_cache(cache))
