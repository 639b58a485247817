"""A loader among what Hugging Face's Accelerate has prepared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from annpipes.errors import ParameterTypeError
from annpipes.running.loader import Loader

try:
    from accelerate import Accelerator
    from accelerate.data_loader import DataLoaderStateMixin
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "annpipes.integrations.accelerate needs Accelerate: pip install 'annpipes[accelerate]'", name=_missing.name
    ) from _missing

__all__ = ["AcceleratedLoader"]


class AcceleratedLoader(DataLoaderStateMixin):  # type: ignore[misc] # published without types
    """The epochs of a loader for the processes of an ``Accelerator``, which is told when the last batch comes.

    >>> from accelerate import Accelerator
    >>> accelerator = Accelerator(cpu=True)
    >>> loader = AcceleratedLoader(stream("pbmc.h5ad", batch_size=64), accelerator)
    >>> for batch in loader:
    ...     assert loader.end_of_dataloader == (len(batch["X"]) == 60)
    >>> accelerator.register_for_checkpointing(loader)

    It needs no ``prepare``, which returns it unchanged. If it is registered, ``save_state`` saves its position, and
    after ``load_state`` the next pass continues with the very next batch.

    Parameters
    ----------
    loader
        The loader, of which a copy is used, from epoch 0 on. Its ``device`` is kept; its ranks are the accelerator's.
    accelerator
        The accelerator whose processes share each epoch.

    Raises
    ------
    ParameterTypeError
        ``loader`` is not a loader.
    """

    def __init__(self, loader: Loader, accelerator: Accelerator) -> None:
        if not isinstance(loader, Loader):
            raise ParameterTypeError(f"loader must be a Loader, got {loader!r:.80}: use stream(…) or Loader(pipe)")
        place = accelerator.process_index, accelerator.num_processes
        found = loader.with_ranks()  # where torch.distributed says the same, ranks compare what they were given
        self.loader: Loader = found if found.ranks[:2] == place else loader.with_ranks(*place)
        self.gradient_state: Any = accelerator.gradient_state

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        first, last = self.loader.first_batch, len(self) - 1
        schedule = self.loader.planned().schedule
        self.begin()
        if self.loader.ranks.world_size == 1:  # rows of a short last batch; for several ranks none is short
            self.remainder: int = schedule.n_rows % schedule.global_batch
        try:
            for number, batch in enumerate(batches, first):
                self.end_of_dataloader: bool = number == last
                yield batch
        finally:
            self.end()

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass this epoch; without this call, each pass is the epoch after the last one begun."""
        self.loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """The position: how many batches have been received."""
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the next pass continue from there."""
        self.loader.load_state_dict(state)
