"""Models of scvi-tools on few cells, and scvi-tools' own batches of an AnnData, as the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from lightning.pytorch import Callback, LightningDataModule
from scipy import sparse

__all__ = [
    "COVARIATES",
    "SMALL",
    "OwnBatches",
    "Seen",
    "cells_of",
    "counts",
    "counts_file",
    "scvi_alone",
    "setup",
    "trained",
]

SMALL = {"n_hidden": 8, "n_latent": 3}
COVARIATES: dict[str, Any] = {
    "size_factor_key": "factor",
    "categorical_covariate_keys": ["lane", "donor"],
    "continuous_covariate_keys": ["age", "share"],
}


def cells_of(n_obs: int = 300, n_vars: int = 12) -> anndata.AnnData:
    """Cells with counts in X and in a layer, and a column of each kind that scvi-tools reads."""
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(1.5, (n_obs, n_vars)).astype(np.float32))
    obs = pd.DataFrame(
        {
            "batch": rng.choice(["second", "first"], n_obs),
            "label": pd.Categorical(
                rng.choice(["T", "B", "Unknown", "NK"], n_obs), ["T", "Unknown", "unseen", "NK", "B"]
            ),
            "lane": rng.choice([30, 4], n_obs),
            "donor": rng.choice(list("xyz"), n_obs),
            "age": rng.integers(20, 90, n_obs),
            "share": rng.random(n_obs),
            "factor": rng.random(n_obs) + 0.5,
        },
        index=[f"cell-{number}" for number in range(n_obs)],
    )
    var = pd.DataFrame(index=[f"gene-{number}" for number in range(n_vars)])
    return anndata.AnnData(counts, obs=obs, var=var, layers={"doubled": counts * 2})


@pytest.fixture(scope="session")
def counts() -> anndata.AnnData:
    """300 cells with counts."""
    return cells_of()


@pytest.fixture(scope="session")
def counts_file(counts: anndata.AnnData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file."""
    path = tmp_path_factory.mktemp("scvi") / "counts.h5ad"
    counts.copy().write_h5ad(path, compression="gzip")
    return path


@pytest.fixture
def scvi_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """scvi-tools writes nothing elsewhere, and computes in one thread: models are too small for two."""
    monkeypatch.setattr(scvi.settings, "logging_dir", tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def setup(kind: Any, adata: anndata.AnnData, **keys: Any) -> Any:
    """A model as scvi-tools itself makes it, of an AnnData in memory."""
    adata = adata.copy()
    kind.setup_anndata(adata, **{name: value for name, value in keys.items() if value is not None})
    return kind(adata, **SMALL)


class Seen(Callback):
    """The loss of each step, and the rows of its batch."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rows: list[Any] = []
        self.epochs: list[int] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))
        self.epochs.append(trainer.current_epoch)
        parts = batch if isinstance(batch, tuple) else (batch,)
        named = [part for part in parts if part is not None and "ind_x" in part]
        self.rows.append(tuple(part["ind_x"].ravel().tolist() for part in named))


class OwnBatches(LightningDataModule):
    """The tensors that scvi-tools itself makes of the rows of each batch."""

    def __init__(self, model: Any, rows: Sequence[Any], n_train: int = 0) -> None:
        super().__init__()
        dataset = model.adata_manager.create_torch_dataset()
        self.n_train = n_train
        self.batches = []
        for parts in rows:
            own = tuple({key: torch.as_tensor(value) for key, value in dataset[[*part]].items()} for part in parts)
            self.batches.append(own if len(own) > 1 else own[0])

    def train_dataloader(self) -> Any:
        return _Iterable(self.batches)


class _Iterable:
    """Lightning takes a list for a list of loaders."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return iter(self.batches)


def trained(model: Any, datamodule: Any, weights: Any = None, epochs: int = 1, **options: Any) -> Seen:
    """What was seen while a model was trained, from given weights."""
    if weights is not None:
        model.module.load_state_dict(weights)
    seen = Seen()
    torch.manual_seed(1)
    model.train(
        max_epochs=epochs,
        datamodule=datamodule,
        accelerator="cpu",
        callbacks=[seen, *options.pop("callbacks", ())],
        enable_progress_bar=False,
        plan_kwargs={"n_epochs_kl_warmup": 2},
        **options,
    )
    return seen
