"""The verbs of a chain with their parameters, for type checkers; `chained_by` makes the methods themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from annpipes.stages.chunking import ChunkSorter
    from annpipes.stages.collating import Collator, Form
    from annpipes.stages.grouping import GroupSampler, Short
    from annpipes.stages.pairing import ControlPairer
    from annpipes.stages.reading import RowBatcher, RowReader
    from annpipes.stages.sampling import RowSampler, Unit
    from annpipes.stages.shuffling import BlockShuffler
    from annpipes.stages.transforming import RowTransformer
    from annpipes.stores import GeneVersions, MissingGenes, Unknown
    from annpipes.transforms.base import Transforms

__all__ = ["BatchVerbs", "ChunkVerbs", "PlanVerbs"]


class PlanVerbs:
    """What may follow a stage that orders rows."""

    if TYPE_CHECKING:

        def shuffle_blocks(self) -> BlockShuffler: ...
        def sample_rows(
            self,
            *,
            weights: Any = None,
            balance: str | Sequence[str] | None = None,
            temperature: float | None = None,
            frequencies: Mapping[Any, float] | None = None,
            num_rows: int | None = None,
            unit: Unit = "rows",
        ) -> RowSampler: ...
        def sample_groups(
            self,
            groupby: str | Sequence[str],
            set_size: int,
            *,
            replace: bool = False,
            num_sets: int | None = None,
            short: Short = "drop",
            control: Any = None,
            match: str | Sequence[str] = (),
            missing: Literal["error", "drop"] = "error",
        ) -> GroupSampler: ...
        def sort_within_chunks(self, chunk_size: int = 16_384) -> ChunkSorter: ...


class ChunkVerbs:
    """What may follow chunks."""

    if TYPE_CHECKING:

        def read_rows(
            self,
            fields: Sequence[str] = ("X",),
            *,
            genes: Any = None,
            genes_from: str | None = None,
            missing_genes: MissingGenes = "error",
            gene_versions: GeneVersions = "keep",
            categories: Mapping[str, Sequence[Any]] | None = None,
            unknown: Unknown = "error",
        ) -> RowReader: ...


class BatchVerbs:
    """What may follow batches."""

    if TYPE_CHECKING:

        def batch_rows(self, batch_size: int = 256, *, drop_last: bool = False) -> RowBatcher: ...
        def pair_controls(self) -> ControlPairer: ...
        def transform(self, transform: Transforms, field: str = "X") -> RowTransformer: ...
        def collate_rows(self, form: Form = "dense") -> Collator: ...
