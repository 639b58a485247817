"""The epochs of a training by Lightning, with a place in every checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from annpipes.errors import StateError
from annpipes.plans.state import State
from annpipes.running.nodes import Resumable

__all__ = ["Evaluation", "ResumingDataModule", "lightning"]


def _framework() -> Any:
    """Lightning, which is published under two names with unrelated classes: the one in use, if one is.

    Raises
    ------
    ImportError
        Neither is installed.
    """
    names = ("lightning.pytorch", "pytorch_lightning")
    for name in (*(name for name in names if name in sys.modules), *names):
        if find_spec(name.partition(".")[0]) is not None:
            return import_module(name)
    raise ImportError("annpipes.integrations.lightning needs Lightning: python -m pip install 'annpipes[lightning]'")


if TYPE_CHECKING:
    import lightning.pytorch as lightning
else:
    lightning = _framework()


class Trained(Resumable, Protocol):
    """Epochs with a position, as a trainer counts them."""

    def state_dict(self, *, unused: int = 0, ended: bool | None = None) -> dict[str, Any]:
        """Where training stands; the ``unused`` batches received last are to come again."""

    def __len__(self) -> int: ...


class ResumingDataModule:
    """What a datamodule derives from to have its place in checkpoints; its `train_dataloader` gives `_epochs_of`."""

    trainer: Any

    def __init__(self) -> None:
        super().__init__()
        self._training: _Training | None = None  # what this run has trained with
        self._saved: Mapping[str, Any] | None = None  # where a checkpoint says that training stands

    def setup(self, stage: str) -> None:
        """What Lightning calls before a run: forget the run before."""
        if stage == "fit":
            self._training = self._saved = None
        if self.trainer is not None and not any(isinstance(each, _Recount) for each in self.trainer.callbacks):
            self.trainer.callbacks.append(_Recount())

    def _epochs_of(self, loader: Trained) -> Any:
        """The epochs of training, from the place in a checkpoint on."""
        training = _Training(loader, self)
        if self._saved is not None and self._training is None:
            training.load_state_dict(self._saved)
        return training

    def state_dict(self) -> dict[str, Any]:
        """Where training stands, for a checkpoint."""
        training = self._training
        if training is None and self.trainer is not None:
            training = self.trainer.train_dataloader
        if isinstance(training, _Training):
            return {"train": training.state_dict()}
        return {} if self._saved is None else {"train": self._saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What Lightning calls with what is in a checkpoint."""
        if "train" not in state_dict:
            raise StateError("the checkpoint has no position of training: its state lacks train")
        self._saved = state_dict["train"]

    def _train_with(self, training: _Training) -> None:
        """Called by epochs as training begins with them, for others may be made only to be looked at."""
        used = None if self.trainer is None else self.trainer.train_dataloader
        if used is training or not isinstance(used, _Training):
            self._training = training


class Evaluation:
    """A loader whose passes are all alike."""

    def __init__(self, loader: Trained) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        self.loader.set_epoch(0)
        yield from self.loader


class _Training:
    """The epochs of a loader as a trainer counts them."""

    def __init__(self, loader: Trained, module: ResumingDataModule) -> None:
        self.loader, self.module, self.trainer = loader, module, module.trainer
        self.begun = False  # a batch was asked for
        self.resumes = False  # the next pass begins where a state said
        self.loader.set_epoch(self._epoch())

    def _epoch(self) -> int:
        if self.trainer is None or self.trainer.overfit_batches:  # the same batches again and again
            return 0
        return int(self.trainer.current_epoch)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        if not self.resumes or not self.loader.first_batch:
            self.loader.set_epoch(self._epoch())
        self.begun, self.resumes = True, False
        self.module._train_with(self)
        yield from self.loader

    def state_dict(self) -> dict[str, Any]:
        """Behind the last batch whose step was taken, by Lightning's own count: a checkpoint may be saved before."""
        if not self.begun or self.trainer is None:
            return self.loader.state_dict()
        batches = self.trainer.fit_loop.epoch_loop.batch_progress
        taken = batches.current.processed
        unused = batches.current.ready - taken
        ended = unused == 0 and (batches.is_last_batch or taken >= self.trainer.num_training_batches)
        return self.loader.state_dict(unused=unused, ended=ended or None)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.loader.load_state_dict(state)
        self.resumes = True


class _Recount(lightning.Callback):  # type: ignore[misc]
    """The epochs of a checkpoint as a run without interruption would count them.

    Lightning counts an epoch that ``max_steps`` or an early stop broke off as a whole one, and would give its other
    batches the number of the next epoch, or leave them out. Of a checkpoint saved between two epochs it may take the
    number of batches of the one before for that of the one that follows.
    """

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        state = checkpoint.get(type(trainer.datamodule).__qualname__)
        if trainer.state.fn != "fit" or not isinstance(trainer.datamodule, ResumingDataModule) or state is None:
            return
        within_epoch = State.read(state["train"], {"epoch": int, "batch": int}).position["batch"] > 0
        loop = checkpoint["loops"]["fit_loop"]
        epochs, batches = loop["epoch_progress"], loop["epoch_loop.batch_progress"]
        if epochs["current"]["started"] != epochs["current"]["processed"]:
            return  # Lightning knows that it is within an epoch
        for count in (epochs["current"], epochs["total"]):
            count["processed"] -= within_epoch
            count["completed"] = count["processed"]
            count["ready"] = count["started"] = count["processed"] + within_epoch
        if not within_epoch:
            batches["current"] = dict.fromkeys(batches["current"], 0)
            batches["is_last_batch"] = False
