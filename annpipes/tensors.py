"""Sparse rows as tensors: what X of a batch is with ``form="csr"``."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, NoReturn, overload

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn.functional import pad

from annpipes.errors import ParameterError, ParameterTypeError, RowIndexError
from annpipes.types import SparseRows

__all__ = ["CsrTensors", "widest_type"]

_NARROW = 2**31 - 1  # the largest int32
_REMEDY = "make it dense, x.to_dense(), or a torch sparse tensor, x.to_sparse_csr()"


def _imported(module: str, needed_by: str) -> Any:
    """Another framework, which is no dependency."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{needed_by} needs {module.partition('.')[0]}, which is not installed", name=error.name
        ) from error


def _refused(sign: str) -> Callable[..., NoReturn]:
    def refuse(self: CsrTensors, *others: Any) -> NoReturn:
        raise ParameterTypeError(f"CsrTensors has no {sign}: {_REMEDY}")

    return refuse


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CsrTensors:
    """Rows of a sparse matrix as three tensors, which unlike torch's sparse tensors survive queues and pinning.

    >>> import torch
    >>> rows = CsrTensors(torch.tensor([0, 2, 3]), torch.tensor([0, 3, 1]), torch.tensor([1.0, 2.0, 5.0]), 4)
    >>> rows
    CsrTensors(2 rows × 4, 3 values, float32)
    >>> len(rows), rows.shape, rows[1]
    (2, (2, 4), tensor([0., 5., 0., 0.]))
    >>> rows[:1].to_dense()
    tensor([[1., 0., 0., 2.]])

    Indexing with a number gives a row as a dense tensor ``(n_vars,)``; slices, positions and masks give fewer rows.
    It has no arithmetic of its own; an error for an unsupported operation says how to convert it to a tensor.

    Parameters
    ----------
    crow_indices
        Where each row begins and ends; shape ``(n + 1,)``, int32, or int64 where columns or values exceed 2³¹.
    col_indices
        The gene of each value; shape ``(nnz,)``, of the same type.
    values
        Shape ``(nnz,)``, float32.
    n_vars
        Width of the matrix.
    """

    crow_indices: Tensor
    col_indices: Tensor
    values: Tensor
    n_vars: int

    def __len__(self) -> int:
        return len(self.crow_indices) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, n_vars)``."""
        return len(self), self.n_vars

    @property
    def dtype(self) -> torch.dtype:
        """The type of the values."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """Where all three tensors are."""
        return self.values.device

    def __repr__(self) -> str:
        where = "" if self.device.type == "cpu" else f", {self.device}"
        dtype = str(self.dtype).removeprefix("torch.")
        return f"CsrTensors({len(self):,} rows × {self.n_vars:,}, {len(self.values):,} values, {dtype}{where})"

    def __iter__(self) -> Iterator[Tensor]:
        """The rows one by one, dense, each ``(n_vars,)``."""
        return (self[place] for place in range(len(self)))

    @overload
    def __getitem__(self, rows: int) -> Tensor: ...
    @overload
    def __getitem__(self, rows: Any) -> CsrTensors: ...
    def __getitem__(self, rows: Any) -> Tensor | CsrTensors:
        if isinstance(rows, tuple):
            raise ParameterTypeError(f"rows can be indexed, columns cannot: {_REMEDY}, and index its columns")
        try:
            place = operator.index(rows)
        except TypeError:
            return self._span(rows) if isinstance(rows, slice) and rows.step in (None, 1) else self._take(rows)
        if not -len(self) <= place < len(self):
            raise RowIndexError(f"row {place} is out of range for {len(self)} rows")
        first = place % len(self)
        return self._span(slice(first, first + 1)).to_dense()[0]

    def _span(self, rows: slice) -> CsrTensors:
        start, stop, _ = rows.indices(len(self))
        crow = self.crow_indices[start : max(start, stop) + 1]  # (n + 1,)
        first, last = int(crow[0]), int(crow[-1])
        return CsrTensors(crow - first, self.col_indices[first:last], self.values[first:last], self.n_vars)

    def _take(self, rows: Any) -> CsrTensors:
        chosen = torch.arange(len(self), device=self.device)[rows]  # (rows,), by torch's own rules
        begins, lengths = self.crow_indices[chosen], self.crow_indices.diff()[chosen]
        crow = torch.cat([lengths.new_zeros(1), lengths.cumsum(0, dtype=lengths.dtype)])
        shifts = torch.repeat_interleave(begins - crow[:-1], lengths)  # (values,)
        places = torch.arange(len(shifts), device=self.device) + shifts
        return CsrTensors(crow, self.col_indices[places], self.values[places], self.n_vars)

    def to(self, *target: Any, non_blocking: bool = False, **options: Any) -> CsrTensors:
        """The same rows on another device, or with values of another type; takes the arguments of `torch.Tensor.to`."""
        before: Any = self.values  # whose `to` has several forms, all of them taken
        values: Tensor = before.to(*target, non_blocking=non_blocking, **options)
        parts = self.crow_indices, self.col_indices
        crow, col = (part.to(values.device, non_blocking=non_blocking) for part in parts)
        return CsrTensors(crow, col, values, self.n_vars)

    def cpu(self) -> CsrTensors:
        """The same in the machine's own memory."""
        return self.to("cpu")

    def cuda(self) -> CsrTensors:
        """The same on the current GPU of CUDA."""
        return self.to("cuda")

    def pin_memory(self) -> CsrTensors:
        """The same rows in pinned memory, from which a GPU can fetch them."""
        crow, col, values = (part.pin_memory() for part in (self.crow_indices, self.col_indices, self.values))
        return CsrTensors(crow, col, values, self.n_vars)

    def of_values(self, of_rows: Tensor) -> Tensor:
        """What is said of each row, ``(n,)``, said of each of its values, ``(nnz,)``."""
        return torch.repeat_interleave(of_rows, self.crow_indices.diff(), output_size=len(self.values))

    @property
    def totals(self) -> Tensor:
        """The sum of each row's values; float64 ``(n,)``, float32 on devices that have no wider numbers."""
        wide = widest_type(self.device)
        return torch.zeros(len(self), dtype=wide, device=self.device).index_add_(0, self._rows, self.values.to(wide))

    @property
    def _rows(self) -> Tensor:
        """The row of each value, ``(nnz,)``."""
        return self.of_values(torch.arange(len(self), device=self.device))

    @property
    def _places(self) -> Tensor:
        """Where each value stands in the dense rows, one after the other; ``(nnz,)``."""
        return self._rows * self.n_vars + self.col_indices

    def with_values(self, values: Tensor) -> CsrTensors:
        """The same positions with other values, ``(nnz,)``."""
        return CsrTensors(self.crow_indices, self.col_indices, values, self.n_vars)

    def without_duplicates(self) -> CsrTensors:
        """Rows without duplicate entries and with ascending columns; values of the same position are added."""
        places = self._places
        if bool((places.diff() > 0).all()):
            return self
        distinct, numbers = torch.unique(places, return_inverse=True)  # ascending
        values = torch.zeros(len(distinct), dtype=self.dtype, device=self.device).index_add_(0, numbers, self.values)
        kind, width = self.crow_indices.dtype, max(1, self.n_vars)
        lengths = torch.bincount(distinct // width, minlength=len(self))
        crow = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).to(kind)
        return CsrTensors(crow, (distinct % width).to(kind), values, self.n_vars)

    def to_sparse_csr(self) -> Tensor:
        """A torch sparse CSR tensor ``(n, n_vars)`` over the same memory."""
        parts = self.crow_indices, self.col_indices, self.values
        return torch.sparse_csr_tensor(*parts, self.shape, check_invariants=False)

    def to_dense(self) -> Tensor:
        """A dense tensor ``(n, n_vars)``, made on the device where the values are."""
        dense = torch.zeros(len(self) * self.n_vars, dtype=self.dtype, device=self.device)
        return dense.index_add_(0, self._places, self.values).view(self.shape)

    def to_scipy(self) -> csr_matrix:
        """A `scipy.sparse.csr_matrix`, which shares the memory unless that is on a GPU."""
        values, col, crow = (part.numpy(force=True) for part in (self.values, self.col_indices, self.crow_indices))
        return csr_matrix((values, col, crow), self.shape)

    def to_jax(self, nse: int | None = None) -> Any:
        """A ``jax.experimental.sparse.BCSR`` on the same device, which shares the memory if jax can.

        Parameters
        ----------
        nse
            How many values to make room for; padding does not change results. ``jax.jit`` compiles a function again
            for each number of values, and batches differ in that number; one ``nse`` for all batches avoids this.

        Raises
        ------
        ModuleNotFoundError
            jax is not installed.
        ParameterError
            There are more values than ``nse``, or 64-bit numbers, which jax supports only with ``jax_enable_x64``.
        """
        jax, sparse = _imported("jax", "to_jax"), _imported("jax.experimental.sparse", "to_jax")
        crow, col, values = self._narrow()
        if nse is not None:
            if nse < len(values):
                raise ParameterError(f"nse must be at least {len(values)}, the number of values, got {nse}")
            room = (0, nse - len(values))
            col, values = pad(col, room, value=self.n_vars), pad(values, room)
        parts = [jax.dlpack.from_dlpack(part.detach().contiguous()) for part in (values, col, crow)]
        for part, given in zip(parts, (values, col, crow), strict=True):
            if part.dtype.itemsize < given.dtype.itemsize:  # it narrows without a word
                raise ParameterError(
                    f"jax turns {given.dtype} into {part.dtype}: jax.config.update('jax_enable_x64', True), or give "
                    f"x.to(torch.float32)"
                )
        return sparse.BCSR(tuple(parts), shape=self.shape)

    def to_cupy(self) -> Any:
        """A ``cupyx.scipy.sparse.csr_matrix`` over the same memory of a GPU, by DLPack.

        Raises
        ------
        ModuleNotFoundError
            cupy is not installed.
        ParameterError
            The tensors are not on a GPU of CUDA or ROCm.
        """
        if self.device.type != "cuda":
            raise ParameterError(f"cupy arrays are on a GPU, but these values are on {self.device}: x.cuda().to_cupy()")
        cupy, sparse = _imported("cupy", "to_cupy"), _imported("cupyx.scipy.sparse", "to_cupy")
        crow, col, values = (cupy.from_dlpack(part.detach()) for part in self._narrow())
        return sparse.csr_matrix((values, col, crow), self.shape)

    def _narrow(self) -> tuple[Tensor, Tensor, Tensor]:
        """The three tensors, places as int32 where these can count them."""
        if self.n_vars > _NARROW or len(self.values) > _NARROW:
            return self.crow_indices, self.col_indices, self.values
        return self.crow_indices.to(torch.int32), self.col_indices.to(torch.int32), self.values

    @classmethod
    def of(cls, rows: SparseRows) -> CsrTensors:
        """Sparse rows as tensors of the types that torch wants; over the same memory where they have them."""
        dtype = np.int64 if max(rows.n_vars, len(rows.data)) > _NARROW else np.int32  # torch wants both of one type
        return cls(
            torch.from_numpy(rows.indptr.astype(dtype)),
            torch.from_numpy(rows.indices.astype(dtype, copy=False)),
            torch.from_numpy(rows.data.astype(np.float32, copy=False)),
            rows.n_vars,
        )

    __add__: ClassVar[Callable[..., NoReturn]] = _refused("+")
    __radd__: ClassVar[Callable[..., NoReturn]] = _refused("+")
    __sub__: ClassVar[Callable[..., NoReturn]] = _refused("-")
    __rsub__: ClassVar[Callable[..., NoReturn]] = _refused("-")
    __neg__: ClassVar[Callable[..., NoReturn]] = _refused("-")
    __mul__: ClassVar[Callable[..., NoReturn]] = _refused("*")
    __rmul__: ClassVar[Callable[..., NoReturn]] = _refused("*")
    __truediv__: ClassVar[Callable[..., NoReturn]] = _refused("/")
    __rtruediv__: ClassVar[Callable[..., NoReturn]] = _refused("/")
    __matmul__: ClassVar[Callable[..., NoReturn]] = _refused("@")
    __rmatmul__: ClassVar[Callable[..., NoReturn]] = _refused("@")
    __pow__: ClassVar[Callable[..., NoReturn]] = _refused("**")
    __rpow__: ClassVar[Callable[..., NoReturn]] = _refused("**")
    __lt__: ClassVar[Callable[..., NoReturn]] = _refused("comparison")
    __le__: ClassVar[Callable[..., NoReturn]] = _refused("comparison")
    __gt__: ClassVar[Callable[..., NoReturn]] = _refused("comparison")
    __ge__: ClassVar[Callable[..., NoReturn]] = _refused("comparison")

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        """Torch's functions, and tensors that meet this, end here."""
        name = getattr(function, "__name__", "torch's function")
        raise ParameterTypeError(f"{name} does not take CsrTensors: {_REMEDY}")

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"CsrTensors has no {name!r}: {_REMEDY}")


def widest_type(device: torch.device) -> torch.dtype:
    """The floating-point numbers in which sums are exact enough for all: Apple's GPUs have none of 64 bits."""
    return torch.float32 if device.type == "mps" else torch.float64
