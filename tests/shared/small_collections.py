"""A few small files that differ in every way files of one atlas do, and what anndata makes of them together."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from builders import counts, dense, expected_column, matrix_of, write
from contracts import chunk_of

from annpipes.stores import Store

__all__ = ["GENES", "N_ROWS", "compare", "concatenated", "pieces", "spoil", "written"]

GENES = (
    ["CD3E", "LYZ", "MS4A1", "NKG7", "GNLY"],
    ["GNLY", "CD14", "LYZ", "CD3E"],  # other ones, in another order
    ["PPBP", "NKG7", "LYZ", "CD3E", "CD14", "GNLY"],
)
N_ROWS = (5, 7, 4)


def pieces(*kinds: str) -> list[anndata.AnnData]:
    """Three AnnData with other genes, categories and dtypes; kinds: ``"csr float32"`` and the like."""
    made = []
    for number, (genes, n_obs, kind) in enumerate(zip(GENES, N_ROWS, kinds or ["csr float32"] * 3, strict=True)):
        form, dtype = kind.split()
        values = counts(n_obs, len(genes), seed=number) + np.eye(n_obs, len(genes), dtype=int)
        values[-1] = 0  # an empty row
        donors = [f"d{number}", f"d{number + 1}", f"d{number}"]  # one of them is also in the next file
        obs = pd.DataFrame(
            {
                "donor": pd.Categorical(np.resize(donors, n_obs)),
                "n_genes": (values > 0).sum(1).astype(["int32", "int64", "uint8"][number]),
                "quality": np.arange(n_obs, dtype=["float32", "float64", "float32"][number]) / 4,
                "batch": [number] * n_obs if number != 1 else pd.Categorical(["one"] * n_obs),  # numbers and labels
            },
            index=[f"cell-{number}-{i}" for i in range(n_obs)],
        )
        layers = {"counts": matrix_of(values, ["csr", "dense", "csr"][number], "int32")}
        adata = anndata.AnnData(matrix_of(values, form, dtype), obs=obs, var=pd.DataFrame(index=genes), layers=layers)
        adata.obsm["X_pca"] = np.random.default_rng(number).normal(size=(n_obs, 2))
        made.append(adata)
    return made


def written(adatas: Sequence[anndata.AnnData], folder: Path, compressions: Sequence[Any] = (None,) * 3) -> list[Path]:
    """The paths of ``0.h5ad``, ``1.h5ad`` …"""
    return [
        write(adata, folder / f"{number}.h5ad", compression)
        for number, (adata, compression) in enumerate(zip(adatas, compressions, strict=True))
    ]


def concatenated(adatas: Sequence[anndata.AnnData], join: Any, fill_value: float = 0) -> anndata.AnnData:
    """What anndata makes of them, its genes in the documented order of ours."""
    with warnings.catch_warnings():
        # pandas on columns without rows, scipy on filling sparse matrices: neither is about what comes out.
        warnings.simplefilter("ignore")
        joined = anndata.concat(adatas, join="inner" if join == "inner" else "outer", fill_value=fill_value)
    genes = list(dict.fromkeys(gene for adata in adatas for gene in adata.var_names))
    if isinstance(join, str):
        return joined[:, [gene for gene in genes if gene in joined.var_names]].copy()
    return joined[:, list(join)].copy()


def compare(store: Store, expected: anndata.AnnData, drawn: Sequence[int], fields: Sequence[str]) -> None:
    """Fail unless the store gives of these rows what anndata has."""
    places = list(drawn)
    read = store.read(chunk_of(places), fields)
    for field in fields:
        group, _, key = field.partition("/")
        values = read[field.replace("/", "_")]
        if group == "obs":
            wanted = expected_column(expected.obs[key])[places]
        else:
            wanted = dense(getattr(expected, group)[key] if key else expected.X)[places]
            values = dense(values)
        np.testing.assert_array_equal(values, wanted, err_msg=field)


def spoil(path: Path, name: str = "X/data") -> None:
    """Overwrite the bytes of the first storage chunk."""
    with h5py.File(path) as file:
        stored = file[name].id.get_chunk_info(0)
    with path.open("r+b") as file:
        file.seek(stored.byte_offset)
        file.write(b"\xa5" * stored.size)
