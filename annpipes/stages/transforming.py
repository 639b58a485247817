"""A transform on X of every batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from annpipes.meters import measured
from annpipes.stages.base import EachStage
from annpipes.stages.chaining import chained_by
from annpipes.stages.datapipes import IterDataPipe
from annpipes.stages.verbs import BatchVerbs
from annpipes.transforms import Transform, as_transform
from annpipes.types import Batch, SparseRows

__all__ = ["RowTransformer", "transform_x"]


@chained_by("transform")
class RowTransformer(BatchVerbs, EachStage[Batch, Batch]):
    """Batches with X transformed.

    >>> pipe = IndexSource("pbmc.h5ad").sort_within_chunks(100).read_rows(["raw/X", "X"]).batch_rows(50)
    >>> next(iter(pipe.transform(Clip(low=0))))["X"].min()
    np.float32(0.0)

    Parameters
    ----------
    source_datapipe
        The `RowBatcher`, or a stage of your own that yields batches.
    transform
        A `Transform`, or several as a `Compose`.

    Raises
    ------
    ParameterTypeError
        ``transform`` is not a `Transform`; for any function of a whole batch there is ``.map(f)``.
    """

    def __init__(self, source_datapipe: IterDataPipe[Batch], transform: Transform) -> None:
        self.source_datapipe = source_datapipe
        # Named otherwise than the parameter: every DataPipe already has a method `transform`, this stage.
        self.applied = as_transform(transform)

    def each(self, item: Batch) -> Batch:
        """One batch with X transformed."""
        with measured("transform"):
            return item.replace(X=transform_x(self.applied, item["X"]))

    def __repr__(self) -> str:
        return f"{self.source_datapipe!r}.transform({self.applied!r})"


def transform_x(transform: Transform, x: SparseRows | NDArray[Any]) -> SparseRows | NDArray[Any]:
    """X of a batch ``(n, n_vars)`` transformed; sparse for as long as every step can be."""
    for step in transform.steps():
        if isinstance(x, SparseRows):
            distinct = x.without_duplicates()
            sparse = step.on_sparse(distinct.with_data(distinct.data.astype(np.float32, copy=False)))
            if sparse is not None:
                x = sparse
                continue
            x = x.to_dense()
        x = step.on_rows(torch.from_numpy(np.asarray(x, np.float32))).numpy()
    return x
