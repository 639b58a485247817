"""Batches for scvi-tools: its own loader over an AnnData in memory, beside `ScviDataModule` over a file and in memory.

Each hands out a training epoch of the same cells in batches of 128, as an scVI model gets them: dense counts, batch and
label codes, and positions. No model is trained. ``from_gzip`` and ``in_memory`` are how many times as fast annpipes is
as the loader of scvi-tools. It needs scvi-tools: ``pip install 'annpipes[scvi]'``.
"""

from __future__ import annotations

import logging
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import anndata
import scvi
from scvi.dataloaders import AnnDataLoader

import files
import measuring
from annpipes.integrations.scvi import ScviDataModule

BATCH, GENES, CELLS = 128, 2_000, 40_000
CASES = {f"{GENES:,} genes": GENES, "20,000 genes": None}


def consume(batches: Any, n_obs: int) -> None:
    assert sum(len(batch["X"]) for batch in batches) == n_obs


def by_annpipes(data: Any, genes: int | None) -> Any:
    chosen = {} if genes is None else {"genes": range(genes)}
    module = ScviDataModule(data, batch_key="batch", split={"train": 1.0}, batch_size=BATCH, block_size=64, **chosen)
    return module.train_dataloader()


def by_scvi(adata: anndata.AnnData, genes: int | None) -> Any:
    part = adata if genes is None else adata[:, :genes].copy()
    scvi.model.SCVI.setup_anndata(part, batch_key="batch")
    return AnnDataLoader(scvi.model.SCVI(part).adata_manager, shuffle=True, batch_size=BATCH)


def measure(genes: int | None, quick: bool) -> dict[str, Any]:
    path: Path = files.sparse_file(4_000 if quick else CELLS, "gzip")
    adata, turns = anndata.read_h5ad(path), 1 if quick else 5
    loaders = {
        "scvi": by_scvi(adata, genes),
        "from_gzip": by_annpipes(path, genes),
        "in_memory": by_annpipes(adata, genes),
    }
    contenders = {name: partial(consume, loader, adata.n_obs) for name, loader in loaders.items()}
    times = measuring.interleaved(contenders, turns, partial(measuring.warm, path))
    ours = ("from_gzip", "in_memory")
    return {
        **{f"{name}_cells_per_second": times.rate(name, adata.n_obs) for name in contenders},
        **{name: times.speed(name, "scvi") for name in ours},
        **{f"{name}_spread": times.spread(name, "scvi") for name in ours},
    }


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    scvi.settings.verbosity = logging.ERROR
    warnings.filterwarnings("ignore", "The 'train_dataloader' does not have many workers")
    measuring.main(CASES, measure, __doc__)
