"""The Zarr stores of the corpus, with the anndata that runs this: ``python write_zarr.py FOLDER``.

What `write.py` writes as ``.h5ad``, as one store of everything, in a compressed archive; README.md says how each
environment is made. What a version cannot write as Zarr is left out, found by trying each piece alone.
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
import warnings
from functools import partial
from typing import Any

import anndata
import pandas as pd
from scipy import sparse
from write import (
    CELLS,
    MINOR,
    RECENT,
    VERSION,
    able,
    adata_of,
    labels,
    layers,
    nullable_numbers,
    numbers,
    obsm,
    values,
    var_of,
    with_raw,
    writable,
)


def write_zarr(adata: Any, path: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata.write_zarr(path)


able_as_zarr = partial(able, save=write_zarr, load=anndata.read_zarr, name="a.zarr")


def packed(folder: str, path: str) -> None:
    """A folder as an archive, in which its hundreds of small files take little room."""
    with tarfile.open(path, "w:xz", preset=9) as archive:
        for parent, _, names in sorted(os.walk(folder)):
            for name in sorted(names):
                whole = os.path.join(parent, name)
                archive.add(whole, os.path.relpath(whole, folder))


if __name__ == "__main__":
    if RECENT and MINOR < 13:
        anndata.settings.allow_write_nullable_strings = True
    columns = {**numbers(), **nullable_numbers(), **labels()}
    del columns["longdouble"]  # zarr 3 cannot read what zarr 2 wrote of it, so nor can anndata
    obs = pd.DataFrame(writable("obs", columns, able_as_zarr), index=pd.Index(CELLS, name="the barcode"))
    genes = var_of(["gène 1", "g.2", "3", "γ", "4 "]).rename_axis("gene id")
    x = sparse.csr_matrix(values("float32"))
    adata = adata_of(
        x, obs, genes, layers=writable("layers", layers(), able_as_zarr), obsm=writable("obsm", obsm(), able_as_zarr)
    )
    with_raw(adata, sparse.csr_matrix(values("float64", 40, n_vars=8)))
    with tempfile.TemporaryDirectory() as folder:
        write_zarr(adata, os.path.join(folder, "a.zarr"))
        packed(os.path.join(folder, "a.zarr"), os.path.join(sys.argv[1], f"anndata-{VERSION}.zarr.tar.xz"))
