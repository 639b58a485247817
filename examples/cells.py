"""The cells that examples read where they are given no file."""

from __future__ import annotations

from pathlib import Path


def write_pbmc(folder: str) -> str:
    """The path of 700 peripheral blood cells, X holding normalised counts."""
    import scanpy

    adata = scanpy.datasets.pbmc68k_reduced()
    adata.X = adata.raw.X.expm1()  # raw.X is their logarithm, X what is left after scaling
    path = Path(folder) / "pbmc68k_reduced.h5ad"
    adata.write_h5ad(path)
    return str(path)
