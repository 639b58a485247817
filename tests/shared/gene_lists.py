"""Cells whose genes have ids of several kinds, in every kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import pandas as pd
import pytest
from builders import adata_of, write

__all__ = ["IDS", "SOURCES", "bare", "named", "source_of"]

IDS = [f"ENSG{100 + i:011}.{i + 1}" for i in range(11)]
"""The Ensembl ids of the genes of `named`, each with a version."""


def bare(ids: list[str]) -> list[str]:
    """Ids without their versions."""
    return [name.split(".")[0] for name in ids]


def named(x: str = "csr") -> anndata.AnnData:
    """29 cells, whose 11 genes have names, and ids of every kind that people keep beside them."""
    adata = adata_of(x=x)
    adata.var["feature_id"] = IDS
    adata.var["kind"] = pd.Categorical(["lncRNA", "coding"] * 5 + ["coding"])
    adata.var["symbol"] = [None if i == 4 else "TWICE" if i in (2, 7) else f"SYM{i}" for i in range(11)]
    adata.var["entrez"] = pd.array([None if i == 3 else 7000 + i for i in range(11)], dtype="Int64")
    adata.var["gc"] = [i / 11 for i in range(11)]
    raw = adata.raw.to_adata()
    raw.var_names = [f"gene-{i}" for i in range(14, -1, -1)]
    raw.var["feature_id"] = [f"ENSG{100 + i:011}.{i + 2}" for i in range(14, -1, -1)]  # of a later release
    adata.raw = raw
    return adata


SOURCES = ["csr", "dense", "csr_array", "view", "backed", "file csr", "file csr gzip", "file dense gzip", "zarr"]
SOURCES += ["list"]


def source_of(kind: str, folder: Path) -> Iterator[tuple[Any, anndata.AnnData]]:
    """A source, and what anndata has of it."""
    form, _, compression = kind.removeprefix("file ").partition(" ")
    if kind == "zarr":
        zarr_stores = pytest.importorskip("zarr_stores", reason="Zarr stores need zarr 3 and anndata 0.12")
        path = zarr_stores.written(named(), folder / "cells.zarr")
        yield path, zarr_stores.expected(path)
    elif kind.startswith("file") or kind in ("backed", "list"):
        path = write(named("dense" if form == "dense" else "csr"), folder / "cells.h5ad", compression or None)
        whole = anndata.read_h5ad(path)
        if kind == "backed":
            backed = anndata.read_h5ad(path, backed="r")
            yield backed, whole
            backed.file.close()
        elif kind == "list":
            joined, raw = (
                anndata.concat([one, one], merge="same", index_unique="-") for one in (whole, whole.raw.to_adata())
            )
            joined.raw = raw  # which concat leaves out
            yield [path, path], joined
        else:
            yield path, whole
    else:
        adata = named("csr" if kind == "view" else form)
        adata = adata[::-1, ::-1] if kind == "view" else adata
        yield adata, adata.copy()
