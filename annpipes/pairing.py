"""Batches of sets parted into rows and their controls."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import IterDataPipe, functional_datapipe

from annpipes._stages import Stage, owner
from annpipes.errors import PipelineError
from annpipes.types import Batch

__all__ = ["ControlPairer"]


@functional_datapipe("pair_controls")
class ControlPairer(Stage[Batch]):
    """Batches in which row i of ``control_X`` belongs to the set of row i of ``X``; so with every field.

    Parameters
    ----------
    source_datapipe
        The `RowBatcher` of a pipe with a `GroupSampler` that has controls.

    Raises
    ------
    PipelineError
        The pipe has no such sampler, or no batches.
    """

    verb = "pair_controls"

    def __init__(self, source_datapipe: IterDataPipe[Batch]) -> None:
        self.source_datapipe = source_datapipe
        sampler, batcher = owner(source_datapipe, "set_size"), owner(source_datapipe, "batch_size")
        if sampler is None or sampler.plan.controls is None or batcher is None:
            raise PipelineError(
                f"pair_controls needs a pipe with sample_groups(…, control=…) and batch_rows, got {source_datapipe!r}"
            )
        self._set_size = sampler.set_size

    def each(self, batch: Batch) -> Batch:
        """One batch with controls in fields of their own."""
        control = np.arange(len(batch)) // self._set_size % 2 == 1
        targets, controls = batch.take(np.flatnonzero(~control)), batch.take(np.flatnonzero(control))
        return targets.replace(**{f"control_{key}": values for key, values in controls.fields.items()})

    def __iter__(self) -> Iterator[Batch]:
        yield from map(self.each, self.source_datapipe)
