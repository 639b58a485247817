"""The transforms that single-cell data usually goes through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from annpipes.errors import ParameterError
from annpipes.tensors import CsrTensors, widest_type
from annpipes.transforms.base import Transform
from annpipes.types import Need, SparseRows, Total

__all__ = ["Binarize", "Clip", "Log1p", "NormalizeTotal", "Scale"]


class NormalizeTotal(Transform):
    """Each cell scaled to a total of ``target_sum``; a cell with only zeros is unchanged.

    ``x · target_sum / total``, like `scanpy.pp.normalize_total` with the same ``target_sum``.

    >>> import torch
    >>> NormalizeTotal(10)(torch.tensor([1.0, 0.0, 3.0]))
    tensor([2.5000, 0.0000, 7.5000])

    If only some genes are read (``genes=``), their total is less than that of all genes. scanpy's recipe is to
    normalize first and then to choose genes, so by default all genes count. Called by itself, as above, a transform
    knows only the values it is given.

    Parameters
    ----------
    target_sum
        The total after scaling.
    total
        What values are divided by: the stored sum over ``"all"`` genes, even if only some are read; the
        sum over the ``"genes"`` that are read; or an obs column that has the totals, such as ``"obs/n_counts"``.
    """

    batched = True

    def __init__(self, target_sum: float = 1e4, total: str = "all") -> None:
        if not 0 < target_sum < float("inf"):
            raise ParameterError(f"target_sum must be greater than 0, got {target_sum}")
        if total not in ("all", "genes") and not str(total).startswith("obs/"):
            raise ParameterError(f"total must be 'all', 'genes' or a column such as 'obs/n_counts', got {total!r}")
        self.target_sum: float = target_sum
        self.total: str = total

    def needs(self, field: str) -> tuple[Need, ...]:
        if self.total == "genes":
            return ()
        return (Total(field) if self.total == "all" else self.total,)

    def of_rows(self, known: Mapping[Need, NDArray[Any]]) -> Transform:
        (totals,) = known.values()
        return _Divided(self.target_sum, totals)

    def __call__(self, x: Tensor) -> Tensor:
        totals = x.sum(dim=-1, keepdim=True, dtype=widest_type(x.device))  # (…, 1)
        return x * self._factors(totals, x.dtype)

    def on_sparse(self, rows: SparseRows) -> SparseRows | None:
        return _Divided(self.target_sum, rows.totals).on_sparse(rows)

    def on_csr(self, rows: CsrTensors) -> CsrTensors | None:
        return rows.with_values(rows.values * rows.of_values(self._factors(rows.totals, rows.dtype)))

    def _factors(self, totals: Tensor, dtype: torch.dtype) -> Tensor:
        return (self.target_sum / torch.where(totals == 0, 1.0, totals)).to(dtype)


class _Divided(Transform):
    """Rows brought to a total of ``target_sum`` from the totals that they have, ``(n,)``."""

    batched = True

    def __init__(self, target_sum: float, totals: NDArray[Any]) -> None:
        whole = totals.astype(np.float64)
        self.factors = (target_sum / np.where(whole == 0, 1.0, whole)).astype(np.float32)  # (n,)

    def __call__(self, x: Tensor) -> Tensor:
        return x * torch.from_numpy(self.factors)[:, None]

    def on_sparse(self, rows: SparseRows) -> SparseRows | None:
        return rows.with_data(rows.data * np.repeat(self.factors, rows.lengths))


class Log1p(Transform):
    """``ln(1 + x)``, like `scanpy.pp.log1p`.

    >>> import torch
    >>> Log1p()(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 0.6931])
    """

    batched = True

    def __call__(self, x: Tensor) -> Tensor:
        return torch.log1p(x)

    def on_sparse(self, rows: SparseRows) -> SparseRows | None:
        return rows.with_data(torch.log1p(torch.from_numpy(rows.data)).numpy())

    def on_csr(self, rows: CsrTensors) -> CsrTensors | None:
        return rows.with_values(torch.log1p(rows.values))


class Scale(Transform):
    """Genes scaled to mean 0 and standard deviation 1.

    ``(x - mean) / std``, like `scanpy.pp.scale`, which stores the two in ``adata.var["mean"]`` and
    ``adata.var["std"]``. A gene with ``std`` 0 is divided by 1.

    Parameters
    ----------
    mean, std
        Mean and standard deviation of each gene over the training cells; shape ``(n_vars,)``.
    max_value
        Values beyond ±max_value are clipped to it.
    zero_center
        Subtract the mean. Without it, zeros stay zeros and sparse rows stay sparse; then
        values are clipped only from above, as in scanpy.
    """

    batched = True

    def __init__(
        self, mean: ArrayLike, std: ArrayLike, *, max_value: float | None = None, zero_center: bool = True
    ) -> None:
        self.mean: Tensor = torch.as_tensor(np.array(mean, np.float32))  # (n_vars,)
        self.std: Tensor = torch.as_tensor(np.array(std, np.float32))  # (n_vars,)
        if self.mean.ndim != 1 or self.mean.shape != self.std.shape:
            raise ParameterError(
                f"mean and std must be of one length, got shapes {tuple(self.mean.shape)} and {tuple(self.std.shape)}"
            )
        self.std[self.std == 0] = 1
        self.max_value = max_value
        self.zero_center = zero_center

    def __call__(self, x: Tensor) -> Tensor:
        self._check_width(x.shape[-1])
        centred = x - self.mean.to(x.device) if self.zero_center else x
        return self._cut(centred / self.std.to(x.device))

    def on_sparse(self, rows: SparseRows) -> SparseRows | None:
        self._check_width(rows.n_vars)
        if self.zero_center:
            return None
        values = torch.from_numpy(rows.data / self.std.numpy()[rows.indices])
        return rows.with_data(self._cut(values).numpy())

    def on_csr(self, rows: CsrTensors) -> CsrTensors | None:
        self._check_width(rows.n_vars)
        if self.zero_center:
            return None
        return rows.with_values(self._cut(rows.values / self.std.to(rows.device)[rows.col_indices]))

    def _check_width(self, width: int) -> None:
        if width != len(self.std):
            raise ParameterError(f"Scale was made for {len(self.std)} genes, got rows of {width}")

    def _cut(self, values: Tensor) -> Tensor:
        if self.max_value is None:
            return values
        return values.clamp(-self.max_value if self.zero_center else None, self.max_value)


class Clip(Transform):
    """Values below ``low`` raised to it and values above ``high`` lowered to it, like `numpy.clip`.

    >>> import torch
    >>> Clip(high=2)(torch.tensor([1.0, 5.0]))
    tensor([1., 2.])

    Parameters
    ----------
    low, high
        The bounds; None for no bound.
    """

    batched = True

    def __init__(self, low: float | None = None, high: float | None = None) -> None:
        if low is None and high is None:
            raise ParameterError("Clip needs low, high or both, got neither")
        if low is not None and high is not None and low > high:
            raise ParameterError(f"low must not exceed high, got low={low} and high={high}")
        self.low = low
        self.high = high

    def __call__(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)

    def on_sparse(self, rows: SparseRows) -> SparseRows | None:
        return rows.with_data(np.clip(rows.data, self.low, self.high)) if self._keeps_zeros else None

    def on_csr(self, rows: CsrTensors) -> CsrTensors | None:
        return rows.with_values(self(rows.values)) if self._keeps_zeros else None

    @property
    def _keeps_zeros(self) -> bool:
        return (self.low is None or self.low <= 0) and (self.high is None or self.high >= 0)


class Binarize(Transform):
    """1 where a value is greater than ``threshold``, else 0, like `sklearn.preprocessing.binarize`.

    >>> import torch
    >>> Binarize()(torch.tensor([0.0, 3.0]))
    tensor([0., 1.])

    Parameters
    ----------
    threshold
        Values up to it become 0.
    """

    batched = True

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = threshold

    def __call__(self, x: Tensor) -> Tensor:
        return (x > self.threshold).to(x.dtype)

    def on_sparse(self, rows: SparseRows) -> SparseRows | None:
        if self.threshold < 0:
            return None  # zeros would change
        return rows.with_data((rows.data > self.threshold).astype(rows.data.dtype))

    def on_csr(self, rows: CsrTensors) -> CsrTensors | None:
        return None if self.threshold < 0 else rows.with_values(self(rows.values))
