"""Fields that are opened at their first use."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import ChangedError, DamageError, FieldError, FormatError, ParameterError
from annpipes.messages.warning import warn
from annpipes.plans.rows import RowArray, Rows, as_rows
from annpipes.stores.begun import Begun
from annpipes.stores.blocks import BlockAdvice
from annpipes.stores.caching.settings import SourceCache
from annpipes.stores.choices import in_order, plain_choice
from annpipes.stores.expressions import rows_where
from annpipes.stores.frame import Codes, Column, Labels, Strings, positions_of
from annpipes.stores.gene_tables import GeneTables
from annpipes.stores.generics import AnyIndex, AnySeries
from annpipes.stores.genes import Genes, has_genes
from annpipes.stores.protocol import FieldReader, MatrixReader, field_key, is_matrix, no_such_field
from annpipes.stores.refusals import refuse_numbers
from annpipes.stores.routes import Route
from annpipes.stores.row_space import RowSpace
from annpipes.types import Chunk, SparseRows

__all__ = ["FieldStore"]

_NO_ADVICE = BlockAdvice(64, "there is no X that can be read by rows")


class _Drawn:
    """The field ``rows``: the positions themselves."""

    def read(self, chunk: Chunk) -> NDArray[np.int64]:
        return chunk.drawn


class FieldStore(GeneTables):
    """A store of fields by name; a subclass lists them and opens each kind."""

    n_obs: int
    distant: bool = False
    """Whether reading waits for a network."""
    decoded_in: SourceCache | None = None
    """Where decoded storage chunks of matrices are kept."""

    def __init__(self) -> None:
        self._readers: dict[str, tuple[Any, FieldReader]] = {}  # with the version of the field that they read

    def __getstate__(self) -> dict[str, Any]:
        _ = self.fields  # listed once, where the data is at hand
        return {**vars(self), "_readers": {}}

    @property
    def stored_bytes(self) -> int:
        """How many bytes it takes in its file; 0 for what is only in memory."""
        return 0

    def fingerprint(self) -> Mapping[str, str | int]:
        """A few short values that distinguish this source from others."""
        raise NotImplementedError

    @property
    def obs_names(self) -> AnyIndex:
        """Names of the rows."""
        raise NotImplementedError

    def _list_fields(self) -> Sequence[str]:
        raise NotImplementedError

    def _open_matrix(self, group: str, key: str) -> MatrixReader:
        raise NotImplementedError

    def _open_column(self, column: str) -> Column:
        raise NotImplementedError

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """All that can be asked for."""
        return (*self._list_fields(), "obs_names", "rows")

    @property
    def obs_index(self) -> AnyIndex:
        """The index of obs: the names of the rows, under the name that it has."""
        return self.obs_names

    def obs_columns(self) -> Sequence[Hashable]:
        """The columns of obs, as they are called there."""
        return [field.removeprefix("obs/") for field in self.fields if field.startswith("obs/")]

    def series(self, column: Any) -> AnySeries:
        """An obs column as pandas has it, in an index of any kind."""
        raise NotImplementedError

    def rows(self, chosen: Any, argument: str = "rows") -> Rows:
        """The positions of rows given as anything that names them; errors name the ``argument``."""
        found = as_rows(
            plain_choice(chosen, self.n_obs, lambda: self.obs_names, argument),
            self.n_obs,
            argument=argument,
            positions_of=self.rows_named,
            where=partial(self.rows_where, argument=argument),
        )
        if len(found) == 0 and self.n_obs > 0 and not isinstance(chosen, str | range):  # an expression has told it
            warn(f"{argument} chooses no row of {self.name}, which has {self.n_obs:,}")
        return found

    def in_order(self, values: Any, argument: str) -> Any:
        """Values of a Series in the order of the rows that its index names; anything else as it is."""
        return in_order(values, self.n_obs, lambda: self.obs_names, argument)

    def rows_named(self, names: NDArray[Any]) -> NDArray[np.int64]:
        """The positions of these obs names."""
        return positions_of(names, self.obs_names, self.name)

    def rows_where(self, expression: str, argument: str = "rows") -> NDArray[np.int64]:
        """The rows for which an expression over obs columns is true."""
        return rows_where(expression, self.obs_columns(), self.series, lambda: self.obs_index, self.name, argument)

    @cached_property
    def space(self) -> RowSpace:
        """The rows of each file."""
        return RowSpace([self.n_obs])

    def locate(self, rows: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The file of each row, and the row's number there; each ``(n,)``."""
        return self.space.locate(np.asarray(as_rows(rows, self.n_obs), np.int64))

    def row_of(self, file: int, row: int) -> int:
        """The number in the whole of a file's row."""
        if not 0 <= file < len(self.files):
            raise ParameterError(f"file must lie in 0 … {len(self.files) - 1}, got {file}")
        first, end = self.space.bounds[file : file + 2].tolist()
        as_rows([row], end - first, argument=f"row of {self.files[file]}")
        return int(first + row)

    def close(self) -> None:
        """Close what this process has open of it; it is opened again when it is needed."""

    def matrix(self, field: str) -> MatrixReader:
        """The reader of a matrix."""
        reader = self.reader(field)
        assert is_matrix(reader)
        return reader

    def column(self, name: str) -> Column:
        """An obs column."""
        column: Column = self.reader(f"obs/{name}")  # type: ignore[assignment] # fields of obs are columns
        return column

    def check(self, fields: Sequence[str]) -> None:
        """Raise the error that reading these fields would."""
        for field in fields:
            self.reader(field)

    def read(
        self, chunk: Chunk, fields: Sequence[str], genes: Genes | None = None
    ) -> Mapping[str, NDArray[Any] | SparseRows]:
        """The fields of the chunk's rows, in the drawn order, by batch key; ``genes`` of the fields that they cover."""
        found: Mapping[str, NDArray[Any] | SparseRows] = self.begin(chunk, 0, fields, genes).first
        return found

    def begin(self, chunk: Chunk, first: int, fields: Sequence[str], genes: Genes | None = None) -> Begun:
        """As ``read``, when the ``first`` rows in the drawn order are there; all of them if that is 0."""
        for field in fields:
            self.notice(field, chunk.rows)
        return Begun.each({field_key(field): self._begin_field(chunk, first, field, genes) for field in fields})

    def _begin_field(self, chunk: Chunk, first: int, field: str, genes: Genes | None) -> Begun:
        reader = self.reader(field)
        if not is_matrix(reader):
            return Begun.of(reader.read(chunk), first)
        if genes is None or not genes.covers(field):
            return reader.begin(chunk, first)
        self.refuse_other_width(field, reader, len(genes.columns))
        return reader.begin(chunk, first, genes)

    def refuse_other_width(self, field: str, matrix: MatrixReader, n_genes: int) -> None:
        """Refuse a matrix without a column for each gene: columns would be looked up beyond the table of genes."""
        if matrix.shape[1] != n_genes:
            table = "raw.var" if field == "raw/X" else "var"
            raise DamageError(f"{field} of {self.name} has {matrix.shape[1]} columns, but {table} has {n_genes} genes")

    def route(self, field: str) -> Route:
        """How a field is read, and why so."""
        reader = self.reader(field)
        return reader.route if is_matrix(reader) else Route("memory")

    def row_bytes(self, fields: Sequence[str]) -> float:
        """Memory that an average row of these fields takes; 8 bytes for a value of an obs column."""
        readers = [self.reader(field) for field in fields]
        return sum(reader.row_bytes if is_matrix(reader) else 8 for reader in readers)

    def block_advice(self) -> BlockAdvice:
        """How many rows of X should stay together in a shuffle."""
        try:
            reader = self.reader("X")
        except (FieldError, FormatError):
            return _NO_ADVICE
        return reader.block_advice if is_matrix(reader) else _NO_ADVICE

    def categories(self, column: str) -> tuple[Any, ...]:
        """The labels of an obs column, in the order of their codes."""
        return self._labels(column).categories

    def column_values(self, column: str) -> NDArray[Any]:
        """All values of an obs column, labels as strings; shape ``(n_obs,)``."""
        every = np.arange(self.n_obs)
        values: NDArray[Any] = self.column(column).read(Chunk(every, every))
        return values

    def codes(self, column: str) -> NDArray[Any]:
        """The code of every row in an obs column of labels, missing: -1; shape ``(n_obs,)``."""
        return self._labels(column).codes

    def _labels(self, column: str) -> Labels:
        reader = self.reader(f"obs/{column}:code")
        assert isinstance(reader, Codes)
        return reader.labels

    def reader(self, field: str) -> FieldReader:
        """The reader of a field, opened at its first use."""
        # Without a lock: a lock held in a fork would stay held, and opening twice does no harm.
        version, kept = self.version(field), self._readers.get(field)
        if kept is None or kept[0] != version:
            opened = self._open(field)
            if kept is not None:
                self._refuse_other_labels(field, kept[1], opened)
            kept = self._readers[field] = version, opened
        return kept[1]

    def _refuse_other_labels(self, field: str, before: FieldReader, now: FieldReader) -> None:
        """Codes of a replaced column must mean what they meant."""
        if isinstance(before, Codes) and isinstance(now, Codes) and before.labels.categories != now.labels.categories:
            raise ChangedError(
                f"the categories of {field.removesuffix(':code')} in {self.name} changed since a source was made from "
                f"it, so its codes mean something else: make the source again"
            )

    def read_by(self, field: str, reader: MatrixReader) -> None:
        """Have a matrix read by this reader from now on."""
        self._readers[field] = self.version(field), self._checked(field, reader)

    def version(self, field: str) -> Any:
        """A value that changes when a field must be opened anew; a `ChangedError` if opening it anew would not help."""
        return 0

    def notice(self, field: str, rows: RowArray) -> None:
        """Let `version` change if values in these rows did and nothing else shows it."""

    def _open(self, field: str) -> FieldReader:
        plain = field if field in self.fields else field.removesuffix(":code")
        if plain not in self.fields or (plain != field and not field.startswith("obs/")):
            raise no_such_field(field, self.fields, self.name)
        group, _, key = plain.partition("/")
        if field == "rows":
            return _Drawn()
        if field == "obs_names":
            names = np.asarray(self.obs_names.astype(str), object)
            return Strings(names, np.zeros(len(names), bool))
        if group != "obs":
            matrix = self._checked(field, self._open_matrix(group, key))
            if self.decoded_in is not None:
                matrix.keep_decoded(self.decoded_in)
            return matrix
        column = self._open_column(key)
        if len(column) != self.n_obs:
            raise DamageError(f"{plain} of {self.name} has {len(column)} values, but there are {self.n_obs} rows")
        return column if plain == field else Codes(column.coded(key))

    def _checked(self, field: str, matrix: MatrixReader) -> MatrixReader:
        refuse_numbers(matrix.dtype, f"{field} of {self.name}", dense=not matrix.sparse)
        if matrix.shape[0] != self.n_obs:
            raise DamageError(f"{field} of {self.name} has {matrix.shape[0]} rows, but obs has {self.n_obs}")
        if has_genes(field):
            self.refuse_other_width(field, matrix, self.n_vars)
        return matrix
