"""Small cells of perturbation screens, and the sets drawn of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from builders import adata_of, tiny, write

from annpipes import GroupSampler, IndexSource


def perturbed() -> anndata.AnnData:
    """80 cells: perturbed A (20), B (9), C (3), unknown (4), control (44); lines x and y in turn, C in x alone."""
    adata = tiny(80)
    genes = np.array(["A"] * 20 + ["B"] * 9 + ["C"] * 3 + [None] * 4 + ["control"] * 44, object)
    lines = np.array(["x", "y"], object)[np.arange(80) % 2]
    lines[29:32] = "x"
    adata.obs["gene"] = pd.Categorical(genes, ["A", "B", "C", "never seen", "control"])
    adata.obs["line"] = pd.Categorical(lines)
    adata.obs["share"] = np.arange(80) / 7
    adata.obs["lane"] = pd.Categorical(np.where(np.arange(80) % 5 == 4, None, "l"), ["l"])
    return adata


SHARED = perturbed()


GENE, LINE = SHARED.obs["gene"].astype(object).to_numpy(), SHARED.obs["line"].astype(object).to_numpy()


def sampler(groupby: Any = "gene", set_size: int = 4, rows: Any = None, **options: Any) -> GroupSampler:
    return IndexSource(SHARED, rows=rows, block_size=8).sample_groups(groupby, set_size, **options)


@pytest.fixture(scope="module", params=["dense", "csr"])
def cells(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, anndata.AnnData]:
    """A file of 29 cells, and what anndata holds of it."""
    path = write(adata_of(x=request.param), tmp_path_factory.mktemp("pairs") / "cells.h5ad", "gzip")
    return path, anndata.read_h5ad(path)
