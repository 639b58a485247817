"""An autoencoder of counts on the most variable genes, conditioned on library size and batch.

::

    python examples/autoencoder.py                      # 700 real cells, with `phase` in place of a batch
    python examples/autoencoder.py FILE --batch donor   # yours: counts in X
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np
import scanpy
import torch
from cells import write_pbmc
from torch import Tensor, nn
from torch.nn.functional import one_hot, poisson_nll_loss

import annpipes as ap


class Autoencoder(nn.Module):
    """Rates of genes from 16 numbers, the batch and the library size."""

    def __init__(self, n_genes: int, n_batches: int) -> None:
        super().__init__()
        self.n_batches = n_batches
        self.encoder = nn.Sequential(nn.Linear(n_genes, 64), nn.ReLU(), nn.Linear(64, 16))
        self.decoder = nn.Sequential(nn.Linear(16 + n_batches, 64), nn.ReLU(), nn.Linear(64, n_genes))

    def forward(self, x: Tensor, batch: Tensor, library: Tensor) -> Tensor:
        code = torch.cat([self.encoder(torch.log1p(x)), one_hot(batch, self.n_batches).float()], dim=1)
        return library.log()[:, None] + self.decoder(code).log_softmax(dim=1)  # of the rates


def variable_genes(path: str, count: int) -> np.ndarray:
    """The positions of the genes that vary most, by scanpy, from some cells of the file."""
    some = np.random.default_rng(0).permutation(ap.IndexSource(path).n_obs)[:5_000]
    adata = scanpy.AnnData(torch.cat([batch["X"] for batch in ap.stream(path, rows=np.sort(some))]).numpy())
    scanpy.pp.log1p(adata)
    return np.argsort(-scanpy.pp.highly_variable_genes(adata, inplace=False)["dispersions_norm"].fillna(0))[:count]


def main(path: str, batch: str, n_genes: int, epochs: int) -> None:
    """Train, and say what became of the loss."""
    loader = ap.stream(
        path, 64, fields=["X", f"obs/{batch}:code", "obs/n_counts"], genes=variable_genes(path, n_genes), seed=0
    )
    model = Autoencoder(loader.n_vars, len(loader.categories(batch)))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(epochs):
        for cells in loader:
            rates = model(cells["X"], cells[f"obs_{batch}"], cells["obs_n_counts"].float())
            loss = poisson_nll_loss(rates, cells["X"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    first, last = np.mean(losses[:5]), np.mean(losses[-5:])
    print(f"{loader.n_vars} genes, {loader.n_obs} cells: loss {first:.2f}, in the end {last:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train an autoencoder of counts.")
    parser.add_argument("file", nargs="?", help="an .h5ad with counts in X and n_counts in obs")
    parser.add_argument("--batch", default="phase", help="the obs column of batches")
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        main(given.file or write_pbmc(folder), given.batch, given.genes, given.epochs)
