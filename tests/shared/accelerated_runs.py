"""Runs of a loader under Accelerate that remember what each step saw; started by torchrun, each rank reports it."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from builders import tiny

import annpipes as ap
from annpipes.integrations.accelerate import AcceleratedLoader

__all__ = ["CELLS", "N", "Run", "loader_of"]

N = 43
CELLS = tiny(N)


def loader_of(**options: Any) -> ap.Loader:
    return ap.stream(
        **{"data": CELLS, "batch_size": 9, "fields": ["X", "rows"], "block_size": 4, "chunk_size": 18, **options}
    )


class Run:
    """A training that can be saved and loaded between any two steps."""

    def __init__(self, *, accumulate: int = 1, how: Any = None, **options: Any) -> None:
        torch.manual_seed(0)
        given = DataLoaderConfiguration(**(how or {}))
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate, dataloader_config=given)
        model = torch.nn.Linear(3, 1)
        self.loader = AcceleratedLoader(loader_of(**options), self.accelerator)
        self.model, self.optimizer, again = self.accelerator.prepare(
            model, torch.optim.SGD(model.parameters(), 1e-8), self.loader
        )
        assert again is self.loader
        self.accelerator.register_for_checkpointing(self.loader)
        self.seen: list[list[int]] = []
        self.synced: list[bool] = []

    def epoch(self, stop: int | None = None, *, evaluate: bool = False) -> None:
        for batch in self.loader:
            with self.accelerator.accumulate(self.model):
                self.accelerator.backward(self.model(batch["X"]).pow(2).mean())
                self.optimizer.step()
                self.optimizer.zero_grad()
            self.seen.append(batch["rows"].tolist())
            self.synced.append(self.accelerator.sync_gradients)
            if evaluate:
                self.evaluate()
            if len(self.seen) == stop:
                break

    def evaluate(self) -> list[int]:
        """The rows that metrics are made of."""
        loader = AcceleratedLoader(loader_of(rows=range(20), shuffle=False), self.accelerator)
        parts = [self.accelerator.gather_for_metrics(batch["rows"]) for batch in loader]
        return [int(row) for row in torch.cat(parts)]

    @property
    def weights(self) -> list[float]:
        return [float(value) for parameter in self.model.parameters() for value in parameter.detach().ravel()]


def in_two_processes() -> dict[str, Any]:
    whole = Run()
    whole.epoch(evaluate=True)
    whole.epoch()

    stopped = Run(num_workers=2)
    stopped.epoch(2)
    stopped.accelerator.save_state("state")
    resumed = Run(how={"split_batches": True, "even_batches": False, "dispatch_batches": True})
    resumed.accelerator.load_state("state")
    resumed.epoch()
    resumed.epoch()
    return {
        "ranks": whole.loader.loader.ranks,
        "whole": whole.seen,
        "resumed": [*stopped.seen, *resumed.seen],
        "weights": [whole.weights, resumed.weights],
        "evaluated": whole.evaluate(),
    }


if __name__ == "__main__":
    report = in_two_processes()
