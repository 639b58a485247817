"""Batches of sets parted into rows and their controls."""

from __future__ import annotations

import numpy as np

from annpipes.errors import PipelineError
from annpipes.plans.sets import Sets
from annpipes.stages.base import BatchStage, ChunkStage, EachStage
from annpipes.stages.chaining import chained_by
from annpipes.stages.datapipes import IterDataPipe
from annpipes.stages.graph import last_of
from annpipes.stages.verbs import BatchVerbs
from annpipes.types import Batch

__all__ = ["ControlPairer"]


@chained_by("pair_controls")
class ControlPairer(BatchVerbs, EachStage[Batch, Batch]):
    """Batches in which row i of ``control_X`` belongs to the set of row i of ``X``, and likewise for every field.

    Parameters
    ----------
    source_datapipe
        The `RowBatcher` of a pipe with a `GroupSampler` that has controls.

    Raises
    ------
    PipelineError
        The pipe has no such sampler, or no batches.
    """

    def __init__(self, source_datapipe: IterDataPipe[Batch]) -> None:
        self.source_datapipe = source_datapipe
        chunker, batcher = last_of(source_datapipe, ChunkStage), last_of(source_datapipe, BatchStage)
        plan = None if chunker is None else chunker.chunks.source
        if not isinstance(plan, Sets) or plan.controls is None or batcher is None:
            raise PipelineError(
                f"pair_controls needs a pipe with sample_groups(…, control=…) and batch_rows, got {source_datapipe!r}"
            )
        self._set_size = plan.set_size

    def each(self, item: Batch) -> Batch:
        """One batch with controls in fields of their own."""
        control = np.arange(len(item)) // self._set_size % 2 == 1
        targets, controls = item.take(np.flatnonzero(~control)), item.take(np.flatnonzero(control))
        return targets.replace(**{f"control_{key}": values for key, values in controls.fields.items()})
