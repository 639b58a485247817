"""Functions of a cell's X, and their composition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from toolz import pipe
from torch import Tensor

from annpipes.errors import ParameterError, ParameterTypeError
from annpipes.reprs import call_repr
from annpipes.types import SparseRows

__all__ = [
    "Binarize",
    "Clip",
    "Compose",
    "Log1p",
    "NormalizeTotal",
    "Scale",
    "Transform",
    "as_transform",
]


class Transform(ABC):
    """A function of one cell's X; derive from it and write ``__call__``.

    >>> import torch
    >>> class Share(Transform):
    ...     def __call__(self, x):
    ...         return x / torch.sum(x, dim=-1, keepdim=True)
    >>> Share()(torch.tensor([1.0, 3.0]))
    tensor([0.2500, 0.7500])

    ``__call__`` is given a float32 tensor of shape ``(n_vars,)``: one cell at a time, so the
    numbers cannot depend on how cells were fetched. A class that sets ``batched = True``
    promises to treat the rows of ``(n, n_vars)`` alike and is given whole batches, which is
    much faster. A class that also defines `on_sparse` keeps sparse rows sparse.

    The tensor may share memory with other batches: return a new one, never edit it.
    """

    batched: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """The transformed values."""

    def on_sparse(self, rows: SparseRows) -> SparseRows | None:
        """The same for sparse rows, or None to be given dense ones.

        ``rows.data`` is float32 and no place is stored twice.
        """
        return None

    def steps(self) -> Iterator[Transform]:
        """The transforms this one consists of, in order: itself."""
        yield self

    def on_rows(self, x: Tensor) -> Tensor:
        """The dense rows ``(n, n_vars)`` transformed, each as if it were alone."""
        if self.batched:
            return self(x)
        if not len(x):  # there is no row to show to the transform: one of zeros tells the shape
            return self(torch.zeros(x.shape[1:]))[None][:0]
        return torch.stack([self(row) for row in x])

    def __repr__(self) -> str:
        return call_repr(self)


class Compose(Transform):
    """Transforms one after the other.

    >>> Compose([NormalizeTotal(1e4), Log1p()])
    Compose([NormalizeTotal(), Log1p()])

    Parameters
    ----------
    transforms
        At least one `Transform`.

    Raises
    ------
    ParameterError
        The list is empty.
    ParameterTypeError
        One of them is not a `Transform`.
    """

    batched = True

    def __init__(self, transforms: Iterable[Transform]) -> None:
        if not isinstance(transforms, Iterable):
            raise ParameterTypeError(f"transforms must be a list of Transforms, got {transforms!r}")
        self.transforms = tuple(as_transform(transform, "transforms") for transform in transforms)
        if not self.transforms:
            raise ParameterError(
                "transforms must hold at least one Transform, got none; leave the transform out instead"
            )

    def __call__(self, x: Tensor) -> Tensor:
        steps = (transform if x.ndim == 1 else transform.on_rows for transform in self.transforms)
        result: Tensor = pipe(x, *steps)
        return result

    def steps(self) -> Iterator[Transform]:
        """The transforms one by one, those of inner compositions as well."""
        for transform in self.transforms:
            yield from transform.steps()

    def __repr__(self) -> str:
        return f"Compose({list(self.transforms)!r})"


class NormalizeTotal(Transform):
    """Each cell scaled to a total of ``target_sum``; a cell of zeros stays as it is.

    ``x · target_sum / Σ x``, as `scanpy.pp.normalize_total` with the same ``target_sum``.

    >>> import torch
    >>> NormalizeTotal(10)(torch.tensor([1.0, 0.0, 3.0]))
    tensor([2.5000, 0.0000, 7.5000])

    Parameters
    ----------
    target_sum
        The total after scaling.
    """

    batched = True

    def __init__(self, target_sum: float = 1e4) -> None:
        if not 0 < target_sum < float("inf"):
            raise ParameterError(f"target_sum must be greater than 0, got {target_sum}")
        self.target_sum = target_sum

    def __call__(self, x: Tensor) -> Tensor:
        totals = x.sum(dim=-1, keepdim=True, dtype=torch.float64)  # (…, 1)
        return x * (self.target_sum / torch.where(totals == 0, 1.0, totals)).to(x.dtype)

    def on_sparse(self, rows: SparseRows) -> SparseRows | None:
        lengths = rows.lengths  # (n,)
        filled = lengths > 0
        totals = np.add.reduceat(rows.data, rows.indptr[:-1][filled], dtype=np.float64)  # (filled,)
        factors = (self.target_sum / np.where(totals == 0, 1.0, totals)).astype(rows.data.dtype)
        return rows.with_data(rows.data * np.repeat(factors, lengths[filled]))


class Log1p(Transform):
    """``ln(1 + x)``, as `scanpy.pp.log1p`.

    >>> import torch
    >>> Log1p()(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 0.6931])
    """

    batched = True

    def __call__(self, x: Tensor) -> Tensor:
        return torch.log1p(x)

    def on_sparse(self, rows: SparseRows) -> SparseRows | None:
        return rows.with_data(torch.log1p(torch.from_numpy(rows.data)).numpy())


class Scale(Transform):
    """Genes brought to mean 0 and standard deviation 1.

    ``(x - mean) / std``, as `scanpy.pp.scale`, which leaves both in ``adata.var["mean"]`` and
    ``adata.var["std"]``. A gene with ``std`` 0 is divided by 1.

    Parameters
    ----------
    mean, std
        Of each gene over the training cells; shape ``(n_vars,)``.
    max_value
        Values beyond ±max_value are cut to it.
    zero_center
        Subtract the mean. Without it, zeros stay zeros and sparse rows stay sparse; then
        values are cut from above only, as scanpy does.
    """

    batched = True

    def __init__(
        self, mean: ArrayLike, std: ArrayLike, *, max_value: float | None = None, zero_center: bool = True
    ) -> None:
        self.mean = torch.as_tensor(np.array(mean, np.float32))  # (n_vars,)
        self.std = torch.as_tensor(np.array(std, np.float32))  # (n_vars,)
        if self.mean.ndim != 1 or self.mean.shape != self.std.shape:
            raise ParameterError(
                f"mean and std must be of one length, got shapes {tuple(self.mean.shape)} and {tuple(self.std.shape)}"
            )
        self.std[self.std == 0] = 1
        self.max_value = max_value
        self.zero_center = zero_center

    def __call__(self, x: Tensor) -> Tensor:
        self._check_width(x.shape[-1])
        centred = x - self.mean if self.zero_center else x
        return self._cut(centred / self.std)

    def on_sparse(self, rows: SparseRows) -> SparseRows | None:
        self._check_width(rows.n_vars)
        if self.zero_center:
            return None
        values = torch.from_numpy(rows.data / self.std.numpy()[rows.indices])
        return rows.with_data(self._cut(values).numpy())

    def _check_width(self, width: int) -> None:
        if width != len(self.std):
            raise ParameterError(f"Scale was made for {len(self.std)} genes, got rows of {width}")

    def _cut(self, values: Tensor) -> Tensor:
        if self.max_value is None:
            return values
        return values.clamp(-self.max_value if self.zero_center else None, self.max_value)


class Clip(Transform):
    """Values below ``low`` raised to it and values above ``high`` lowered to it, as `numpy.clip`.

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
        if (self.low is not None and self.low > 0) or (self.high is not None and self.high < 0):
            return None  # zeros would change
        return rows.with_data(np.clip(rows.data, self.low, self.high))


class Binarize(Transform):
    """1 where a value is greater than ``threshold``, else 0, as `sklearn.preprocessing.binarize`.

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


def as_transform(transform: Any, argument: str = "transform") -> Transform:
    """``transform`` itself, if it is a `Transform`; a `ParameterTypeError` naming ``argument`` if not."""
    if isinstance(transform, type) and issubclass(transform, Transform):
        raise ParameterTypeError(f"{argument} takes instances: {transform.__name__}(…), not the class itself")
    if not isinstance(transform, Transform):
        raise ParameterTypeError(
            f"{argument} takes instances of annpipes.Transform, got {transform!r}; a function becomes one in a "
            f"class derived from Transform whose __call__ calls it"
        )
    return transform
