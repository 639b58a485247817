"""Runs of a Hugging Face trainer that remember what each step saw; started by torchrun, each rank reports it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from builders import tiny
from transformers import TrainingArguments, logging

import annpipes as ap
from annpipes.integrations.transformers import LoaderTrainer

__all__ = ["CELLS", "Model", "N", "arguments", "fit", "loader_of", "loss_of", "rows_of", "trainer_of"]

logging.set_verbosity_error()

N = 43
CELLS = tiny(N)
BATCH = 9
MADE: list[list[int]] = []  # of which batches were made


def loader_of(**options: Any) -> ap.Loader:
    """Batches that are called by the parameters of the model."""
    given = {"data": CELLS, "batch_size": BATCH, "fields": ["X", "rows", "obs/number"]}
    running = {name: options.pop(name) for name in ("seed", "rank", "world_size") if name in options}
    stream = ap.stream(**{**given, "block_size": 4, "chunk_size": 18, **options})
    return ap.Loader(stream.pipe.map(named), **running)


def named(batch: dict[str, Any]) -> dict[str, Any]:
    MADE.append(batch["rows"].tolist())
    return {"x": batch["X"] / 1_000, "labels": batch["obs_number"].float()[:, None], "rows": batch["rows"]}


class Model(torch.nn.Module):
    """A line, with noise that shows whether the state of random numbers came back, too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.dropout = torch.nn.Dropout(0.2)
        self.seen: list[list[int]] = []
        self.evaluated: list[list[int]] = []

    def forward(self, x: Any, labels: Any, rows: Any) -> dict[str, Any]:
        (self.seen if self.training else self.evaluated).append(rows.tolist())
        logits = self.layer(self.dropout(x))
        return {"loss": torch.nn.functional.mse_loss(logits, labels), "logits": logits}

    @property
    def weights(self) -> list[float]:
        return [float(value) for parameter in self.parameters() for value in parameter.detach().ravel()]


def loss_of(model: Model, rows: Any) -> float:
    """The mean over these rows, computed at once."""
    batch = named(next(iter(ap.stream(CELLS, len(rows), fields=["X", "rows", "obs/number"], rows=rows))))
    with torch.no_grad():
        return float(torch.nn.functional.mse_loss(model.layer(batch["x"]), batch["labels"]))


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    quiet = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "logging_strategy": "no", "save_steps": 1}
    size = {"per_device_train_batch_size": BATCH, "per_device_eval_batch_size": BATCH}
    return TrainingArguments(str(folder), **{**quiet, **size, "learning_rate": 0.01, "num_train_epochs": 3, **options})


def trainer_of(folder: Path, train: Any = None, evaluate: Any = None, callbacks: Any = None, **options: Any) -> Any:
    torch.manual_seed(0)
    train = loader_of() if train is None else train
    args = arguments(folder, **options)
    return LoaderTrainer(Model(), args, train_dataset=train, eval_dataset=evaluate, callbacks=callbacks)


def fit(folder: Path, train: Any = None, resume: Any = None, **options: Any) -> Model:
    """The model of a run, which knows what it saw."""
    trainer = trainer_of(folder, train, **options)
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return trainer.model


def rows_of(count: int, **options: Any) -> list[list[int]]:
    """What a loader by itself yields in its first epochs."""
    loader = loader_of(**options)
    return [batch["rows"].tolist() for _ in range(count) for batch in loader]


def in_two_processes() -> dict[str, Any]:
    trainer = trainer_of(Path("trained"), evaluate=loader_of(rows=range(20)), eval_strategy="steps", eval_steps=2)
    trainer.train()
    second = fit(Path("again"), resume="trained/checkpoint-4")
    ranks = trainer.get_train_dataloader().dataset.loader.ranks
    return {
        "ranks": ranks,
        "whole": trainer.model.seen,
        "second": second.seen,
        "weights": [trainer.model.weights, second.weights],
        "evaluated": trainer.model.evaluated,
    }


if __name__ == "__main__":
    report = in_two_processes()
