"""What flows between stages: chunks of row numbers, batches of rows."""

from __future__ import annotations

from collections.abc import Iterator, KeysView, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from annpipes.errors import FieldError
from annpipes.plans.sorting import sorting_order

__all__ = ["Batch", "Chunk", "Need", "SparseRows", "Total"]


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Rows to fetch with one read, sorted for the disk, and the order in which to yield them.

    >>> import numpy as np
    >>> chunk = Chunk(np.array([2, 5, 9]), np.array([1, 2, 0]))
    >>> chunk.drawn
    array([5, 9, 2])

    Parameters
    ----------
    rows
        Positions along obs, ascending, duplicates allowed; shape ``(n,)``, int64.
    order
        For each row in yielded order, its position in ``rows``; shape ``(n,)``, int64.
    """

    rows: NDArray[np.int64]
    order: NDArray[np.int64]

    @classmethod
    def of(cls, drawn: NDArray[np.int64]) -> Chunk:
        """The chunk that yields these rows, ``(n,)``, in this order.

        >>> import numpy as np
        >>> Chunk.of(np.array([9, 2, 5]))
        Chunk(rows=array([2, 5, 9]), order=array([2, 0, 1]))
        """
        if len(drawn) < 2 or (drawn[1:] >= drawn[:-1]).all():
            return cls(drawn, np.arange(len(drawn)))
        by_row = sorting_order(drawn)  # (n,)
        order = np.empty_like(by_row)
        order[by_row] = np.arange(len(drawn))
        return cls(drawn[by_row], order)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def drawn(self) -> NDArray[np.int64]:
        """The rows in the order in which they are yielded; shape ``(n,)``."""
        return self.rows[self.order]


@dataclass(frozen=True, slots=True, eq=False)
class SparseRows:
    """Rows of a sparse matrix as CSR arrays, always ``n_vars`` wide.

    >>> import numpy as np
    >>> rows = SparseRows(np.array([1.0, 2.0, 3.0]), np.array([0, 3, 1]), np.array([0, 2, 2, 3]), 4)
    >>> rows.shape
    (3, 4)
    >>> rows[1:3].to_dense()
    array([[0., 0., 0., 0.],
           [0., 3., 0., 0.]], dtype=float32)

    Parameters
    ----------
    data
        The stored values; shape ``(nnz,)``.
    indices
        The column of each value; shape ``(nnz,)``.
    indptr
        Where each row begins and ends in ``data``; shape ``(n + 1,)``, beginning with 0.
    n_vars
        Width of the matrix, independent of the largest column present.
    """

    data: NDArray[Any]
    indices: NDArray[Any]
    indptr: NDArray[np.int64]
    n_vars: int

    @classmethod
    def of(cls, matrix: Any) -> SparseRows:
        """The rows of a scipy CSR matrix."""
        return cls(matrix.data, matrix.indices, matrix.indptr.astype(np.int64), matrix.shape[1])

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, n_vars)``."""
        return len(self), self.n_vars

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many values each row stores; shape ``(n,)``."""
        return np.diff(self.indptr)

    @property
    def totals(self) -> NDArray[np.float64]:
        """The sum of each row; shape ``(n,)``."""
        totals = np.zeros(len(self))
        filled = self.lengths > 0
        totals[filled] = np.add.reduceat(self.data, self.indptr[:-1][filled], dtype=np.float64)
        return totals

    def __getitem__(self, part: slice) -> SparseRows:
        start, stop, step = part.indices(len(self.indptr) - 1)
        if step != 1:
            return self.take(np.arange(len(self))[part])
        indptr = self.indptr[start : max(start, stop) + 1]  # (n + 1,)
        first, last = indptr.item(0), indptr.item(-1)
        return SparseRows(self.data[first:last], self.indices[first:last], indptr - first, self.n_vars)

    def split(self, size: int) -> Iterator[SparseRows]:
        """Slices of ``size`` rows, of which only the last may have fewer: what slicing gives, in half the time each."""
        firsts = np.arange(0, len(self) - size + 1, size)  # (parts,)
        begins = self.indptr[firsts[:, None] + np.arange(size + 1)]  # (parts, size + 1)
        bounds = begins[:, [0, -1]].tolist()
        begins -= begins[:, :1].copy()
        for (first, last), indptr in zip(bounds, begins, strict=True):
            yield SparseRows(self.data[first:last], self.indices[first:last], indptr, self.n_vars)
        if len(self) % size:
            yield self[len(self) - len(self) % size :]

    def take(self, rows: NDArray[np.int64]) -> SparseRows:
        """The rows at these places, in that order; a copy."""
        return SparseRows.of(csr_matrix((self.data, self.indices, self.indptr), self.shape)[rows])

    def with_data(self, data: NDArray[Any]) -> SparseRows:
        """The same positions with other values, ``(nnz,)``."""
        return SparseRows(data, self.indices, self.indptr, self.n_vars)

    def without_duplicates(self) -> SparseRows:
        """Rows without duplicate entries; values stored for the same position are added."""
        ascending = np.diff(self.indices.astype(np.int64, copy=False)) > 0
        ends = self.indptr[1:-1]
        ascending[ends[(ends > 0) & (ends < len(self.indices))] - 1] = True  # from one row to the next
        if ascending.all():
            return self
        matrix = csr_matrix((self.data, self.indices, self.indptr), self.shape, copy=True)
        matrix.sum_duplicates()
        return SparseRows.of(matrix)

    def to_dense(self, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """A dense float32 array ``(n, n_vars)``; duplicate entries are added, as scipy does."""
        if out is None:
            out = np.zeros(self.shape, np.float32)
        values = self.data.astype(out.dtype, copy=False)
        csr_matrix((values, self.indices, self.indptr), self.shape, copy=False).toarray(out=out)
        return np.minimum(out, 1, out=out) if self.data.dtype == bool else out


@dataclass(frozen=True, slots=True)
class Total:
    """What may be known of each row: the sum of a field over all of its columns, as they are stored.

    >>> print(Total("X"))
    X:total
    """

    field: str

    def __str__(self) -> str:
        return f"{self.field}:total"


Need: TypeAlias = str | Total
"""What a transform must know of each row beside its field: an obs column such as ``obs/n_counts``, or a total."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows of several fields, row-aligned.

    >>> import numpy as np
    >>> batch = Batch(np.array([7, 3]), {"obs_cell_type": np.array(["B", "T"])})
    >>> batch["obs_cell_type"].tolist(), len(batch), len(batch[:1])
    (['B', 'T'], 2, 1)

    A slice is a batch of fewer rows and copies nothing. ``dict(batch)`` gives the fields.

    Parameters
    ----------
    rows
        Position along obs of each row; shape ``(n,)``.
    fields
        For each key an array of shape ``(n, …)`` or `SparseRows` of length n.
    extras
        What else transforms must know of the rows, by the name that they use for it: arrays ``(n,)``.
    """

    rows: NDArray[np.int64]
    fields: Mapping[str, Any]
    extras: Mapping[Need, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def keys(self) -> KeysView[str]:
        """The fields' keys, such as ``X`` and ``obs_cell_type``."""
        return self.fields.keys()

    def __getitem__(self, key: str | slice) -> Any:
        if isinstance(key, slice):
            fields = {name: values[key] for name, values in self.fields.items()}
            return Batch(self.rows[key], fields, {need: values[key] for need, values in self.extras.items()})
        try:
            return self.fields[key]
        except KeyError:
            raise FieldError(f"no {key!r} in this batch; it has {', '.join(self.fields)}") from None

    def split(self, size: int) -> Iterator[Batch]:
        """Slices of ``size`` rows, of which only the last may have fewer."""
        fields = {name: _split(values, size) for name, values in self.fields.items()}
        extras = {need: _split(values, size) for need, values in self.extras.items()}
        for rows in _split(self.rows, size):
            parts = {name: next(values) for name, values in fields.items()}
            yield Batch(rows, parts, {need: next(values) for need, values in extras.items()})

    def take(self, rows: NDArray[np.int64]) -> Batch:
        """The rows at these places of the batch, in that order; a copy."""
        fields = {name: _take(values, rows) for name, values in self.fields.items()}
        return Batch(self.rows[rows], fields, {need: values[rows] for need, values in self.extras.items()})

    def replace(self, **fields: Any) -> Batch:
        """A new batch in which these keys have other values or are added."""
        return Batch(self.rows, {**self.fields, **fields}, self.extras)

    @staticmethod
    def concat(batches: Sequence[Batch]) -> Batch:
        """One batch with the rows of all batches, in order."""
        if len(batches) == 1:
            return batches[0]
        return Batch(
            np.concatenate([batch.rows for batch in batches]),
            {key: _concat([batch[key] for batch in batches]) for key in batches[0].fields},
            {need: np.concatenate([batch.extras[need] for batch in batches]) for need in batches[0].extras},
        )


def _split(values: Any, size: int) -> Iterator[Any]:
    if isinstance(values, SparseRows):
        return values.split(size)
    return (values[first : first + size] for first in range(0, len(values), size))


def _take(values: Any, rows: NDArray[np.int64]) -> Any:
    return values.take(rows) if isinstance(values, SparseRows) else values[rows]


def _concat(parts: Sequence[Any]) -> Any:
    if not isinstance(parts[0], SparseRows):
        return np.concatenate(parts)
    lengths = np.concatenate([part.lengths for part in parts])
    return SparseRows(
        np.concatenate([part.data for part in parts]),
        np.concatenate([part.indices for part in parts]),
        np.concatenate([[0], np.cumsum(lengths)]),
        parts[0].n_vars,
    )
