"""The matrices of a part of a rewritten file, in a file of their own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from annpipes.errors import ParameterError
from annpipes.plans.rows import RowArray
from annpipes.stores.base import FieldStore
from annpipes.stores.codecs.base import Encoding
from annpipes.stores.collection.joined import JoinedSparse
from annpipes.stores.matrices import CsrRows
from annpipes.stores.writing.carrying import form_of, kept_fields, option_named
from annpipes.stores.writing.datasets import create, write_at
from annpipes.types import Chunk, SparseRows

__all__ = [
    "Matrix",
    "PartFile",
    "encoded_row_bytes",
    "finish",
    "matrices_of",
    "part_lengths",
    "row_lengths",
    "sync",
]

_CHUNK_BYTES = 512 << 10  # of a storage chunk; smaller ones cost more for each, larger ones leave the cache
_INT32_VALUES = 1 << 31  # from here on, indptr needs 64 bits


@dataclass(frozen=True)
class Matrix:
    """A matrix of a rewritten file.

    Parameters
    ----------
    field
        Its name, which is also its place in the file.
    sparse
        Whether it is CSR.
    columns
        How many.
    dtype, index_dtype
        Of its values, and of the columns of these if it is sparse.
    side
        How many values (of a dense one: rows) a storage chunk holds.
    """

    field: str
    sparse: bool
    columns: int
    dtype: np.dtype[Any]
    index_dtype: np.dtype[Any]
    side: int


def matrices_of(store: FieldStore, dtypes: Mapping[str, str], without: Sequence[str] = ()) -> list[Matrix]:
    """The matrices whose rows a part holds: X, layers, raw, and what is sparse in obsm; not those left out."""
    fields = kept_fields(store, without)
    for field in dtypes:
        if field not in fields:
            raise ParameterError(f"dtype is given for {field!r}, but the data has {', '.join(fields)}")
    matrices = []
    for field in fields:
        with option_named(field):
            if form_of(store, field) == "matrix" and (not field.startswith("obsm/") or store.matrix(field).sparse):
                matrices.append(_matrix(store, field, dtypes.get(field)))
    return matrices


def _matrix(store: FieldStore, field: str, dtype: str | None) -> Matrix:
    reader = store.matrix(field)
    kept = np.dtype(reader.dtype if dtype is None else dtype).newbyteorder("=")
    columns, n_rows = int(reader.shape[1]), max(1, store.n_obs)
    if not reader.sparse:
        rows = max(1, _CHUNK_BYTES // max(1, columns * kept.itemsize))
        return Matrix(field, False, columns, kept, kept, min(rows, n_rows))
    wide = np.dtype(reader.index_dtype if isinstance(reader, CsrRows | JoinedSparse) else np.int64)
    n_values = int(reader.row_bytes * n_rows / (reader.dtype.itemsize + wide.itemsize))
    narrow = np.dtype(np.int32) if columns <= np.iinfo(np.int32).max and n_values < _INT32_VALUES else wide
    values = _CHUNK_BYTES // max(kept.itemsize, narrow.itemsize)
    return Matrix(field, True, columns, kept, narrow, max(1, min(values, n_values)))


def row_lengths(store: FieldStore, matrix: Matrix) -> Callable[[RowArray], RowArray] | None:
    """How many values each of some rows stores; None where only reading can tell."""
    reader: Any = store.matrix(matrix.field)
    if isinstance(reader, CsrRows):
        return reader.lengths
    if not isinstance(reader, JoinedSparse) or reader.fill:
        return None
    for part in reader.parts:
        if not isinstance(part.matrix, CsrRows) or not (part.genes is None or part.genes.all_kept):
            return None

    def lengths(rows: RowArray) -> RowArray:
        found = np.empty(len(rows), np.int64)
        numbers, within = reader.space.locate(rows)
        for number in np.unique(numbers):
            some = numbers == number
            found[some] = reader.parts[number].matrix.lengths(within[some])
        return found

    return lengths


class PartFile:
    """A part being written; it appears under its name when it is complete.

    Parameters
    ----------
    path
        The part's name.
    chunk
        Its rows.
    bases
        For each sparse matrix how many values, and for dense ones how many rows, stand before these in the output file.
        Storage chunks are cut as they will be there, so that they can be taken over as they are.
    encoding
        Of the values.
    """

    def __init__(self, path: str, chunk: Chunk, bases: Mapping[str, int], encoding: Encoding) -> None:
        self.path: str = path
        self.chunk: Chunk = chunk
        self.bases: Mapping[str, int] = bases
        self.encoding: Encoding = encoding
        self.unfinished: str = f"{path}.{uuid.uuid4().hex[:8]}"  # another worker may have been given the same part

    def add(self, matrix: Matrix, values: Any) -> None:
        """Write the part's rows of a matrix."""
        with h5py.File(self.unfinished, "a") as file:
            group = file.create_group(matrix.field)
            if isinstance(values, SparseRows):
                group["lengths"] = values.lengths
                self._write(group, "data", _as_dtype(values.data, matrix, self.chunk, values.indptr), matrix)
                self._write(group, "indices", values.indices.astype(matrix.index_dtype, copy=False), matrix)
            else:
                self._write(group, "rows", _as_dtype(values, matrix, self.chunk, None), matrix)

    def _write(self, group: h5py.Group, name: str, values: NDArray[Any], matrix: Matrix) -> None:
        before = self.bases[matrix.field] % matrix.side if self.encoding.encode is not None else 0
        shape = (before + len(values), *values.shape[1:])
        dataset = create(group, name, shape, values.dtype, matrix.side, self.encoding)
        dataset.attrs["skip"] = before
        write_at(dataset, before, values, self.encoding)

    def finish(self) -> None:
        """Give it its name."""
        with h5py.File(self.unfinished, "a"):  # there may be no matrix
            pass
        finish(self.unfinished, self.path)


