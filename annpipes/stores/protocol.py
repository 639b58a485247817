"""What a store answers, whatever holds its rows."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from annpipes.errors import FieldError, ParameterError, ParameterTypeError
from annpipes.plans.rows import Rows
from annpipes.stores.begun import Begun
from annpipes.stores.blocks import BlockAdvice
from annpipes.stores.caching.settings import SourceCache
from annpipes.stores.generics import AnyIndex, AnySeries
from annpipes.stores.genes import Genes
from annpipes.stores.routes import Route
from annpipes.stores.vocabularies import AS_NAMED, FoundGenes, Matching
from annpipes.types import Chunk, SparseRows

__all__ = [
    "BegunMatrix",
    "FieldReader",
    "MatrixKind",
    "MatrixReader",
    "Store",
    "as_fields",
    "field_key",
    "is_matrix",
    "is_matrix_field",
    "names_crc",
]


@runtime_checkable
class Store(Protocol):
    """Rows of several fields, row-aligned: length, genes, fields, and reading.

    Stores are shared by threads and pickled to processes. They define neither ``__len__``
    nor ``__iter__``: torch pickles whatever is a collection each time it walks a pipe.
    """

    @property
    def name(self) -> str:
        """What errors call it."""

    @property
    def n_obs(self) -> int:
        """Number of rows."""

    @property
    def n_vars(self) -> int:
        """Number of genes."""

    @property
    def obs_names(self) -> AnyIndex:
        """Names of the rows."""

    @property
    def distant(self) -> bool:
        """Whether reading waits for a network."""

    @property
    def var_names(self) -> AnyIndex:
        """Names of the genes."""

    @property
    def var(self) -> pd.DataFrame:
        """What is known about the genes; index: their names."""

    @property
    def files(self) -> tuple[str, ...]:
        """What the files are called that rows come from."""

    def locate(self, rows: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The file of each row, and the row's number there; each ``(n,)``."""

    def row_of(self, file: int, row: int) -> int:
        """The number in the whole of a file's row."""

    @property
    def fields(self) -> tuple[str, ...]:
        """All that can be asked for."""

    def block_advice(self) -> BlockAdvice:
        """How many rows of X should stay together in a shuffle."""

    def route(self, field: str) -> Route:
        """How a field is read, and why so."""

    def fingerprint(self) -> Mapping[str, str | int]:
        """A few short values that distinguish this source from others."""

    def row_bytes(self, fields: Sequence[str]) -> float:
        """Memory that an average row of these fields takes."""

    def rows(self, chosen: Any, argument: str = "rows") -> Rows:
        """The positions of rows given as anything that names them; errors name the ``argument``."""

    def in_order(self, values: Any, argument: str) -> Any:
        """Values of a Series in the order of the rows that its index names; anything else as it is."""

    def rows_named(self, names: NDArray[Any]) -> NDArray[np.int64]:
        """The positions of these obs names."""

    def rows_where(self, expression: str, argument: str = "rows") -> NDArray[np.int64]:
        """The rows for which an expression over obs columns is true; errors name the ``argument``."""

    def check(self, fields: Sequence[str]) -> None:
        """Raise the `FieldError` or `FormatError` that reading these fields would."""

    def genes(self, chosen: Any, matching: Matching = AS_NAMED, *, raw: bool = False) -> Genes:
        """Genes given as names, positions or a mask; of ``raw``, which has genes of its own, names alone."""

    def gene_table(self, *, raw: bool = False) -> pd.DataFrame:
        """What is known about the genes of var, or of raw; index: the names by which they are chosen."""

    def genes_fingerprint(self, *, raw: bool) -> str | None:
        """A fingerprint of the genes of ``raw`` or var, where that of the store does not cover them."""

    def found_genes(self, genes: Genes | None, column: str | None = None, *, raw: bool = False) -> FoundGenes:
        """How many of these genes, or of all of var or raw, the data has, and each file; ``column`` as looked up."""

    def read(
        self, chunk: Chunk, fields: Sequence[str], genes: Genes | None = None
    ) -> Mapping[str, NDArray[Any] | SparseRows]:
        """The fields of the chunk's rows, in the drawn order, by batch key; ``genes`` of the fields that they cover."""

    @property
    def obs_index(self) -> AnyIndex:
        """The index of obs: the names of the rows, under the name that it has."""

    def obs_columns(self) -> Sequence[Hashable]:
        """The columns of obs, as they are called there."""

    def series(self, column: Any) -> AnySeries:
        """An obs column as pandas has it, in an index of any kind."""

    def column_values(self, column: str) -> NDArray[Any]:
        """All values of an obs column, labels as strings; shape ``(n_obs,)``."""

    def codes(self, column: str) -> NDArray[Any]:
        """The code of every row in an obs column of labels, missing: -1; shape ``(n_obs,)``."""

    def categories(self, column: str) -> tuple[Any, ...]:
        """The labels of an obs column, in the order of their codes."""


