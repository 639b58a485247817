"""A Hugging Face ``Trainer`` that takes loaders for its datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import repeat
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from annpipes.errors import ParameterError, StateError
from annpipes.integrations.accelerate import AcceleratedLoader
from annpipes.running.loader import Loader

try:
    from transformers import Trainer, TrainerCallback
    from transformers.trainer_callback import ExportableState
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "annpipes.integrations.transformers needs Transformers: pip install 'annpipes[transformers]'",
        name=_missing.name,
    ) from _missing

__all__ = ["LoaderTrainer"]


class LoaderTrainer(Trainer):  # type: ignore[misc] # published without types
    """A ``Trainer`` that takes loaders for datasets, and continues from its checkpoints with the very next batch.

    ``train_dataset``, ``eval_dataset`` and the dataset of ``predict`` may be a `Loader`. Its batches go to the model
    unchanged, so their keys must be the parameters of its ``forward``. ``resume_from_checkpoint`` reads no batch
    before the next one. Each evaluation sees the same rows and does not affect the order of training.

    Parameters
    ----------
    *args, **kwargs
        As for ``Trainer``. ``per_device_train_batch_size`` and ``per_device_eval_batch_size`` of its arguments, which
        it uses to count cells and to weight losses, must be the batch sizes of the loaders.

    Raises
    ------
    ParameterError
        When a loader is used: its batch size differs from that in the arguments.
    StateError
        When training is resumed: the checkpoint belongs to other data or parameters, or was saved by another trainer.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_callback(LoaderPlace())

    def get_train_dataloader(self) -> Any:
        """The epochs of training, from the place in a checkpoint on."""
        if not isinstance(self.train_dataset, Loader):
            return super().get_train_dataloader()
        loader = self._prepared(self.train_dataset, "train")
        return DataLoader(_Epochs(loader, self), batch_size=None, collate_fn=_as_it_is)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """The rows to evaluate with."""
        chosen = self.eval_dataset if eval_dataset is None else eval_dataset
        chosen = self.eval_dataset[chosen] if isinstance(chosen, str) else chosen
        return self._evaluating(chosen) if isinstance(chosen, Loader) else super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        """The rows to predict for."""
        ours = isinstance(test_dataset, Loader)
        return self._evaluating(test_dataset) if ours else super().get_test_dataloader(test_dataset)

    def num_examples(self, dataloader: Any) -> int:
        """How many rows an epoch has, over all ranks."""
        epochs = dataloader.dataset if isinstance(dataloader, DataLoader) else dataloader
        if isinstance(epochs, _Epochs | _Evaluation):
            return int(epochs.loader.planned(0).schedule.n_rows)
        return int(super().num_examples(dataloader))

    def _evaluating(self, loader: Loader) -> _Evaluation:
        return _Evaluation(self._prepared(loader, "eval"), self.accelerator)

    def _prepared(self, loader: Loader, stage: str) -> Loader:
        name = f"per_device_{stage}_batch_size"
        if (said := getattr(self.args, name)) != loader.batch_size:
            raise ParameterError(
                f"{name} is {said}, but the loader's batches have {loader.batch_size} rows: "
                f"use TrainingArguments(…, {name}={loader.batch_size})"
            )
        return AcceleratedLoader(loader, self.accelerator).loader


class LoaderPlace(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Puts the place of a trainer's loader into its checkpoints."""

    def __init__(self) -> None:
        self.loader: Loader | None = None
        self.saved: Mapping[str, Any] | None = None  # where Transformers puts what a checkpoint has, if it is told to

    def on_train_begin(self, *_: Any, train_dataloader: Any = None, **__: Any) -> None:
        """What the trainer calls when it knows what it trains with."""
        epochs = getattr(train_dataloader, "dataset", None)
        self.loader = epochs.loader if isinstance(epochs, _Epochs) else None

    def state(self) -> dict[str, Any]:
        """What is saved in ``trainer_state.json``."""
        return {"args": {}, "attributes": {"saved": None if self.loader is None else self.loader.state_dict()}}


class _Epochs(IterableDataset[Any]):
    """The epochs of a loader as a trainer counts them."""

    def __init__(self, loader: Loader, trainer: LoaderTrainer) -> None:
        self.loader, self.trainer = loader, trainer
        self.begun = False

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        if not self.begun and self.trainer.state.global_step:
            self.loader.load_state_dict(self._saved())
            yield from repeat(None, self._left_out())
        self.begun = True
        yield from self.loader

    def _saved(self) -> Mapping[str, Any]:
        place = self.trainer.state.stateful_callbacks.get(LoaderPlace.__name__, {"attributes": {}})
        if (saved := place["attributes"].get("saved")) is None:
            raise StateError("the checkpoint has no position of a loader: it was not saved by a LoaderTrainer with one")
        return dict(saved)

    def _left_out(self) -> int:
        """How many batches of a resumed epoch the trainer takes and does not look at: these need not be read."""
        if self.trainer.args.ignore_data_skip:
            return 0
        together = self.trainer.args.gradient_accumulation_steps
        return int(self.trainer.state.global_step % -(-len(self) // together) * together)


class _Evaluation(AcceleratedLoader):
    """A loader whose passes are all alike."""

    def __iter__(self) -> Iterator[Any]:
        self.set_epoch(0)
        yield from super().__iter__()


def _as_it_is(batch: Any) -> Any:
    return batch
