"""A complete .h5ad file, put together from parts and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata.io import write_elem

from annpipes.errors import FormatError
from annpipes.plans.rows import RowArray
from annpipes.stores.base import FieldStore
from annpipes.stores.codecs.base import Encoding
from annpipes.stores.codecs.encoding import codec_of
from annpipes.stores.marks import put_mark
from annpipes.stores.row_space import RowSpace
from annpipes.stores.writing.carrying import Array, field_named, form_of, kept_fields, option_named
from annpipes.stores.writing.datasets import append, create
from annpipes.stores.writing.gathering import Table, scratch_file
from annpipes.stores.writing.inputs import Input, inputs_of
from annpipes.stores.writing.parts import Matrix
from annpipes.types import Chunk

__all__ = ["Assembly"]

_STRING_BYTES, _VALUE_BYTES = 250, 40  # working memory of one row of a column
_DICTS = ("layers", "obsm", "obsp", "varm", "varp", "uns")
_OF_ONE = ("uns", "varm", "varp", "raw/varm")  # what is copied from a single input


class PartOfOutput(Protocol):
    """What an output file needs to know of a part."""

    def path(self) -> str:
        """Where it lies, once it is finished."""

    def rows(self) -> RowArray:
        """Its rows in the inputs, in their new order; shape ``(n,)``."""

    def lengths(self, field: str) -> RowArray:
        """How many values each row of a sparse matrix stores; shape ``(n,)``."""


class Assembly:
    """What the output files have in common.

    Parameters
    ----------
    store
        The inputs.
    matrices
        Those that parts hold.
    encoding
        Of these and of the tables' numbers.
    memory
        Bytes that the rows of one column may take at once.
    without
        What is left out.
    """

    def __init__(
        self,
        store: FieldStore,
        matrices: Sequence[Matrix],
        encoding: Encoding,
        memory: int,
        without: Sequence[str] = (),
    ) -> None:
        self.store: FieldStore = store
        self.matrices: Sequence[Matrix] = matrices
        self.encoding: Encoding = encoding
        self.memory: int = memory
        self.without = without
        self.inputs: list[Input] = inputs_of(store)
        self.space: RowSpace = RowSpace([one.n_obs for one in self.inputs])
        in_parts = {matrix.field for matrix in matrices}
        forms = {field: form_of(store, field) for field in kept_fields(store, without) if field not in in_parts}
        framed = [field for field, form in forms.items() if form == "table"]
        self.tables: list[Table] = [Table(self.inputs, path, self.space, without) for path in ("obs", *framed)]
        self.dense: list[str] = [field for field, form in forms.items() if form == "matrix"]
        self.arrays: list[Array] = []
        for field, form in forms.items():
            if form == "array":
                with option_named(field):
                    self.arrays.append(Array(store, field))

    def check(self) -> None:
        """Raise what writing the tables would, before anything is written."""
        for table in self.tables:
            table.check()
        with scratch_file() as scratch:
            self._write_vars(scratch)

    @property
    def left_out(self) -> list[str]:
        """What the inputs have and the outputs lack."""
        names = [f"{table.path}/{column}" for table in self.tables for column in table.left_out]
        kept = {*(matrix.field for matrix in self.matrices), *(array.field for array in self.arrays), *self.dense}
        kept |= {table.path for table in self.tables}
        for one in self.inputs:
            with one.file.open() as file:
                groups = ("obsp",) if len(self.inputs) == 1 else ("obsp", *_OF_ONE)
                names += [f"{group}/{key}" for group in groups if group in file for key in file[group]]
                names += [
                    f"{group}/{key}"
                    for group in ("uns", "varm", "varp")
                    for key in (file[group] if isinstance(file.get(group), h5py.Group) else ())
                    if field_named(f"{group}/{key}", self.without)
                ]
                names += [name for name in self.without if name.startswith("var/")]
                fields = [field for field in one.fields if field.split("/")[0] in ("X", "layers", "raw", "obsm")]
                names += [field for field in fields if field not in kept]
        return list(dict.fromkeys(names))

    def write(self, path: str, parts: Sequence[PartOfOutput], n_rows: int, mark: Mapping[str, Any]) -> Iterator[int]:
        """Write one output file, yielding how many rows are done as parts go by.

        Parameters
        ----------
        parts
            In the order of their rows; each is waited for when it is needed.
        n_rows
            How many there are in all of them.
        mark
            What to say in the file about how it was shuffled.
        """
        with h5py.File(path, "w") as file:
            _encode(file, "anndata", "0.1.0")
            put_mark(file, mark)
            for name in _DICTS:
                _encode(file.create_group(name), "dict", "0.1.0")
            self._copy_the_rest(file)
            rows = [part.rows for part in parts]
            for table in self.tables:
                self._write_table(file, table, rows, n_rows)
            for field in self.dense:
                self._write_dense(file, field, rows, n_rows)
            for array in self.arrays:
                for first, some in self._windows(rows, 3 * array.row_bytes):
                    _place_rows(*_place_of(file, array.field), array.read(some), first, n_rows)
            for matrix in self.matrices:
                self._create(file, matrix, parts, n_rows)
            places = {name: 0 for matrix in self.matrices for name in _datasets(matrix)}
            for part in parts:
                with h5py.File(part.path(), "r") as source:
                    yield self._append(file, source, places)

    def _create(self, file: h5py.File, matrix: Matrix, parts: Sequence[PartOfOutput], n_rows: int) -> None:
        if not matrix.sparse:
            shape = (n_rows, matrix.columns)
            _encode(create(file, matrix.field, shape, matrix.dtype, matrix.side, self.encoding), "array", "0.2.0")
            return
        lengths = [part.lengths(matrix.field) for part in parts]
        indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])  # (n_rows + 1,)
        kind = matrix.index_dtype if indptr[-1] <= np.iinfo(matrix.index_dtype).max else np.int64
        group = file.require_group(matrix.field)
        _encode(group, "csr_matrix", "0.1.0")
        group.attrs["shape"] = np.array([n_rows, matrix.columns])
        create(group, "data", (indptr[-1],), matrix.dtype, matrix.side, self.encoding)
        create(group, "indices", (indptr[-1],), matrix.index_dtype, matrix.side, self.encoding)
        group.create_dataset("indptr", data=indptr.astype(kind))

    def _append(self, file: h5py.File, part: h5py.File, places: dict[str, int]) -> int:
        """Copy a part's matrices to where those before it end; how many rows it has."""
        n_rows = 0
        for matrix in self.matrices:
            group = part[matrix.field]
            n_rows = len(group["lengths"]) if matrix.sparse else len(group["rows"]) - int(group["rows"].attrs["skip"])
            for name, source in _datasets(matrix).items():
                places[name] = append(file[name], places[name], group[source], int(group[source].attrs["skip"]))
        return n_rows

    def _copy_the_rest(self, file: h5py.File) -> None:
        """What has no rows: the tables of genes, and of a single input uns, varm and varp."""
        self._write_vars(file)
        if len(self.inputs) > 1:
            return
        with self.inputs[0].file.open() as source:
            for name in _OF_ONE:
                for key in source[name] if isinstance(source.get(name), h5py.Group) else ():
                    old = name == "uns" and key.endswith("_categories") and _is_old(source)
                    if not (old or field_named(f"{name}/{key}", self.without)):
                        source.copy(f"{name}/{key}", file[name])

    def _write_vars(self, file: h5py.File) -> None:
        """The table of the genes of var, and that of those of raw."""
        var = self.store.var
        self._write_genes(file, var[[column for column in var if f"var/{column}" not in self.without]], "var")
        if any(matrix.field == "raw/X" for matrix in self.matrices):
            _encode(file.create_group("raw"), "raw", "0.1.0")
            self._write_genes(file["raw"], self.store.gene_table(raw=True), "raw.var")
            _encode(file.create_group("raw/varm"), "dict", "0.1.0")

    def _write_genes(self, group: h5py.Group, table: pd.DataFrame, called: str) -> None:
        """A table of genes, its strings as categories where some are missing, as anndata writes them."""
        if not table.columns.is_unique:
            twice = table.columns[table.columns.duplicated()][0]
            raise FormatError(f"{called} has the column {str(twice)!r} twice: rename one and write the input again")
        var = table.copy()
        for column in var:
            if var[column].dtype == object and var[column].isna().any():
                var[column] = pd.Categorical(var[column])
        with anndata.settings.override(allow_write_nullable_strings=True):
            try:
                write_elem(group, "var", var)
            except Exception as error:  # anndata and h5py raise whatever the values lead them to
                what, name = ("the column", "var/…") if called == "var" else ("raw", "raw")
                raise FormatError(
                    f"{called} of {self.store.name} cannot be written ({error}): leave {what} out with "
                    f"without=[{name!r}] (--without {name})"
                ) from error

    def _write_table(self, file: h5py.File, table: Table, rows: Sequence[Callable[[], RowArray]], n_rows: int) -> None:
        group = file.create_group(table.path)
        _encode(group, "dataframe", "0.2.0")
        group.attrs["_index"] = table.index_name
        group.attrs.create("column-order", [*table.columns], dtype=h5py.string_dtype())
        for first, some in self._windows(rows, _STRING_BYTES):
            _place_rows(group, table.index_name, table.index(some), first, n_rows)
        for name in table.columns:
            dtype = table.dtype(name)
            size = _VALUE_BYTES if getattr(dtype, "kind", "O") in "biuf" else _STRING_BYTES
            for first, some in self._windows(rows, size):
                _place_rows(group, name, table.column(name, some, dtype), first, n_rows)

    def _write_dense(self, file: h5py.File, field: str, rows: Sequence[Callable[[], RowArray]], n_rows: int) -> None:
        reader = self.store.matrix(field)
        for first, some in self._windows(rows, int(3 * reader.row_bytes) + 1):
            values = reader.read(Chunk.of(some))
            _place_rows(*_place_of(file, field), values, first, n_rows)

    def _windows(self, rows: Sequence[Callable[[], RowArray]], row_bytes: int) -> Iterator[tuple[int, RowArray]]:
        """All rows in as few pieces as memory allows, whole parts each, with the row at which each begins."""
        first, held = 0, [np.zeros(0, np.int64)]
        most = self.memory // row_bytes
        for get in rows:
            new = get()
            if (count := sum(map(len, held))) and count + len(new) > most:
                yield first, np.concatenate(held)
                first, held = first + count, []
            held.append(new)
        yield first, np.concatenate(held)


