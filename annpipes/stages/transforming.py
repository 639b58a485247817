"""A transform on a field of every batch."""

from __future__ import annotations

from collections.abc import Sequence

from annpipes.errors import ParameterError
from annpipes.meters import measured
from annpipes.stages.base import EachStage, ReadStage, need_batches
from annpipes.stages.chaining import chained_by
from annpipes.stages.datapipes import IterDataPipe
from annpipes.stages.graph import graft, last_of
from annpipes.stages.verbs import BatchVerbs
from annpipes.stores import field_key, is_matrix_field
from annpipes.transforms.applying import Applied, needed_by
from annpipes.transforms.base import Transform, Transforms, chained_transform
from annpipes.types import Batch, Need

__all__ = ["RowTransformer"]


@chained_by("transform")
class RowTransformer(BatchVerbs, EachStage[Batch, Batch]):
    """Batches with X, or another matrix, transformed.

    >>> pipe = IndexSource("pbmc.h5ad").sort_within_chunks(100).read_rows(["raw/X", "X"]).batch_rows(50)
    >>> float(next(iter(pipe.transform(Clip(low=0))))["X"].min())
    0.0

    Parameters
    ----------
    source_datapipe
        The `RowBatcher`, or a stage of your own that yields batches.
    transform
        A `Transform`, a function of one row as a tensor ``(n_vars,)``, or a list of these, applied one after the
        other. For a function that can be given many rows at once, use ``Lambda(function, batched=True)``.
    field
        The matrix that is transformed: ``X``, ``layers/counts``, ``raw/X``, ``obsm/X_pca`` …

    Raises
    ------
    ParameterTypeError
        ``transform`` is none of these.
    ParameterError
        ``field`` is not read, or is not a matrix; or a transform needs something that it cannot have at this place.
    """

    def __init__(self, source_datapipe: IterDataPipe[Batch], transform: Transforms, field: str = "X") -> None:
        # Named otherwise than the parameter: every DataPipe already has a method `transform`, this stage.
        self.given: Transform = chained_transform(transform)
        self.field: str = field
        need_batches(source_datapipe, "transform")
        self.source_datapipe: IterDataPipe[Batch] = source_datapipe
        if not is_matrix_field(field):
            raise ParameterError(
                f"field must be a matrix, such as 'X' or 'layers/counts', got {field!r}; for all fields, use .map"
            )
        self.applied: Applied = Applied(self.given, field, field_key(field), self._ask())

    def _ask(self) -> Sequence[Need]:
        """Have the reader provide what the transform needs; the names of that."""
        reader = last_of(self.source_datapipe, ReadStage)
        if reader is None:  # a stage of somebody else makes the batches
            return ()
        if self.field not in reader.request.fields:
            fields = ", ".join(reader.request.fields)
            raise ParameterError(f"transform is applied to {self.field}, which is not among fields ({fields})")
        needed = needed_by(self.given, self.field, some_genes=reader.request.has_some_genes(self.field))
        knowing = reader.knowing(needed)
        if knowing.request.extras != reader.request.extras:
            self.source_datapipe = graft(self.source_datapipe, reader, knowing)
        return [need for need in needed if need in knowing.request.extras]

    def each(self, item: Batch) -> Batch:
        """One batch with the field transformed."""
        with measured("transform"):
            return self.applied(item)

    @property
    def code(self) -> str:
        """What this stage adds to the repr of the one before."""
        field = "" if self.field == "X" else f", field={self.field!r}"
        return f".transform({self.given!r}{field})"
