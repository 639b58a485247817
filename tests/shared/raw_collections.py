"""A few small files whose raw has other genes in each, and what anndata makes of X and of raw together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from builders import counts, dense, matrix_of
from contracts import chunk_of
from small_collections import N_ROWS, concatenated, pieces, written

from annpipes.stores import Store

__all__ = ["IDS", "RAW_GENES", "ROWS", "SOURCES", "both", "compare_both", "raws", "source_of", "with_raw"]

RAW_GENES = (
    ["LYZ", "IL7R", "CD3E", "MS4A1", "NKG7", "GNLY"],
    ["FCER1A", "GNLY", "CD14", "LYZ", "CD3E"],
    ["PPBP", "CD3E", "CST3", "NKG7", "LYZ", "IL7R", "CD14", "GNLY"],
)
"""More than X has, in another order than there."""

IDS = {name: f"ENSG{i:011}" for i, name in enumerate(sorted({gene for genes in RAW_GENES for gene in genes}))}

ROWS = [15, 0, 7, 3, 12, 3, 11, 5, 4]
"""Of each file, some twice, in no order."""

SOURCES = ["memory", "view", "backed", "plain", "gzip", "zarr", "mixed"]


def with_raw(kind: str = "csr float32", *, int64: bool = False) -> list[anndata.AnnData]:
    """Three AnnData with ids in ``var`` and ``raw.var``; ``kind`` of raw, or three kinds with commas between."""
    kinds = kind.split(", ") * (3 if "," not in kind else 1)
    adatas = pieces()
    for number, (adata, genes, one) in enumerate(zip(adatas, RAW_GENES, kinds, strict=True)):
        shape = N_ROWS[number], len(genes)
        values = counts(*shape, seed=10 + number) + np.eye(*shape, k=1, dtype=int)
        matrix = matrix_of(values, *one.split())
        if int64 and one.startswith("csr"):
            matrix.indices, matrix.indptr = matrix.indices.astype("i8"), matrix.indptr.astype("i8")
        adata.var["id"] = [IDS[name] for name in adata.var_names]
        var = pd.DataFrame({"id": [IDS[name] for name in genes], "length": [len(name) for name in genes]}, genes)
        adata.raw = anndata.AnnData(matrix, obs=adata.obs[[]], var=var)
    return adatas


def raws(adatas: Sequence[anndata.AnnData], names: str | None = None) -> list[anndata.AnnData]:
    """Raw of each as an AnnData of its own, its genes called by a column of its var."""
    found = [adata.raw.to_adata() for adata in adatas]
    for adata in found:
        adata.var_names = adata.var_names if names is None else list(adata.var[names])
    return found


def both(adatas: Sequence[anndata.AnnData], join: Any, fill_value: float = 0) -> dict[str, anndata.AnnData]:
    """What anndata makes of X, and of raw, by batch key."""
    return {
        "X": concatenated(adatas, join, fill_value),
        "raw_X": concatenated(raws(adatas), join, fill_value),
    }


def compare_both(store: Store, expected: Mapping[str, anndata.AnnData], rows: Sequence[int] = ROWS) -> None:
    """Fail unless X and raw/X, read together, are what anndata has."""
    read = store.read(chunk_of(rows), ["X", "raw/X"])
    for key, whole in expected.items():
        np.testing.assert_array_equal(dense(read[key]), dense(whole.X)[list(rows)], err_msg=key)


def source_of(kind: str, adatas: list[anndata.AnnData], folder: Path) -> Iterator[tuple[Any, list[anndata.AnnData]]]:
    """The data for a collection, and what anndata has of each."""
    if kind == "memory":
        yield adatas, adatas
    elif kind == "view":
        views = [adata[::-1, ::-1] for adata in adatas]
        yield views, [view.copy() for view in views]
    elif kind == "zarr":
        zarr_stores = pytest.importorskip("zarr_stores", reason="Zarr stores need zarr 3 and anndata 0.12")
        paths = [zarr_stores.written(adata, folder / f"{i}.zarr") for i, adata in enumerate(adatas)]
        yield paths, [zarr_stores.expected(path) for path in paths]
    else:
        compressions = {"gzip": ("gzip",) * 3, "mixed": ("gzip", None, None)}.get(kind, (None,) * 3)
        paths = written(adatas, folder, compressions)
        whole = [anndata.read_h5ad(path) for path in paths]
        with ExitStack() as stack:
            if kind in ("plain", "gzip"):
                yield paths, whole
                return
            opened = [anndata.read_h5ad(path, backed="r") for path in paths]
            for one in opened:
                stack.callback(one.file.close)
            yield opened if kind == "backed" else [paths[0], whole[1], opened[2]], whole