def _is_old(file: h5py.File) -> bool:
    """Whether a file is older than anndata 0.7, whose uns holds the categories of obs."""
    return isinstance(file["obs"], h5py.Dataset)


def _datasets(matrix: Matrix) -> Mapping[str, str]:
    """A matrix's datasets in an output file, and what they are called in a part's group."""
    return {f"{matrix.field}/{name}": name for name in ("data", "indices")} if matrix.sparse else {matrix.field: "rows"}


def _encode(element: Any, kind: str, version: str) -> None:
    element.attrs["encoding-type"], element.attrs["encoding-version"] = kind, version


def _place_of(file: h5py.File, field: str) -> tuple[h5py.Group, str]:
    """The group that a field is in, and its name there: anndata 0.13 writes no paths."""
    group, _, key = field.rpartition("/")
    return (file[group] if group else file), key


def _place_rows(group: h5py.Group, name: str, values: Any, first: int, n_rows: int) -> None:
    """Write ``values`` as anndata encodes them, as rows from ``first`` on of an element with ``n_rows``."""
    with scratch_file() as scratch, anndata.settings.override(allow_write_nullable_strings=True):
        write_elem(scratch, name, values)
        _place(scratch, name, group, first, len(values), n_rows)


def _place(source: h5py.Group, name: str, target: h5py.Group, first: int, count: int, n_rows: int) -> None:
    element = source[name]
    if isinstance(element, h5py.Group):
        copy = target.require_group(name)
        for part in element:
            _place(element, part, copy, first, count, n_rows)
    elif element.shape[:1] != (count,) or name == "categories":
        if name not in target:
            source.copy(name, target, name)
        return
    else:
        if name not in target:
            numbers = element.dtype.kind in "biuf" and n_rows > 0
            options = {"chunks": True, **codec_of("gzip").options} if numbers else {}  # which HDF5 reads anywhere
            target.create_dataset(name, (n_rows, *element.shape[1:]), element.dtype, **options)
        copy = target[name]
        copy[first : first + count] = element[()]
    for key, value in element.attrs.items():
        copy.attrs[key] = value