class FieldReader(Protocol):
    """One field of a store."""

    def read(self, chunk: Chunk) -> NDArray[Any] | SparseRows:
        """The chunk's rows in the drawn order, ``(n, …)``."""


class MatrixKind:
    """What readers of matrices derive from: it tells them from those of columns."""

    def begin(self: MatrixReader, chunk: Chunk, first: int, genes: Genes | None = None) -> Begun:
        """All rows at once."""
        return Begun.of(self.read(chunk, genes), first)

    def keep_decoded(self, cache: SourceCache) -> None:
        """Nothing, where nothing is decoded."""


class BegunMatrix(MatrixKind):
    """A matrix of which some rows can be had before the others."""

    def begin(self, chunk: Chunk, first: int, genes: Genes | None = None) -> Begun:
        """As for `MatrixReader`."""
        raise NotImplementedError

    def read(self, chunk: Chunk, genes: Genes | None = None) -> Any:
        """The chunk's rows in the drawn order, of all columns or of those genes."""
        return self.begin(chunk, 0, genes).first


class MatrixReader(Protocol):
    """A field that is a matrix."""

    def read(self, chunk: Chunk, genes: Genes | None = None) -> NDArray[Any] | SparseRows:
        """The chunk's rows in the drawn order, of all columns or of those genes."""

    def begin(self, chunk: Chunk, first: int, genes: Genes | None = None) -> Begun:
        """As ``read``, when the ``first`` rows in the drawn order are there; all of them if that is 0."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its values."""

    @property
    def sparse(self) -> bool:
        """Whether rows come as `SparseRows`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n_obs, …)``."""

    @property
    def route(self) -> Route:
        """How it is read, and why so."""

    @property
    def row_bytes(self) -> float:
        """Memory that an average row takes."""

    @property
    def block_advice(self) -> BlockAdvice:
        """How many rows should stay together in a shuffle."""

    def keep_decoded(self, cache: SourceCache) -> None:
        """From now on, keep what is decoded in a cache, and read it from there."""


def is_matrix(reader: FieldReader | MatrixReader) -> TypeGuard[MatrixReader]:
    """Whether a reader is a matrix's; asking the protocol would evaluate all of its properties."""
    return isinstance(reader, MatrixKind)


def as_fields(fields: str | Sequence[str]) -> tuple[str, ...]:
    """Field names as a tuple without two of one batch key."""
    names = (fields,) if isinstance(fields, str) else tuple(fields)
    for name in names:
        if not isinstance(name, str):
            raise ParameterTypeError(f"fields must be strings such as 'X' or 'obs/cell_type', got {name!r}")
    keys = [field_key(name) for name in names]
    for key in keys:
        if keys.count(key) > 1:
            raise ParameterError(f"fields name {key!r} twice: {', '.join(names)}")
    return names


@cache  # of the few fields that there are, and asked for with each row
def field_key(field: str) -> str:
    """The batch key of a field.

    >>> field_key("obs/cell_type:code")
    'obs_cell_type'
    """
    return field.removesuffix(":code").replace("/", "_")


def is_matrix_field(field: str) -> bool:
    """Whether a field has a row of numbers for each cell, judged by its name.

    >>> is_matrix_field("layers/counts"), is_matrix_field("obs/n_genes")
    (True, False)
    """
    return field in ("X", "raw/X") or field.startswith(("layers/", "obsm/"))


def no_such_field(field: str, fields: Sequence[str], name: str) -> FieldError:
    """The error for a field that is not there, with those that are."""
    group = field.split("/")[0]
    if group == "obs" and "/" in field:
        columns = [other.removeprefix("obs/") for other in fields if other.startswith("obs/")]
        asked = field.removeprefix("obs/").removesuffix(":code")
        return FieldError(f"no obs column {asked!r} in {name}; columns: {', '.join(columns) or 'none'}")
    if group in ("obsp", "varm", "varp", "var", "uns"):
        return FieldError(f"{field!r} has no rows along obs: {group} is not a field; take it from the AnnData itself")
    return FieldError(f"no field {field!r} in {name}; fields: {', '.join(fields)}")


def names_crc(names: Iterable[Any]) -> str:
    """What names, in their order, are recognised by."""
    text = "\n".join(map(str, names)).encode()
    return f"crc {zlib.crc32(text):08x}"
