"""A loader as a node of torchdata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torchdata.nodes import BaseNode

__all__ = ["BaseNode", "LoaderNode", "Resumable"]


class Resumable(Protocol):
    """Epochs with a position: what a node needs of a loader."""

    @property
    def epoch(self) -> int:
        """The epoch that the next pass will be."""

    @property
    def first_batch(self) -> int:
        """With which batch of it the next pass begins."""

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass this epoch."""

    def state_dict(self, *, ended: bool | None = None) -> dict[str, Any]:
        """Where the consumer stands, and whether it is done with the epoch."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the next pass go on from there."""

    def __iter__(self) -> Iterator[Any]: ...


class LoaderNode(BaseNode[Any]):  # type: ignore[misc] # torchdata has no types
    """The batches of a loader, epoch after epoch, for what `torchdata.nodes` are chained to.

    Each ``reset()`` begins the next epoch, and ``reset(state)`` goes on after the batch that the state was taken
    behind: nothing before it is read again.
    """

    def __init__(self, loader: Resumable) -> None:
        super().__init__()
        self.loader = loader
        self._batches: Iterator[Any] = iter(())
        self._began = False  # a batch was asked for since the last reset
        self._resumed = False  # that one was to a state
        self._left = False  # it began another epoch than that of the last batch

    def reset(self, initial_state: Mapping[str, Any] | None = None) -> None:
        """Begin the next epoch, or go on from a state."""
        super().reset(initial_state)
        if initial_state is not None:
            self.loader.load_state_dict(initial_state)
        elif self._resumed and not self._began and self.loader.first_batch:
            self.loader.set_epoch(self.loader.epoch + 1)  # as if that pass had begun and been left
        self._left = initial_state is None and (self._began or self._left)
        self._resumed, self._began = initial_state is not None, False
        self._batches = iter(self.loader)

    def next(self) -> Any:
        """The next batch."""
        self._began, self._left = True, False
        return next(self._batches)

    def get_state(self) -> dict[str, Any]:
        """Where the consumer of this node stands; behind the last batch, the end of the epoch is still to come."""
        return self.loader.state_dict(ended=self._left)
