"""The order of an epoch."""

from __future__ import annotations

from annpipes.plans.order import BlockShuffled, InOrder
from annpipes.stages.base import PlanStage, RandomStage, plan_before
from annpipes.stages.chaining import chained_by

__all__ = ["BlockShuffler"]


@chained_by("shuffle_blocks")
class BlockShuffler(RandomStage):
    """Blocks in random order; later, the rows within each chunk are permuted, too.

    >>> pipe = IndexSource("pbmc.h5ad", rows=range(6), block_size=2).shuffle_blocks()
    >>> [block.tolist() for block in pipe.set_seed(0)]
    [[4, 5], [0, 1], [2, 3]]

    The stage has no seed of its own. Each pass uses the number that a `Loader` or torch's
    `DataLoader` set with `set_seed`; without one it draws from torch's global generator,
    as torch's own samplers do.

    Parameters
    ----------
    source_datapipe
        The `IndexSource`.

    Raises
    ------
    PipelineError
        The stage before it is not an `IndexSource`.
    """

    def __init__(self, source_datapipe: PlanStage) -> None:
        self.plan: BlockShuffled = BlockShuffled(plan_before(source_datapipe, "shuffle_blocks", InOrder))
        self.source_datapipe: PlanStage = source_datapipe
        super().__init__()

    def __len__(self) -> int:
        """How many blocks."""
        return len(self.source_datapipe)
