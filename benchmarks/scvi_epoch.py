"""Epochs of scVI from a file that is not loaded, beside ``setup_anndata`` in memory: seconds, and memory by file size.

Both train on the same 2,000 genes, in batches of 128. Memory is anonymous memory above that of the interpreter with
everything imported, the model's included, which is the same for all; AnnData's has the cells as well. A first epoch is
not counted. It needs scvi-tools: ``pip install 'annpipes[scvi]'``.
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
CASES = {f"{source}, {n_obs:,} cells": (source, n_obs) for n_obs in (20_000, 200_000) for source in ("file", "memory")}


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


def from_file(path: Path) -> tuple[Any, dict[str, Any]]:
    """A model and what it trains from."""
    dm = ScviDataModule(path, genes=range(GENES), split={"train": 1.0}, block_size=64)
    return scvi.model.SCVI(registry=dm.registry), {"datamodule": dm}


def from_memory(path: Path) -> tuple[Any, dict[str, Any]]:
    """The same as scvi-tools has it."""
    adata = anndata.read_h5ad(path)[:, :GENES].copy()
    scvi.model.SCVI.setup_anndata(adata)
    return scvi.model.SCVI(adata), {"train_size": 1.0}


def measure(case: tuple[str, int], quick: bool) -> dict[str, Any]:
    source, n_obs = case
    path = files.sparse_file(2_000 if quick else n_obs, "gzip")
    measuring.warm(path)
    with tempfile.TemporaryDirectory() as scvi.settings.logging_dir, measuring.PeakMemory() as watched:
        model, data = from_file(path) if source == "file" else from_memory(path)
        quiet = {"enable_progress_bar": False, "logger": False, "accelerator": "cpu"}
        model.train(2 if quick else 4, callbacks=[epochs := Epochs()], **quiet, **data)
    counted = epochs.seconds[1:]
    return {"file": path.name, "seconds": median(counted), "slowest": max(counted), **watched.above()}


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    scvi.settings.verbosity = logging.ERROR
    warnings.filterwarnings("ignore", "The 'train_dataloader' does not have many workers")
    measuring.main(CASES, measure, __doc__)
