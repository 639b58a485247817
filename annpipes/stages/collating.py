"""Batches into tensors, dense or sparse."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from annpipes.errors import ParameterError
from annpipes.messages.warning import warn
from annpipes.meters import measured
from annpipes.stages.base import CollateStage, need_batches
from annpipes.stages.chaining import chained_by
from annpipes.stages.datapipes import IterDataPipe, collated_whole
from annpipes.stores import densify
from annpipes.tensors import CsrTensors
from annpipes.types import Batch, SparseRows

__all__ = ["Collator", "as_device", "can_pin", "collate", "place", "tensor_of"]

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

    def each(self, item: Batch) -> dict[str, Any]:
        """One batch as a dict of tensors."""
        with measured("collate"):
            return collate(item, self.form)


def collate(batch: Batch, form: Form = "dense") -> dict[str, Any]:
    """The fields of a batch as tensors and lists, by key."""
    values = dict(batch.fields)
    if form == "csr" and isinstance(values.get("X"), np.ndarray):
        values["X"] = SparseRows.of(csr_matrix(np.asarray(values["X"], np.float32)))
    return TensorBatch({key: _collate_field(field, form) for key, field in values.items()})


def _collate_field(values: Any, form: Form) -> Any:
    if isinstance(values, SparseRows):
        return CsrTensors.of(values) if form == "csr" else torch.from_numpy(densify(values))
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


def place(item: Any, *, pin_memory: bool, device: Any) -> Any:
    """Tensors of a collated batch pinned and moved to a device; anything else as it is."""
    if device is None and not pin_memory:
        return item
    if isinstance(item, dict):
        return type(item)((key, place(value, pin_memory=pin_memory, device=device)) for key, value in item.items())
    if not isinstance(item, Tensor | CsrTensors):
        return item
    pinned = item.pin_memory() if pin_memory else item
    return pinned if device is None else pinned.to(device, non_blocking=True)


def can_pin(pin_memory: bool) -> bool:
    """Whether to pin: if there is a GPU to pin for; a warning if there is none, as torch's `DataLoader` has it."""
    if pin_memory and not torch.accelerator.is_available():
        warn("pin_memory=True has no effect: torch finds no GPU")
        return False
    return pin_memory


def as_device(device: Any) -> torch.device | None:
    """The device of this name, if one is given.

    Raises
    ------
    ParameterError
        torch has none of this name.
    """
    try:
        return None if device is None else torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ParameterError(f"device must be one of torch's, such as 'cuda:0', got {device!r}") from error
