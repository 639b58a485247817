"""Fields that are opened at their first use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from annpipes._store.frame import Codes, Column, Strings, positions_of
from annpipes._store.protocol import FieldReader, field_key, no_such_field
from annpipes.types import Chunk, SparseRows

__all__ = ["FieldStore"]


class _Drawn:
    """The field ``rows``: the positions themselves."""

    def read(self, chunk: Chunk) -> NDArray[np.int64]:
        return chunk.drawn


class FieldStore:
    """A store of fields by name; a subclass lists them and opens each kind."""

    name: str

    def __init__(self) -> None:
        self._readers: dict[str, FieldReader] = {}

    def __getstate__(self) -> dict[str, Any]:
        _ = self.fields  # listed once, where the data is at hand
        return {**vars(self), "_readers": {}}

    @property
    def obs_names(self) -> pd.Index[Any]:
        """Names of the rows."""
        raise NotImplementedError

    def _list_fields(self) -> Sequence[str]:
        raise NotImplementedError

    def _open_matrix(self, group: str, key: str) -> FieldReader:
        raise NotImplementedError

    def _open_column(self, column: str) -> Column:
        raise NotImplementedError

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """All that can be asked for."""
        return (*self._list_fields(), "obs_names", "rows")

    def rows_named(self, names: NDArray[Any]) -> NDArray[np.int64]:
        """The positions of these obs names."""
        return positions_of(names, self.obs_names, self.name)

    def check(self, fields: Sequence[str]) -> None:
        """Raise the error that reading these fields would."""
        for field in fields:
            self._reader(field)

    def read(self, chunk: Chunk, fields: Sequence[str]) -> Mapping[str, NDArray[Any] | SparseRows]:
        """The fields of the chunk's rows, in the drawn order, by batch key."""
        return {field_key(field): self._reader(field).read(chunk) for field in fields}

    def categories(self, column: str) -> tuple[str, ...]:
        """The labels of an obs column, in the order of their codes."""
        reader = self._reader(f"obs/{column}:code")
        assert isinstance(reader, Codes)
        return reader.labels.categories

    def _reader(self, field: str) -> FieldReader:
        # Without a lock: a lock held in a fork would stay held, and opening twice does no harm.
        if field not in self._readers:
            self._readers.setdefault(field, self._open(field))
        return self._readers[field]

    def _open(self, field: str) -> FieldReader:
        plain = field.removesuffix(":code")
        if plain not in self.fields or (plain != field and not field.startswith("obs/")):
            raise no_such_field(field, self.fields, self.name)
        group, _, key = plain.partition("/")
        if field == "rows":
            return _Drawn()
        if field == "obs_names":
            return Strings(np.asarray(self.obs_names.astype(str), object))
        if group != "obs":
            return self._open_matrix(group, key)
        column = self._open_column(key)
        return column if plain == field else Codes(column.coded(key))
