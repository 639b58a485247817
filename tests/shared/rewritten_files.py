"""Small cells to be rewritten, and comparison of what became of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import hdf5plugin  # noqa: F401 # registers the filters that plain anndata needs
import numpy as np
import pandas as pd
from builders import dense, write
from scipy import sparse

SMALL = "604MB"  # hardly more than the program itself needs: several parts even of small files


def cells(path: Path, n_obs: int = 6000, n_vars: int = 300, seed: int = 0, compression: Any = "gzip") -> Path:
    """Rows that differ, of uneven length, sorted by label."""
    rng = np.random.default_rng(seed)
    x = sparse.csr_matrix(rng.integers(1, 200, (n_obs, n_vars)) * (rng.random((n_obs, n_vars)) < 0.2))
    adata = anndata.AnnData(x.astype(np.float32))
    adata.obs_names = [f"{seed}-{i}" for i in range(n_obs)]
    adata.obs["number"] = np.arange(n_obs)
    adata.obs["kind"] = np.array(["a", "b", "c"])[np.arange(n_obs) * 3 // max(n_obs, 1)]
    return write(adata, path, compression)


def assert_equal(found: Any, expected: Any) -> None:
    """Values of ``uns`` and of tables alike."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_equal(found[key], expected[key])
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    else:
        np.testing.assert_array_equal(found, expected)


def same_cells(found: anndata.AnnData, expected: anndata.AnnData) -> None:
    """Every row of every field, by name."""
    names = expected.obs_names
    places = found.obs_names.get_indexer(names)
    assert len(found) == len(names)
    assert sorted(places) == list(range(len(names)))
    assert_equal(found.obs.loc[names], expected.obs)
    assert_equal(found.var, expected.var)
    assert found.X.dtype == expected.X.dtype
    for theirs, ours in [
        (expected.X, found.X),
        *((expected.layers[key], found.layers[key]) for key in expected.layers),
        *((expected.obsm[key], found.obsm[key]) for key in expected.obsm),
        *([(expected.raw.X, found.raw.X)] if expected.raw is not None else []),
    ]:
        np.testing.assert_array_equal(dense(ours)[places], dense(theirs))
