"""Rows of dense and CSR matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from annpipes._rows import runs
from annpipes._store.hdf5 import Hdf5File
from annpipes.errors import DamageError
from annpipes.types import Chunk, SparseRows

__all__ = ["DenseFile", "DenseMemory", "SparseFile", "SparseMemory"]


@dataclass(frozen=True, eq=False)
class DenseMemory:
    """A dense array ``(n_obs, n)`` in memory."""

    values: NDArray[Any]

    def read(self, chunk: Chunk) -> NDArray[Any]:
        return self.values[chunk.drawn]


@dataclass(frozen=True, eq=False)
class SparseMemory:
    """A scipy sparse matrix in memory; only CSR is fast."""

    matrix: Any

    def read(self, chunk: Chunk) -> SparseRows:
        return _sparse_rows(sparse.csr_matrix(self.matrix[chunk.drawn]))


class DenseFile:
    """A dense dataset ``(n_obs, n)`` of an HDF5 file."""

    def __init__(self, file: Hdf5File, path: str) -> None:
        self.file, self.path = file, path
        with file.open() as opened:
            self.shape: tuple[int, ...] = opened[path].shape
            self.dtype = opened[path].dtype

    def read(self, chunk: Chunk) -> NDArray[Any]:
        rows, places = np.unique(chunk.drawn, return_inverse=True)  # a row asked for twice is read once
        values = np.empty((len(rows), *self.shape[1:]), self.dtype.newbyteorder("="))
        starts, lengths = runs(rows)
        with self.file.reading(self.path, rows) as opened:
            dataset, done = opened[self.path], 0
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
                dataset.read_direct(values, np.s_[start : start + length], np.s_[done : done + length])
                done += length
        return values[places]


class SparseFile:
    """A CSR group (``data``, ``indices``, ``indptr``) of an HDF5 file."""

    def __init__(self, file: Hdf5File, path: str, shape: tuple[int, int]) -> None:
        self.file, self.path, self.shape = file, path, shape
        with file.open() as opened:
            group = opened[path]
            self.indptr: NDArray[np.int64] = group["indptr"][:].astype(np.int64)  # (n_obs + 1,)
            self.nnz = len(group["data"])
            self.dtypes = {name: group[name].dtype.newbyteorder("=") for name in ("data", "indices")}
            lengths = {len(group["data"]), len(group["indices"]), int(self.indptr[-1])}
        if len(self.indptr) != shape[0] + 1 or self.indptr[0] != 0 or len(lengths) > 1:
            raise DamageError(
                f"{path} in {file.path}: indptr has {len(self.indptr)} entries from {self.indptr[0]} to "
                f"{self.indptr[-1]}, but there are {shape[0]} rows and {self.nnz} stored values"
            )
        if len(wrong := np.flatnonzero(np.diff(self.indptr) < 0)):
            raise DamageError(f"{path} in {file.path}: indptr decreases at row {wrong[0]}")

    def read(self, chunk: Chunk) -> SparseRows:
        rows, places = np.unique(chunk.drawn, return_inverse=True)  # a row asked for twice is read once
        starts, lengths = runs(rows)
        firsts, lasts = self.indptr[starts], self.indptr[starts + lengths]
        indptr = np.concatenate([[0], np.cumsum(self.indptr[rows + 1] - self.indptr[rows])])
        parts = {name: np.empty(indptr[-1], dtype) for name, dtype in self.dtypes.items()}
        with self.file.reading(self.path, rows) as opened:
            for name, values in parts.items():
                dataset, done = opened[self.path][name], 0
                for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
                    if last > first:
                        dataset.read_direct(values, np.s_[first:last], np.s_[done : done + last - first])
                        done += last - first
        self._check(parts["indices"], indptr, rows)
        data = parts["data"]
        if data.dtype == np.float16 or data.dtype == bool:  # which scipy's compiled row indexing lacks
            data = data.astype(np.float32)
        matrix = sparse.csr_matrix((data, parts["indices"], indptr), (len(rows), self.shape[1]), copy=False)
        return _sparse_rows(matrix[places])

    def _check(self, indices: NDArray[Any], indptr: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        if len(indices) and (indices.min() < 0 or indices.max() >= self.shape[1]):
            place = np.flatnonzero((indices < 0) | (indices >= self.shape[1]))[0]
            row = rows[np.searchsorted(indptr, place, side="right") - 1]
            raise DamageError(
                f"{self.path}/indices in {self.file.path}: row {row} has column {indices[place]}, "
                f"but the matrix is {self.shape[1]} wide"
            )


def _sparse_rows(matrix: Any) -> SparseRows:
    return SparseRows(matrix.data, matrix.indices, matrix.indptr.astype(np.int64), matrix.shape[1])
