"""Train scVI from an .h5ad file, and see whether neighbors in its latent space are cells of one type.

::

    python examples/scvi_pbmc.py                                             # 700 real cells, which ship with scanpy
    python examples/scvi_pbmc.py FILE --batch donor --label cell_type --out latents.npy    # yours: counts in X

It needs scvi-tools: ``pip install 'annpipes[scvi]' scanpy``. scVI models counts. The cells that ship with scanpy
have only logarithms of normalized counts, ``log(1 + 10,000 · count / n_counts)``, but ``n_counts``, the total of
each cell over all genes, is in obs. So the counts can be computed, and each comes out as a whole number to
within a tenth, because the logarithms have three decimals. The file has 765 of the genes.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import scvi
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from annpipes.integrations.scvi import ScviDataModule


def main(path: str, batch: str | None, label: str, layer: str | None, epochs: int, out: str | None) -> None:
    """Train, and tell how well neighbours know a cell's type."""
    scvi.settings.seed = 0
    dm = ScviDataModule(path, batch_key=batch, layer=layer)
    model = scvi.model.SCVI(registry=dm.registry)
    with tempfile.TemporaryDirectory() as scvi.settings.logging_dir:
        model.train(max_epochs=epochs, datamodule=dm, check_val_every_n_epoch=epochs, enable_progress_bar=False)
    losses = model.history["elbo_train"]["elbo_train"].astype(float)
    print(f"{dm.n_obs:,} cells of {dm.n_vars:,} genes: loss {losses.iloc[0]:.0f}, in the end {losses.iloc[-1]:.0f}")

    latents = model.get_latent_representation(dataloader=dm.inference_dataloader())  # (n_obs, 10)
    types = dm.source.obs[label].astype(str).to_numpy()  # (n_obs,)
    most = np.unique(types, return_counts=True)[1].max() / len(types)
    found = cross_val_score(KNeighborsClassifier(15), latents, types, cv=3).mean()
    print(f"15 neighbours tell {label} of {found:.0%}; {most:.0%} have the most frequent one")
    if out is not None:
        np.save(out, latents)


def write_counts(folder: str) -> str:
    """The path of 700 peripheral blood cells with their counts, compressed with gzip."""
    import scanpy
    from scipy.sparse import csr_matrix

    cells = scanpy.datasets.pbmc68k_reduced()
    adata = cells.raw.to_adata()
    scaled = adata.X.expm1().multiply(cells.obs["n_counts"].to_numpy()[:, None] / 1e4).tocsr()
    if abs(scaled.data - scaled.data.round()).max() > 0.1:
        raise SystemExit("these are no counts: scanpy's cells are others than they were")
    adata.X = csr_matrix(scaled.rint(), dtype=np.float32)
    path = Path(folder) / "pbmc_counts.h5ad"
    adata.write_h5ad(path, compression="gzip")
    return str(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train scVI from an .h5ad file.")
    parser.add_argument("file", nargs="?", help="an .h5ad with counts (default: 700 cells that ship with scanpy)")
    parser.add_argument("--batch", help="the obs column of batches")
    parser.add_argument("--label", default="bulk_labels", help="the obs column of cell types")
    parser.add_argument("--layer", help="the layer with counts, if X has none")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--out", help="where to save the latents, (cells, 10)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        main(given.file or write_counts(folder), given.batch, given.label, given.layer, given.epochs, given.out)
