"""The order of an epoch."""

from __future__ import annotations

from torch.utils.data import functional_datapipe

from annpipes._plans import BlockShuffled, InOrder
from annpipes._stages import PlanStage, RandomStage
from annpipes.errors import PipelineError

__all__ = ["BlockShuffler"]


@functional_datapipe("shuffle_blocks")
class BlockShuffler(RandomStage):
    """Blocks in random order; the rows of each chunk cut from them are permuted as well.

    >>> pipe = IndexSource("pbmc.h5ad", rows=range(6), block_size=2).shuffle_blocks()
    >>> [block.tolist() for block in pipe.set_seed(0)]
    [[2, 3], [4, 5], [0, 1]]

    The stage has no seed of its own. Each pass takes the number that a `Loader` or torch's
    `DataLoader` pushed with `set_seed`; without one it draws from torch's global generator,
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

    verb = "shuffle_blocks"

    def __init__(self, source_datapipe: PlanStage) -> None:
        plan = getattr(source_datapipe, "plan", None)
        if not isinstance(plan, InOrder):
            raise PipelineError(f"shuffle_blocks follows an IndexSource, got {source_datapipe!r}")
        self.source_datapipe = source_datapipe
        self.plan = BlockShuffled(plan)
        super().__init__()

    def __len__(self) -> int:
        """How many blocks."""
        return len(self.source_datapipe)
