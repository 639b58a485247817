"""A datamodule for Lightning whose place is in every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from annpipes.errors import ParameterError, ParameterTypeError
from annpipes.integrations.lightning_epochs import Evaluation, ResumingDataModule, lightning
from annpipes.running.loader import Loader
from annpipes.running.ranks import find_ranks
from annpipes.splitting import split as split_rows
from annpipes.stages.datapipes import IterDataPipe
from annpipes.streaming import stream

__all__ = ["LoaderDataModule"]

_STAGES = ("train", "val", "test", "predict")
_OF_TRAINING = ("shuffle", "weights", "balance", "num_rows", "drop_last", "tail")  # which rows an epoch has, and when


class LoaderDataModule(ResumingDataModule, lightning.LightningDataModule):  # type: ignore[misc] # known when imported
    """Loaders for a Lightning ``Trainer``, which continues from any checkpoint with the very next batch.

    >>> data = LoaderDataModule(train={"data": "pbmc.h5ad", "batch_size": 64, "fields": ["X", "obs/louvain:code"]})
    >>> len(data.train_dataloader())
    11

    The trainer says which epoch it is and which ranks share it. A checkpoint counts the batches whose steps were
    completed, no matter when it is saved. Every evaluation, including a sanity check, sees the same rows and does
    not affect the order of training.

    Parameters
    ----------
    train, val, test, predict
        What each stage reads: a `Loader`, a pipe, or arguments of `stream` as a dict. A new loader like it is
        made each time the trainer asks for one; the last one of each stage is in `loaders`.

    Raises
    ------
    ParameterTypeError
        A stage is none of these.
    StateError
        When training begins: the checkpoint belongs to other data or parameters.
    """

    def __init__(self, train: Any = None, val: Any = None, test: Any = None, predict: Any = None) -> None:
        super().__init__()
        given = zip(_STAGES, (train, val, test, predict), strict=True)
        self._given = {stage: _as_loader(stage, what) for stage, what in given if what is not None}
        self.loaders: dict[str, Loader] = {}
        """The loader in use of each stage, whose ``stats()`` say what the trainer waited for."""
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
        """A datamodule whose stages read disjoint rows of one source.

        >>> data = LoaderDataModule.from_data("pbmc.h5ad", {"train": 0.8, "val": 0.2}, batch_size=64)
        >>> len(data.train_dataloader()), len(data.val_dataloader()), len(data.predict_dataloader())
        (9, 3, 11)

        Parameters
        ----------
        data
            As for `IndexSource`.
        split
            The share of each stage; when None, 0.8 for ``train``, 0.1 for ``val`` and 0.1 for ``test``. If no share
            is given for ``predict``, it has all rows.
        groupby, stratify, split_seed
            As for `annpipes.split`; ``split_seed`` is its ``seed``.
        **options
            As for `stream`. In evaluation every row comes once, in stored order: shuffling, sampling and the
            handling of a short last batch apply only to training.

        Raises
        ------
        ParameterError
            There is no such stage, or ``rows`` is given, which the split chooses.
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

    def train_dataloader(self) -> Any:
        """The epochs of training, from the position in a checkpoint on."""
        return self._epochs_of(self._loader("train"))

    def val_dataloader(self) -> Any:
        """The rows to validate with."""
        return Evaluation(self._loader("val"))

    def test_dataloader(self) -> Any:
        """The rows to test with."""
        return Evaluation(self._loader("test"))

    def predict_dataloader(self) -> Any:
        """The rows to predict for."""
        return Evaluation(self._loader("predict"))

    def _loader(self, stage: str) -> Loader:
        self.loaders[stage] = self._given[stage].with_ranks(*_ranks_of(self.trainer))
        return self.loaders[stage]


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