def _as_dtype(values: NDArray[Any], matrix: Matrix, chunk: Chunk, indptr: RowArray | None) -> NDArray[Any]:
    """Values in the matrix's dtype; refused where that would change one."""
    if values.dtype == matrix.dtype:
        return values
    with np.errstate(invalid="ignore", over="ignore"):
        converted = values.astype(matrix.dtype)
        changed = converted != values
    if changed.any():
        place = int(np.argmax(changed.reshape(len(values), -1).any(axis=1)))
        row = place if indptr is None else int(np.searchsorted(indptr, place, side="right") - 1)
        value = values.reshape(len(values), -1)[place][changed.reshape(len(values), -1)[place]][0]
        raise ParameterError(
            f"dtype {matrix.dtype} cannot hold {value} of {matrix.field}, row {chunk.drawn[row]}: choose a wider one"
        )
    return converted


def part_lengths(path: str, field: str) -> RowArray:
    """How many values each row of a part's sparse matrix stores; shape ``(n,)``."""
    with h5py.File(path, "r") as file:
        lengths: RowArray = file[field]["lengths"][:]
    return lengths


def encoded_row_bytes(store: FieldStore, chunk: Chunk, matrices: Sequence[Matrix], encoding: Encoding) -> float:
    """How many bytes a row takes in the output, judged by those of ``chunk``."""
    total = 0.0
    for matrix in matrices:
        values: Any = store.matrix(matrix.field).read(chunk)
        arrays = [values]
        if isinstance(values, SparseRows):
            arrays = [values.data.astype(matrix.dtype), values.indices.astype(matrix.index_dtype), values.lengths]
        for array in arrays:
            parts = [array[start : start + matrix.side] for start in range(0, len(array), matrix.side)]
            total += array.nbytes if encoding.encode is None else sum(len(encoding.encode(part)) for part in parts)
    return total / max(1, len(chunk))


def finish(unfinished: str, path: str) -> None:
    """Give a file its name once all of it is on the disk."""
    sync(unfinished)
    os.replace(unfinished, path)
    sync(os.path.dirname(path))


def sync(path: str) -> None:
    """Have all that was written to a file or folder on the disk."""
    if os.name == "nt":  # Windows opens no folder, and flushes no file that is open for reading
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
