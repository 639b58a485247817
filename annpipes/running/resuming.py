"""A pipe as a dataset whose position torchdata can save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from annpipes.errors import PipelineError
from annpipes.plans.permutation import random_words
from annpipes.stages.base import Stage
from annpipes.stages.datapipes import IterDataPipe, apply_random_seed, apply_sharding

__all__ = ["ResumableDataset"]


class ResumableDataset(IterableDataset[Any]):
    """A pipe for ``StatefulDataLoader(dataset, batch_size=None)`` of torchdata.

    >>> pipe = IndexSource("pbmc.h5ad").shuffle_blocks().sort_within_chunks(64).read_rows().batch_rows(32)
    >>> dataset = ResumableDataset(pipe)
    >>> for batch in dataset:
    ...     break
    >>> dataset.state_dict()["row"]
    32

    torch wraps a pipe that is given to a loader in an object without a state, so resuming
    would read everything before the saved position, in another order. This dataset
    exposes the pipe's own state: no batch is read twice. Chunks are divided among workers, so the order
    depends on the number of workers, which must be the same when you resume. (A `Loader` has neither
    limit.)

    Parameters
    ----------
    pipe
        Stages that end with one of annpipes' own.

    Raises
    ------
    PipelineError
        The pipe does not end with such a stage, so it has no state.
    """

    def __init__(self, pipe: IterDataPipe[Any]) -> None:
        if not isinstance(pipe, Stage):
            raise PipelineError(f"ResumableDataset needs a pipe that ends with a stage of annpipes, got {pipe!r}")
        self.pipe = pipe
        self._passes = 0

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        if worker is not None:
            # One number for all workers, and another in every pass: persistent workers keep their seed.
            shared = int(random_words((worker.seed - worker.id, self._passes), 1)[0]) >> 1
            apply_random_seed(self.pipe, torch.Generator().manual_seed(shared))
            apply_sharding(self.pipe, worker.num_workers, worker.id)
        self._passes += 1
        yield from self.pipe

    def state_dict(self) -> dict[str, Any]:
        """The position of this worker, and the data and parameters it belongs to."""
        return self.pipe.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the next pass continue from there.

        Raises
        ------
        StateError
            The state belongs to other data or parameters, or is corrupt.
        """
        self.pipe.load_state_dict(state)
