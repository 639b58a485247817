"""Small AnnData objects such as people have, and files made of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["N_OBS", "N_VARS", "adata_of", "counts", "dense", "expected_column", "matrix_of", "obs_of", "tiny", "write"]

N_OBS, N_VARS = 29, 11


def counts(n_obs: int = N_OBS, n_vars: int = N_VARS, seed: int = 0) -> NDArray[np.int64]:
    """Counts in which few genes are common and most are rare; every seventh cell and the last one are empty."""
    popularity = 6.0 / np.arange(1, n_vars + 1) ** 1.2
    values = np.random.default_rng(seed).poisson(popularity, (n_obs, n_vars))
    values[::7] = 0
    values[-1:] = 0
    return values


def obs_of(n_obs: int = N_OBS) -> pd.DataFrame:
    """One column of each kind that an ``.h5ad`` file can hold."""
    rng = np.random.default_rng(1)
    obs = pd.DataFrame(index=[f"cell-{i}" for i in range(n_obs)])
    for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        limits = np.iinfo(kind)
        obs[kind] = rng.integers(limits.min, min(limits.max, 2**62), n_obs, dtype=kind, endpoint=True)
    for kind in ("float16", "float32", "float64"):
        obs[kind] = np.where(np.arange(n_obs) % 5 == 2, np.nan, rng.normal(size=n_obs)).astype(kind)
    absent = np.arange(n_obs) % 4 == 1
    obs["bool"] = rng.random(n_obs) < 0.4
    obs["barcode"] = [f"AC{i:03}GT" for i in rng.permutation(n_obs)]  # all differ: stays an array of strings
    obs["donor"] = rng.choice(["d1", "d2", "dritte Spenderin"], n_obs)  # repeats: written as categories
    obs["cell_type"] = pd.Categorical(rng.choice(["T", "B", "NK"], n_obs), ["T", "never seen", "B", "NK"])
    obs.loc[absent, "cell_type"] = None
    obs["stage"] = pd.Categorical(rng.choice(["late", "early"], n_obs), ["early", "late"], ordered=True)
    obs["lane"] = pd.Categorical(rng.choice([10, 2], n_obs))
    obs["note"] = pd.array([None if i % 3 else f"note {i}" for i in range(n_obs)], dtype="string")
    obs["alias"] = pd.array([f"cell no. {i}" for i in range(n_obs)], dtype="string")
    obs["nullable_int"] = pd.array(rng.integers(-5, 5, n_obs), dtype="Int64")
    obs["nullable_int_absent"] = pd.array(np.where(absent, None, rng.integers(-5, 5, n_obs)), dtype="Int32")
    obs["nullable_bool"] = pd.array(rng.random(n_obs) < 0.5, dtype="boolean")
    obs["nullable_bool_absent"] = pd.array(np.where(absent, None, rng.random(n_obs) < 0.5), dtype="boolean")
    return obs


def matrix_of(values: NDArray[Any], form: str, dtype: str) -> Any:
    """``values`` as a matrix of anndata."""
    makers = {"dense": np.asarray, "csr": sparse.csr_matrix, "csr_array": sparse.csr_array, "csc": sparse.csc_matrix}
    return makers[form](values.astype(dtype))


def adata_of(n_obs: int = N_OBS, n_vars: int = N_VARS, *, x: str = "csr", dtype: str = "float32") -> anndata.AnnData:
    """An AnnData with every field: X in the form asked for, and of each other slot a dense and a sparse matrix."""
    rng = np.random.default_rng(2)
    values = counts(n_obs, n_vars)
    # Halves and thirds where X holds fractions: float64 must not pass through float32 on its way.
    shown = values / rng.integers(1, 4, values.shape) if np.dtype(dtype).kind == "f" else values
    adata = anndata.AnnData(
        matrix_of(shown, x, dtype),
        obs=obs_of(n_obs),
        var=pd.DataFrame(index=[f"gene-{i}" for i in range(n_vars)]),
        layers={"counts": sparse.csr_matrix(values.astype(np.int32)), "logged": np.log1p(values)},
        obsm={"X_pca": rng.normal(size=(n_obs, 3)), "near": sparse.random(n_obs, n_obs, 0.2, "csr", random_state=rng)},
    )
    whole = counts(n_obs, n_vars + 4, seed=3).astype(np.float32)
    adata.raw = anndata.AnnData(sparse.csr_matrix(whole), obs=adata.obs[[]])
    return adata


def tiny(n_obs: int, n_vars: int = 3) -> anndata.AnnData:
    """An AnnData in which ``X[i, j] = 100 i + j``: a row tells which one it is."""
    values = 100.0 * np.arange(n_obs)[:, None] + np.arange(n_vars)
    obs = pd.DataFrame({"number": np.arange(n_obs)}, index=[f"c{i}" for i in range(n_obs)])
    return anndata.AnnData(values.astype(np.float32), obs=obs)


def write(adata: anndata.AnnData, path: str | os.PathLike[str], compression: Any = None) -> Path:
    """The path of ``adata`` as a file."""
    with anndata.settings.override(allow_write_nullable_strings=True):
        adata.copy().write_h5ad(path, compression=compression)  # a copy: writing turns strings to categories
    return Path(path)


def dense(values: Any) -> NDArray[Any]:
    """Any matrix as a plain array, by scipy's arithmetic."""
    if hasattr(values, "indptr") and not sparse.issparse(values):  # our SparseRows
        assert values.indptr[0] == 0
        values = sparse.csr_matrix((values.data, values.indices, values.indptr), values.shape)
    return values.toarray() if sparse.issparse(values) else np.asarray(values)


def expected_column(column: pd.Series[Any]) -> NDArray[Any]:
    """What is documented for an obs column: numbers as they are, the rest strings, "" or NaN where missing."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        return column.to_numpy()
    if pd.api.types.is_numeric_dtype(column.dtype) and not isinstance(column.dtype, pd.CategoricalDtype):
        kind = np.dtype(float) if column.isna().any() else column.dtype.numpy_dtype
        return np.array([np.nan if value is pd.NA else value for value in column], kind)
    return np.array(["" if pd.isna(value) else str(value) for value in column], object)
