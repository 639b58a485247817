"""Epochs of scVI from a file that is not loaded, beside ``setup_anndata`` in memory: seconds, and memory by file size.

Both train on the same 2,000 genes, in batches of 128. Memory is anonymous memory above that of the interpreter with
everything imported, the model's included, which is the same for all; AnnData's has the cells as well. A first epoch is
not counted. *In turns*, the two train an epoch each, again and again, in one process. It needs scvi-tools:
``pip install 'annpipes[scvi]'``.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import anndata
import scvi
from lightning.pytorch import Callback

import files
import measuring
from annpipes.integrations.scvi import ScviDataModule

GENES = 2_000
SOURCES = ("file", "memory", "in turns", "in turns, cached")
CASES = {f"{source}, {n_obs:,} cells": (source, n_obs) for n_obs in (20_000, 200_000) for source in SOURCES}


class Epochs(Callback):
    """The seconds of each epoch of training."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        """Look at the clock."""
        self.begin = perf_counter()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Look at it again."""
        self.seconds.append(perf_counter() - self.begin)


def from_file(path: Path, cache: str | None = None) -> tuple[Any, dict[str, Any]]:
    """A model and what it trains from."""
    dm = ScviDataModule(path, genes=range(GENES), split={"train": 1.0}, block_size=64, cache=cache)
    return scvi.model.SCVI(registry=dm.registry), {"datamodule": dm}


def from_memory(path: Path) -> tuple[Any, dict[str, Any]]:
    """The same as scvi-tools has it."""
    adata = anndata.read_h5ad(path)[:, :GENES].copy()
    scvi.model.SCVI.setup_anndata(adata)
    return scvi.model.SCVI(adata), {"train_size": 1.0}


def train(model: Any, data: dict[str, Any], n_epochs: int = 1) -> list[float]:
    """The seconds of so many epochs."""
    model.module.train()  # scvi-tools leaves a trained model in eval mode
    quiet = {"enable_progress_bar": False, "logger": False, "accelerator": "cpu"}
    model.train(n_epochs, callbacks=[epochs := Epochs()], **quiet, **data)
    return epochs.seconds


def in_turns(path: Path, turns: int, cache: str | None) -> dict[str, Any]:
    """How many times as fast epochs from the file, or from a cache of it, are."""
    ours, theirs = from_file(path, cache), from_memory(path)
    pairs = [(train(*ours)[0], train(*theirs)[0]) for _ in range(turns + 1)][1:]
    ratios = sorted(memory / file for file, memory in pairs)
    file, memory = map(median, zip(*pairs, strict=True))
    return {
        "turns": turns,
        "seconds": file,
        "in_memory": memory,
        "ratio": memory / file,
        "ratio_spread": ratios[:: len(ratios) - 1],
    }


def measure(case: tuple[str, int], quick: bool) -> dict[str, Any]:
    source, n_obs = case
    path = files.sparse_file(2_000 if quick else n_obs, "gzip")
    measuring.warm(path)
    with tempfile.TemporaryDirectory() as scvi.settings.logging_dir, measuring.PeakMemory() as watched:
        if "in turns" in source:
            turns, cache = 2 if quick else 9 if n_obs < 50_000 else 4, scvi.settings.logging_dir
            return {"file": path.name, **in_turns(path, turns, cache if "cached" in source else None)}
        counted = train(*(from_file(path) if source == "file" else from_memory(path)), 2 if quick else 4)[1:]
    return {"file": path.name, "seconds": median(counted), "slowest": max(counted), **watched.above()}


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    scvi.settings.verbosity = logging.ERROR
    warnings.filterwarnings("ignore", "The 'train_dataloader' does not have many workers")
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    measuring.main(CASES, measure, __doc__)
