"""A script for a DataLoader over arrays in memory, moved to an AnnDataset: what differs is side by side.

::

    python examples/moved.py
"""

from __future__ import annotations

import tempfile

import anndata
import torch
from cells import write_pbmc
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import annpipes as ap


def before(path: str) -> DataLoader:
    """Everything in memory, dense."""
    adata = anndata.read_h5ad(path)
    x = torch.log1p(torch.from_numpy(adata.X.toarray()))
    y = torch.from_numpy(adata.obs["bulk_labels"].cat.codes.to_numpy().astype("int64"))
    return DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)


def after(path: str) -> DataLoader:
    """Rows from the file as they are asked for; in a batch, each field has its name."""
    dataset = ap.AnnDataset(path, fields=["X", "obs/bulk_labels:code"], transform=ap.Log1p())
    return DataLoader(dataset, batch_size=64, shuffle=True, collate_fn=dataset.get_collate_fn(), num_workers=2)


def main(path: str) -> None:
    """The same loop over both."""
    for name, loader in {"arrays": before(path), "AnnDataset": after(path)}.items():
        torch.manual_seed(0)
        model = nn.Linear(765, 10)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(5):
            for batch in loader:
                x, y = batch if isinstance(batch, list) else (batch["X"], batch["obs_bulk_labels"])
                loss = cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        print(f"{name}: loss {loss.item():.2f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(write_pbmc(folder))
