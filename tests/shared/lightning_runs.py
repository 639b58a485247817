"""Runs of a Lightning trainer that remember what each step saw, and save checkpoints wherever one can be saved."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from builders import tiny

from annpipes.integrations.lightning import LoaderDataModule

__all__ = ["CELLS", "TRAIN", "VAL", "Model", "Saved", "Saver", "data_of", "fit", "rows_of", "trainer_of"]

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

CELLS = tiny(43)
TRAIN = {"data": CELLS, "batch_size": 9, "fields": ["X", "rows"], "block_size": 4, "chunk_size": 18}
VAL = {**TRAIN, "rows": range(20)}  # shuffled, so that another pass shows

Seen = tuple[int, int, list[int]]  # epoch, number of the batch, rows


class Model(pl.LightningModule):
    """Nothing to learn: it writes down which batches came."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.seen: list[Seen] = []
        self.validated: list[list[int]] = []
        self.within_step: Callable[[], None] = lambda: None

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.within_step()
        self.seen.append((self.current_epoch, batch_idx, batch["rows"].tolist()))
        return self.layer(batch["X"]).mean() * 0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validated.append(batch["rows"].tolist())

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return batch["rows"]

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


class Saved(NamedTuple):
    """A checkpoint: when it was saved, where it lies, and how many steps were done by then."""

    when: str
    path: Path
    steps: int


class Saver(pl.Callback):
    """Saves at every point of a run at which a hook is called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.saved: list[Saved] = []
        self.steps = 0

    def save(self, trainer: pl.Trainer, when: str) -> None:
        if not trainer.sanity_checking:
            self.saved.append(Saved(when, self.folder / f"{len(self.saved)}.ckpt", self.steps))
            trainer.save_checkpoint(self.saved[-1].path)


def _saving(hook: str) -> Callable[..., None]:
    def save(self: Saver, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        self.steps += hook == "on_train_batch_end"
        self.save(trainer, hook)

    return save


for _hook in (
    *("on_fit_start", "on_train_start", "on_train_epoch_start", "on_train_batch_start", "on_before_zero_grad"),
    *("on_train_batch_end", "on_validation_start", "on_validation_batch_end", "on_validation_end"),
    *("on_train_epoch_end", "on_train_end"),
):
    setattr(Saver, _hook, _saving(_hook))


def data_of(train: Any = TRAIN, val: Any = VAL) -> LoaderDataModule:
    return LoaderDataModule(train=train, val=val)


def trainer_of(**options: Any) -> pl.Trainer:
    """A trainer that says and writes nothing."""
    quiet = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False}
    return pl.Trainer(
        **{**quiet, "enable_model_summary": False, "enable_checkpointing": False, "num_sanity_val_steps": 0, **options}
    )


def fit(data: Any = None, model: Model | None = None, ckpt_path: Any = None, **options: Any) -> list[Seen]:
    """What the steps of a run saw."""
    model = Model() if model is None else model
    trainer_of(**options).fit(model, data_of() if data is None else data, ckpt_path=ckpt_path)
    return model.seen


def rows_of(seen: list[Seen], epoch: int) -> list[int]:
    """The rows of one epoch, in order."""
    return [row for its_epoch, _, rows in seen if its_epoch == epoch for row in rows]
