"""A datamodule for Lightning whose place is in every checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Self

from annpipes.errors import ParameterError, ParameterTypeError, StateError
from annpipes.plans.state import State
from annpipes.running.loader import Loader
from annpipes.running.ranks import find_ranks
from annpipes.splitting import split as split_rows
from annpipes.stages.datapipes import IterDataPipe
from annpipes.streaming import stream

__all__ = ["LoaderDataModule"]

_STAGES = ("train", "val", "test", "predict")
_OF_TRAINING = ("shuffle", "weights", "balance", "num_rows", "drop_last", "tail")  # which rows an epoch has, and when


def _framework() -> Any:
    """Lightning, which is published under two names whose classes do not know one another: the one in use, if one is.

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


_lightning = _framework()


class LoaderDataModule(_lightning.LightningDataModule):  # type: ignore[misc, name-defined] # known when imported
    """Loaders for a ``Trainer`` of Lightning, which goes on from any checkpoint with the very next batch.

    >>> data = LoaderDataModule(train={"data": "pbmc.h5ad", "batch_size": 64, "fields": ["X", "obs/louvain:code"]})
    >>> len(data.train_dataloader())
    11

    The trainer says which epoch it is and which ranks share it. A checkpoint counts the batches whose steps were
    taken, whenever it is saved. Each evaluation, a sanity check too, sees the same rows, and none touches the order
    of training.

    Parameters
    ----------
    train, val, test, predict
        What each stage reads: a `Loader`, a pipe, or arguments of `stream` as a dict. A loader like it is
        made each time that the trainer asks for one; the last of each stage is in `loaders`.

    Raises
    ------
    ParameterTypeError
        A stage was given something else.
    StateError
        When training begins: the checkpoint belongs to other data or parameters.
    """

    def __init__(self, train: Any = None, val: Any = None, test: Any = None, predict: Any = None) -> None:
        super().__init__()
        given = zip(_STAGES, (train, val, test, predict), strict=True)
        self._given = {stage: _as_loader(stage, what) for stage, what in given if what is not None}
        self.loaders: dict[str, Loader] = {}
        """The loader in use of each stage, whose ``stats()`` say what the trainer waited for."""
        self._training: _Training | None = None  # what this run has trained with
        self._saved: Mapping[str, Any] | None = None  # where a checkpoint says that training stands
        for stage in set(_STAGES) - self._given.keys():
            name = f"{stage}_dataloader"
            if getattr(type(self), name) is getattr(LoaderDataModule, name):  # a subclass may have its own
                setattr(self, name, None)  # to Lightning, a stage that is not there

    @classmethod
    def from_data(
        cls,
        data: Any,
        split: Mapping[str, float] | None = None,
        *,
        groupby: str | None = None,
        stratify: str | None = None,
        split_seed: int = 0,
        **options: Any,
    ) -> Self:
        """Disjoint rows of one source for the stages.

        >>> data = LoaderDataModule.from_data("pbmc.h5ad", {"train": 0.8, "val": 0.2}, batch_size=64)
        >>> len(data.train_dataloader()), len(data.val_dataloader()), len(data.predict_dataloader())
        (9, 3, 11)

        Parameters
        ----------
        data
            As of `IndexSource`.
        split
            The share of each stage; when None, 0.8 for ``train``, 0.1 for ``val`` and 0.1 for ``test``. Without a
            share, ``predict`` has all rows.
        groupby, stratify, split_seed
            As of `annpipes.split`, whose ``seed`` the last one is.
        **options
            As of `stream`. In evaluation every row comes once, as it stands: shuffling, sampling and what
            becomes of a short last batch are for training alone.

        Raises
        ------
        ParameterError
            A stage that there is not, or ``rows``, which the split chooses.
        """
        shares = {"train": 0.8, "val": 0.1, "test": 0.1} if split is None else split
        if unknown := [stage for stage in shares if stage not in _STAGES]:
            raise ParameterError(f"split gives shares to {', '.join(_STAGES)}, got {unknown}")
        if "rows" in options:
            raise ParameterError("split chooses the rows; for rows of your own, LoaderDataModule(train={…}, val={…})")
        rows = split_rows(data, shares, groupby=groupby, stratify=stratify, seed=split_seed)
        evaluated = {name: value for name, value in options.items() if name not in _OF_TRAINING}
        given = {
            stage: {**(options if stage == "train" else {**evaluated, "shuffle": False}), "data": data, "rows": chosen}
            for stage, chosen in rows.items()
        }
        return cls(**{"predict": {**evaluated, "shuffle": False, "data": data}, **given})

    def setup(self, stage: str) -> None:
        """What Lightning calls before a run: forget the run before."""
        if stage == "fit":
            self._training = self._saved = None
        if self.trainer is not None and not any(isinstance(each, _Recount) for each in self.trainer.callbacks):
            self.trainer.callbacks.append(_Recount())

    def train_dataloader(self) -> Any:
        """The epochs of training, from the place in a checkpoint on."""
        training = _Training(self._loader("train"), self)
        if self._saved is not None and self._training is None:
            training.load_state_dict(self._saved)
        return training

    def val_dataloader(self) -> Any:
        """The rows to validate with."""
        return _Evaluation(self._loader("val"))

    def test_dataloader(self) -> Any:
        """The rows to test with."""
        return _Evaluation(self._loader("test"))

    def predict_dataloader(self) -> Any:
        """The rows to predict for."""
        return _Evaluation(self._loader("predict"))

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
            raise StateError("the checkpoint does not say where training stands: its state lacks train")
        self._saved = state_dict["train"]

    def _loader(self, stage: str) -> Loader:
        self.loaders[stage] = self._given[stage].with_ranks(*_ranks_of(self.trainer))
        return self.loaders[stage]

    def _train_with(self, training: _Training) -> None:
        """What the epochs of training call as they begin; somebody else may have asked for some to look at them."""
        used = None if self.trainer is None else self.trainer.train_dataloader
        if used is training or not isinstance(used, _Training):
            self._training = training


class _Evaluation:
    """A loader whose passes are all alike."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        self.loader.set_epoch(0)
        yield from self.loader


class _Training:
    """The epochs of a loader as a trainer counts them."""

    def __init__(self, loader: Loader, module: LoaderDataModule) -> None:
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


class _Recount(_lightning.Callback):  # type: ignore[misc, name-defined]
    """The epochs of a checkpoint as a run without interruption would count them.

    Lightning counts an epoch that ``max_steps`` or an early stop broke off as a whole one, and would give its other
    batches the number of the next epoch, or leave them out. Of a checkpoint saved between two epochs it may take the
    number of batches of the one before for that of the one that follows.
    """

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        state = checkpoint.get(type(trainer.datamodule).__qualname__)
        if trainer.state.fn != "fit" or not isinstance(trainer.datamodule, LoaderDataModule) or state is None:
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


def _as_loader(stage: str, what: Any) -> Loader:
    if isinstance(what, Loader):
        return what
    if isinstance(what, IterDataPipe):
        return Loader(what)
    if isinstance(what, Mapping):
        return stream(**what)
    raise ParameterTypeError(f"{stage} must be a Loader, a pipe, or a dict of arguments of stream, got {what!r:.80}")


def _ranks_of(trainer: Any) -> tuple[int | None, int | None]:
    """The place among those that get different data; None where torch.distributed says the same, and ranks compare."""
    if trainer is None:
        return None, None
    among = trainer.distributed_sampler_kwargs or {"rank": 0, "num_replicas": 1}
    place = among["rank"], among["num_replicas"]
    return (None, None) if find_ranks(None, None)[:2] == place else place
