"""What a rewrite takes along, what it leaves out on request, and why a field cannot be taken along."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from annpipes.errors import DamageError, FieldError, FormatError, ParameterError
from annpipes.plans.rows import RowArray
from annpipes.stores.base import FieldStore
from annpipes.stores.containers.slabs import row_bytes_of, rows_in_slabs
from annpipes.stores.row_space import RowSpace
from annpipes.stores.surveying import encoding_of
from annpipes.stores.tables import frame_columns, is_frame, member_names
from annpipes.stores.writing.inputs import Input, inputs_of
from annpipes.types import Chunk

__all__ = ["Array", "as_left_out", "field_named", "form_of", "kept_fields", "option_named"]

_GROUPS = ("layers", "obsm", "obsp", "varm", "varp", "uns")

Form = Literal["matrix", "array", "table"]


def as_left_out(without: Any, store: FieldStore) -> tuple[str, ...]:
    """The names of what is left out, sorted, ``raw`` for ``raw/X``; an error names those that no input has."""
    names = (without,) if isinstance(without, str) else tuple(without)
    known = _known(store)
    for name in names:
        if not isinstance(name, str) or name not in known:
            near = difflib.get_close_matches(str(name), known, n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else f"; there are {', '.join(known)}"
            raise FieldError(f"without: no {name!r} in {store.name}{hint}")
    return tuple(sorted({"raw" if name == "raw/X" else name for name in names}))


def _known(store: FieldStore) -> list[str]:
    """All that can be left out: what any input has."""
    names: dict[str, None] = {}
    for one in inputs_of(store):
        fields = [field for field in one.fields if field not in ("rows", "obs_names")]
        names.update(dict.fromkeys([*fields, *(["raw"] if "raw/X" in fields else [])]))
        groups = (field.partition("/")[0] for field in fields)
        names.update(dict.fromkeys(group for group in groups if group in ("layers", "obsm")))
        with one.file.reading("var") as file:
            names.update(dict.fromkeys(f"var/{column}" for column in frame_columns(file["var"])))
            for group in _GROUPS:
                members = member_names(file[group]) if group in file else ()
                names.update(dict.fromkeys([*([group] if members else []), *(f"{group}/{key}" for key in members)]))
    return list(names)


def field_named(name: str, without: Sequence[str]) -> bool:
    """Whether a field, or the group that it is in, is left out."""
    return name in without or name.partition("/")[0] in without


def kept_fields(store: FieldStore, without: Sequence[str]) -> list[str]:
    """The fields with rows that a rewrite takes along, columns of obs aside."""
    groups = ("X", "layers", "raw", "obsm")
    return [field for field in store.fields if field.split("/")[0] in groups and not field_named(field, without)]


def form_of(store: FieldStore, field: str) -> Form:
    """As what a field is taken along: rows of a matrix, of arrays of other dimensions, or of a table."""
    files = inputs_of(store)
    if field.startswith("obsm/") and all(_is_table(one, field) for one in files):
        return "table"
    if field.split("/")[0] in ("obsm", "layers") and all(_is_array(one, field) for one in files):
        return "array"
    return "matrix"


@contextmanager
def option_named(field: str) -> Iterator[None]:
    """Errors about what a field is say how to leave it out."""
    try:
        yield
    except (FormatError, ParameterError) as error:
        raise type(error)(f"{error}; or leave it out: without=[{field!r}] (--without {field})") from error


class Array:
    """An array of any dimensions over the rows of several files.

    Parameters
    ----------
    store
        The inputs.
    field
        Its name.
    """

    def __init__(self, store: FieldStore, field: str) -> None:
        self.files: list[Input] = inputs_of(store)
        self.field: str = field
        self.space: RowSpace = RowSpace([one.n_obs for one in self.files])
        shapes, dtypes, texts = [], [], []
        for one in self.files:
            with one.file.reading(field) as file:
                shapes.append(file[field].shape)
                dtypes.append(file[field].dtype)
                texts.append(encoding_of(file[field]) == "string-array" or file[field].dtype.kind in "OS")
            if shapes[-1][0] != one.n_obs:
                raise DamageError(f"{field} of {one.name} has {shapes[-1][0]} rows, but obs has {one.n_obs}")
        if len({shape[1:] for shape in shapes}) > 1 or len(set(texts)) > 1:
            raise FormatError(f"{field} has shapes {' and '.join(map(str, shapes))} in the files, or strings in some")
        if field.startswith("layers/") and len(self.files) > 1:
            other = next((one for one in self.files if not one.var_names.equals(store.var_names)), None)
            if other is not None:
                raise FormatError(f"{field} has {len(shapes[0])} dimensions, and {other.name} has other genes")
        self.text: bool = texts[0]
        self.shape: tuple[int, ...] = shapes[0][1:]  # of a row
        self.dtype: np.dtype[Any] = np.dtype(object) if self.text else np.result_type(*dtypes)

    @property
    def row_bytes(self) -> int:
        """Memory that a row takes."""
        return row_bytes_of(self.shape, self.dtype, text=self.text)

    def read(self, rows: RowArray) -> NDArray[Any]:
        """These rows, in the order given; ``(n, …)``."""
        chunk = Chunk.of(rows)
        values = np.empty((len(rows), *self.shape), self.dtype)
        for share in self.space.shares(chunk.rows):
            with self.files[share.number].file.reading(self.field) as file:
                values[share.where] = rows_in_slabs(file[self.field], share.rows, text=self.text, dtype=self.dtype)
        return values[chunk.order]


def _is_table(store: Input, field: str) -> bool:
    with store.file.reading(field) as file:
        return field in file and not isinstance(file["obsm"], h5py.Dataset) and is_frame(file[field])


def _is_array(store: Input, field: str) -> bool:
    """Whether a field is an array that is no matrix: of another number of dimensions, or of strings."""
    with store.file.reading(field) as file:
        group = file[field.partition("/")[0]]
        if isinstance(group, h5py.Dataset) or field not in file or not isinstance(file[field], h5py.Dataset):
            return False
        dataset = file[field]
        return dataset.ndim >= 1 and dataset.dtype.names is None and (dataset.ndim != 2 or dataset.dtype.kind in "OS")
