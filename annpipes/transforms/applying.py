"""A transform applied to a field of a batch: what it needs, and whether its values are finite afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from annpipes.errors import ParameterError, PipelineError
from annpipes.messages.warning import warn
from annpipes.transforms.base import Transform
from annpipes.types import Batch, Need, SparseRows, Total

__all__ = ["Applied", "needed_by", "transform_x"]

Values = SparseRows | NDArray[Any]


def needed_by(transform: Transform, field: str, *, some_genes: bool) -> tuple[Need, ...]:
    """What the steps of a transform of this field must know of each row beside it.

    Raises
    ------
    ParameterError
        Totals of all genes are needed, of which some are read, but a step before has changed the values.
    """
    needed: list[Need] = []
    for number, step in enumerate(transform.steps()):
        for need in step.needs(field):
            if some_genes and number > 0 and isinstance(need, Total):
                raise ParameterError(
                    f"{step!r} would divide by the total of all genes as they are stored, but a step before it changes "
                    f"them: put it first, or say total='genes'"
                )
            needed.append(need)
    return tuple(dict.fromkeys(needed))


class Applied:
    """A transform on its way over the batches of one field; tells once if it makes NaN of numbers.

    Parameters
    ----------
    transform
        What is applied.
    field
        Whose values.
    key
        Under which a batch has them.
    required
        What each batch must know of its rows.
    """

    def __init__(self, transform: Transform, field: str = "X", key: str = "X", required: Sequence[Need] = ()) -> None:
        self.transform: Transform = transform
        self.field: str = field
        self.key: str = key
        self.required: tuple[Need, ...] = tuple(required)
        self._told = False

    def __call__(self, batch: Batch) -> Batch:
        """The batch with this field transformed; sparse for as long as every step can be."""
        x, known = batch[self.key], batch.extras
        if lacking := [need for need in self.required if need not in known]:
            needed = ", ".join(map(str, lacking))
            raise PipelineError(
                f"{self.transform!r} needs {needed} of each row, which a stage before it has left out: make changed "
                f"batches with batch.replace(…)"
            )
        y = transform_x(self.transform, x, self.field, known)
        if not self._told and not _all_finite(y):
            self._tell(x, known)
        return batch.replace(**{self.key: y})

    def _tell(self, x: Values, known: Mapping[Need, Any]) -> None:
        """Warn of the step that made NaN or infinity of finite values, if one did."""
        for step in self.transform.steps():
            y = transform_x(step, x, self.field, known)
            if _all_finite(x) and not _all_finite(y):
                self._told = True
                least = float(min(_values(x).min(initial=0), 0))
                why = f": it has negative values, down to {least:g}: scaled, not counts" if least < 0 else ""
                warn(f"{step!r} turns finite values of {self.field} into NaN or infinity{why}")
                return
            x = y


def transform_x(
    transform: Transform, x: Values, field: str = "X", known: Mapping[Need, Any] = MappingProxyType({})
) -> Values:
    """The values of a batch, ``(n, n_vars)``, transformed; sparse for as long as every step can be."""
    for step in transform.steps():
        needed = {need: known[need] for need in step.needs(field) if need in known}
        x = _stepped(step.of_rows(needed) if needed else step, x)
    return x


def _stepped(step: Transform, x: Values) -> Values:
    if isinstance(x, SparseRows):
        distinct = x.without_duplicates()
        sparse = step.on_sparse(distinct.with_data(distinct.data.astype(np.float32, copy=False)))
        if sparse is not None:
            return sparse
        x = x.to_dense()
    rows: NDArray[Any] = step.on_rows(torch.from_numpy(np.asarray(x, np.float32))).numpy()
    return rows


def _values(x: Values) -> NDArray[Any]:
    return x.data if isinstance(x, SparseRows) else x


def _all_finite(x: Values) -> bool:
    with np.errstate(all="ignore"):
        # A sum is finite if all are; one that is not may have overflowed.
        return bool(np.isfinite(_values(x).sum()) or np.isfinite(_values(x)).all())
