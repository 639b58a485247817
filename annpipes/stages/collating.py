"""Batches into tensors, dense or sparse."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from annpipes.errors import ParameterError
from annpipes.meters import measured
from annpipes.stages.base import CollateStage, need_batches
from annpipes.stages.chaining import chained_by
from annpipes.stages.datapipes import IterDataPipe, collated_whole
from annpipes.stores import densifiable, densify
from annpipes.tensors import CsrTensors
from annpipes.types import Batch, SparseRows

__all__ = ["Collator", "collate", "tensor_of"]

Form = Literal["dense", "csr"]


class TensorBatch(dict[str, Any]):
    """A batch as a dict of tensors and lists; a type of its own, so that torch does not collate it once more."""


for _kind in (TensorBatch, Batch):
    collated_whole(_kind)


@chained_by("collate_rows")
class Collator(CollateStage[dict[str, Any]]):
    """Each batch as a dict of tensors.

    >>> pipe = IndexSource("pbmc.h5ad").sort_within_chunks(100).read_rows(["X", "obs/louvain"])
    >>> batch = next(iter(pipe.batch_rows(4).collate_rows()))
    >>> batch["X"].shape, batch["obs_louvain"]
    (torch.Size([4, 765]), ['1', '1', '3', '9'])

    Matrices become float32. Other numbers keep their type (but unsigned integers that torch cannot
    compute with become wider signed ones), and strings become lists.

    Parameters
    ----------
    source_datapipe
        Any stage that yields batches.
    form
        ``"dense"`` makes every matrix a dense tensor ``(n, width)``. ``"csr"`` makes X
        `CsrTensors`, no matter how it is stored, and leaves other sparse fields sparse.

    Raises
    ------
    ParameterError
        ``form`` is neither.
    """

    def __init__(self, source_datapipe: IterDataPipe[Batch], form: Form = "dense") -> None:
        if form not in get_args(Form):
            raise ParameterError(f"form must be 'dense' or 'csr', got {form!r}")
        need_batches(source_datapipe, "collate_rows")
        self.source_datapipe = source_datapipe
        self.form = form
        self.dense_later = False

    def dense_elsewhere(self) -> Collator:
        """The same stage, but sparse rows are left as `CsrTensors`, for another device to make them dense."""
        twin = Collator(self.source_datapipe, self.form)
        twin.dense_later = True
        return twin

    def each(self, item: Batch) -> dict[str, Any]:
        """One batch as a dict of tensors."""
        with measured("collate"):
            return collate(item, self.form, dense_later=self.dense_later)


def collate(batch: Batch, form: Form = "dense", *, dense_later: bool = False) -> dict[str, Any]:
    """The fields of a batch as tensors and lists, by key; with ``dense_later``, sparse ones are left sparse."""
    values = dict(batch.fields)
    if form == "csr" and isinstance(values.get("X"), np.ndarray):
        values["X"] = SparseRows.of(csr_matrix(np.asarray(values["X"], np.float32)))
    return TensorBatch({key: _collate_field(field, form, dense_later) for key, field in values.items()})


def _collate_field(values: Any, form: Form, dense_later: bool) -> Any:
    if isinstance(values, SparseRows):
        if form == "dense" and not dense_later:
            return torch.from_numpy(densify(values))
        return CsrTensors.of(densifiable(values) if form == "dense" else values)
    if values.ndim > 1:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32))
    return tensor_of(values)


def tensor_of(values: NDArray[Any]) -> Tensor | list[str]:
    """Numbers of one column as a tensor ``(n,)``, strings as a list."""
    if values.dtype.kind not in "biuf":
        return [str(value) for value in values.tolist()]
    if values.dtype == np.uint64 and (values > np.iinfo(np.int64).max).any():
        raise ParameterError(
            f"torch has no integers as large as {values.max()}: leave this field out, or store smaller ones"
        )
    wider = {"u2": np.int32, "u4": np.int64, "u8": np.int64}.get(values.dtype.str[1:], values.dtype.newbyteorder("="))
    return torch.from_numpy(np.ascontiguousarray(values, wider))
