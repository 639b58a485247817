"""A function of a cell's X, and several one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from numpy.typing import NDArray
from toolz import pipe
from torch import Tensor

from annpipes.errors import ParameterError, ParameterTypeError
from annpipes.messages.reprs import call_repr
from annpipes.tensors import CsrTensors
from annpipes.types import Need, SparseRows, Total

__all__ = ["Compose", "Lambda", "Transform", "Transforms", "as_transform", "chained_transform"]


class Transform(ABC):
    """A function of one cell's X; derive from it and define ``__call__``.

    >>> import torch
    >>> class Share(Transform):
    ...     def __call__(self, x):
    ...         return x / torch.sum(x, dim=-1, keepdim=True)
    >>> Share()(torch.tensor([1.0, 3.0]))
    tensor([0.2500, 0.7500])

    ``__call__`` is given a float32 tensor of shape ``(n_vars,)``: one cell at a time, so the
    result cannot depend on how cells were fetched. A class that sets ``batched = True``
    promises to treat each row of ``(n, n_vars)`` as if it were alone, and is given whole batches,
    which is much faster. A class that also defines `on_sparse` keeps sparse rows sparse; `on_csr`
    does the same for sparse rows that are tensors.

    The tensor may share memory with other batches: return a new one, never change it.
    """

    batched: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """The transformed values."""

    def on_sparse(self, rows: SparseRows) -> SparseRows | None:
        """The transformed sparse rows, or None to be given dense ones.

        ``rows.data`` is float32 and has no duplicate entries.
        """
        return None

    def on_csr(self, rows: CsrTensors) -> CsrTensors | None:
        """The transformed sparse rows, as tensors on the same device, or None to be given dense ones.

        There are no duplicate entries, neither in ``rows`` nor in the result.
        """
        return None

    def on_batch(self, x: Tensor | CsrTensors) -> Tensor | CsrTensors:
        """The X of a batch, dense ``(n, n_vars)`` or CSR, transformed on the device it is on.

        >>> rows = CsrTensors(torch.tensor([0, 1, 2]), torch.tensor([1, 0]), torch.tensor([3.0, 5.0]), 2)
        >>> Compose([NormalizeTotal(10), Binarize()]).on_batch(rows)
        CsrTensors(2 rows × 2, 2 values, float32)

        X stays CSR as long as every step can work on CSR. A step knows only the values it is given, so totals
        are those of x.

        Raises
        ------
        ParameterError
            A step needs an obs column, which x does not have.
        """
        for step in self.steps():
            if columns := [need for need in step.needs("X") if not isinstance(need, Total)]:
                raise ParameterError(f"{step!r} needs {columns[0]}, which X of a batch lacks: give it as transform=")
        x = x.without_duplicates() if isinstance(x, CsrTensors) else x
        for step in self.steps():
            if isinstance(x, CsrTensors) and (sparse := step.on_csr(x)) is not None:
                x = sparse
            else:
                x = step.on_rows(x.to_dense() if isinstance(x, CsrTensors) else x)
        return x

    def needs(self, field: str) -> tuple[Need, ...]:
        """What it must know of each row beside the field that it is applied to, such as ``obs/n_counts``."""
        return ()

    def of_rows(self, known: Mapping[Need, NDArray[Any]]) -> Transform:
        """The transform of rows of which this is known: by what it `needs` an array ``(n,)``."""
        return self

    def steps(self) -> Iterator[Transform]:
        """The transforms this one consists of, in order; by default itself."""
        yield self

    def on_rows(self, x: Tensor) -> Tensor:
        """The dense rows ``(n, n_vars)`` transformed, each as if it were alone."""
        if self.batched:
            return self(x)
        if not len(x):  # there is no row to show to the transform: one of zeros tells the shape
            return self(x.new_zeros(x.shape[1:]))[None][:0]
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
        self.transforms: tuple[Transform, ...] = tuple(
            as_transform(transform, "transforms") for transform in transforms
        )
        if not self.transforms:
            raise ParameterError(
                "transforms must hold at least one Transform, got none; leave the transform out instead"
            )

    def __call__(self, x: Tensor) -> Tensor:
        steps = (transform if x.ndim == 1 else transform.on_rows for transform in self.transforms)
        result: Tensor = pipe(x, *steps)
        return result

    def steps(self) -> Iterator[Transform]:
        """The transforms one by one, including those of inner compositions."""
        for transform in self.transforms:
            yield from transform.steps()

    def __repr__(self) -> str:
        return f"Compose({list(self.transforms)!r})"


class Lambda(Transform):
    """A function as a transform, named after torchvision's.

    >>> Lambda(torch.sqrt, batched=True)(torch.tensor([4.0, 9.0]))
    tensor([2., 3.])

    Parameters
    ----------
    function
        Takes and returns a float32 tensor.
    batched
        Whether it can be given many rows at once, ``(n, n_vars)``, and treats each as if it were alone. If not,
        it is called for every row, ``(n_vars,)``.
    """

    batched: bool  # type: ignore[misc] # of each instance

    def __init__(self, function: Callable[[Tensor], Tensor], batched: bool = False) -> None:
        if not callable(function) or isinstance(function, Transform):
            raise ParameterTypeError(f"function must be a function, got {function!r}")
        self.function: Callable[[Tensor], Tensor] = function
        self.batched = batched

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x)

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", None) or repr(self.function)
        return f"Lambda({name.rpartition('.')[2]}{', batched=True' if self.batched else ''})"


Transforms: TypeAlias = Transform | Callable[[Tensor], Tensor] | Sequence[Transform | Callable[[Tensor], Tensor]]
"""What a pipe takes for a transform."""


def chained_transform(transform: Any) -> Transform:
    """What a pipe takes for a transform: an instance, a function of one row, or a list of these."""
    if isinstance(transform, list | tuple):
        return Compose(map(chained_transform, transform))
    plain = not isinstance(transform, Transform) and not isinstance(transform, type)
    return Lambda(transform) if plain and callable(transform) else as_transform(transform)


def as_transform(transform: Any, argument: str = "transform") -> Transform:
    """``transform`` itself, if it is a `Transform`; a `ParameterTypeError` naming ``argument`` if not."""
    if isinstance(transform, type) and issubclass(transform, Transform):
        raise ParameterTypeError(f"{argument} takes instances: {transform.__name__}(…), not the class itself")
    if not isinstance(transform, Transform):
        raise ParameterTypeError(
            f"{argument} takes instances of annpipes.Transform, got {transform!r}; annpipes.Lambda(function) is one"
        )
    return transform
