"""The order of an epoch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import functional_datapipe

from annpipes._permutations import Key
from annpipes._plans import BlockShuffled, InOrder
from annpipes._rows import RowArray, as_natural
from annpipes._stages import PlanStage
from annpipes.errors import PipelineError

__all__ = ["BlockShuffler"]


@functional_datapipe("shuffle_blocks")
class BlockShuffler(PlanStage):
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
        self._shuffled = True
        self.pass_seed: int | None = None
        self._pushed_seed: int | None = None
        self._repeated_seed: int | None = None

    def set_seed(self, seed: int) -> BlockShuffler:
        """Fix the order of the next pass (torch's `DataLoader` calls this before each)."""
        self._pushed_seed = as_natural(seed, "seed")
        return self

    def set_shuffle(self, shuffle: bool = True) -> BlockShuffler:
        """Turn the shuffle off or on (torch's `DataLoader` does if it is given ``shuffle=``)."""
        self._shuffled = shuffle
        return self

    def pass_key(self) -> Key:
        """The seed of a pass to be continued, or that pushed for this one, or a new one."""
        if not self._shuffled:
            return ()
        seed = self._pushed_seed if self._repeated_seed is None else self._repeated_seed
        if seed is None:
            seed = int(torch.empty((), dtype=torch.int64).random_().item())
        self.pass_seed = seed
        self._pushed_seed = self._repeated_seed = None
        return (seed,)

    def repeat_seed(self, seed: int | None) -> None:
        """Give the next pass the order of one that was broken off, whatever seed is pushed for it."""
        self._repeated_seed = self.pass_seed = seed

    def __iter__(self) -> Iterator[RowArray]:
        yield from self.plan.epoch(self.pass_key()).blocks()

    def __len__(self) -> int:
        """How many blocks."""
        return len(self.source_datapipe)
