"""The files that benchmarks read: realistic, written by anndata, made once.

They lie in ``$ANNPIPES_BENCHMARKS`` (default: ``~/.cache/annpipes-benchmarks``) and need about
9 GB; the file of a million cells, read only by ``memory.py`` and made only with ``--million``, needs 10 GB more.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

CACHE = Path(os.environ.get("ANNPIPES_BENCHMARKS", "~/.cache/annpipes-benchmarks")).expanduser()
N_TYPES, N_BATCHES, GENES_PER_CELL = 12, 10, 1_200


def counts(n_obs: int, n_vars: int, types: np.ndarray, seed: int) -> sparse.csr_matrix:
    """Counts ``(n_obs, n_vars)``: long-tailed gene popularity, profiles by cell type, uneven depth."""
    rng = np.random.default_rng(seed)
    popularity = rng.lognormal(0, 1.8, n_vars)  # a few genes are everywhere, most are rare
    profiles = popularity * rng.lognormal(0, 0.7, (N_TYPES, n_vars))
    profiles *= _depth_for(profiles.mean(0), min(GENES_PER_CELL, n_vars // 4))
    parts = []
    for start in range(0, n_obs, 1_000):
        of_type = profiles[types[start : start + 1_000]].astype(np.float32)
        depth = rng.lognormal(0, 0.35, (len(of_type), 1)).astype(np.float32)
        rows, columns = np.nonzero(rng.random(of_type.shape, np.float32) < -np.expm1(-of_type * depth))
        values = rng.geometric(1 / (1 + np.minimum(of_type[rows, columns], 20))).astype(np.float32)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(of_type)))])
        parts.append(sparse.csr_matrix((values, columns.astype(np.int32), indptr), of_type.shape))
    return sparse.vstack(parts, format="csr")


def _depth_for(profile: np.ndarray, genes: int) -> float:
    """The factor at which a cell of this profile shows so many genes, by bisection."""
    low, high = 1e-9, 1e9
    for _ in range(100):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if -np.expm1(-profile * middle).sum() < genes else (low, middle)
    return low


def cells(n_obs: int, n_vars: int, seed: int = 0) -> ad.AnnData:
    """An AnnData whose obs are sorted by batch and cell type, as concatenated studies are."""
    rng = np.random.default_rng([seed, 1])
    batches = np.sort(rng.integers(0, N_BATCHES, n_obs))
    types = rng.choice(N_TYPES, n_obs, p=_shares())
    types = types[np.lexsort([types, batches])]
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical.from_codes(batches, [f"batch {i}" for i in range(N_BATCHES)]),
            "cell_type": pd.Categorical.from_codes(types, [f"type {i}" for i in range(N_TYPES)]),
        },
        index=[f"cell{i}" for i in range(n_obs)],
    )
    x = counts(n_obs, n_vars, types, seed)
    obs["n_genes"] = np.diff(x.indptr)
    return ad.AnnData(x, obs, pd.DataFrame(index=[f"gene{i}" for i in range(n_vars)]))


def _shares() -> np.ndarray:
    shares = 0.7 ** np.arange(N_TYPES)
    return shares / shares.sum()


def sparse_path(n_obs: int, compression: str | None) -> Path:
    """Where `sparse_file` and `million_file` put theirs."""
    return CACHE / f"csr-{n_obs}-{compression or 'plain'}.h5ad"


def sparse_file(n_obs: int, compression: str | None) -> Path:
    """Cells × 20,000 genes as CSR."""
    path = sparse_path(n_obs, compression)
    if not path.exists():
        other = sparse_path(n_obs, "gzip" if compression is None else None)
        adata = ad.read_h5ad(other) if other.exists() else cells(n_obs, 20_000)
        _write(adata, path, compression)
    return path


def parted_files(compression: str | None, parts: int = 10, *, permuted: bool = False) -> list[Path]:
    """The cells of the file of 200,000 in several files; their genes, if so wished, each in another order."""
    kind = "permuted" if permuted else compression or "plain"
    paths = [CACHE / f"csr-200000-{kind}-{part}-of-{parts}.h5ad" for part in range(parts)]
    if not all(path.exists() for path in paths):
        whole = ad.read_h5ad(sparse_file(200_000, compression))
        edges = np.linspace(0, whole.n_obs, parts + 1, dtype=int)
        for number, path in enumerate(paths):
            some = whole[edges[number] : edges[number + 1]]
            order = np.random.default_rng(number).permutation(whole.n_vars) if permuted else slice(None)
            _write(some[:, order].copy(), path, compression)
    return paths


def dense_file(compression: str | None = None) -> Path:
    """50,000 × 2,000 dense float32."""
    path = CACHE / f"dense-50000-{compression or 'plain'}.h5ad"
    if not path.exists():
        adata = cells(50_000, 2_000, seed=1)
        adata.X = adata.X.toarray()
        _write(adata, path, compression)
    return path


def million_file() -> Path:
    """A million cells, uncompressed: the file of 200,000 five times, joined on disk."""
    path = sparse_path(1_000_000, None)
    if not path.exists():
        part = sparse_file(200_000, None)
        unfinished = path.with_name(f"unfinished-{path.name}")  # anndata goes by the suffix
        ad.experimental.concat_on_disk({str(i): part for i in range(5)}, unfinished, index_unique="-")
        unfinished.rename(path)
    return path


def _write(adata: ad.AnnData, path: Path, compression: str | None) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    adata.write_h5ad(unfinished, compression=compression)
    unfinished.rename(path)


if __name__ == "__main__":
    sizes = [(n_obs, compression) for n_obs in (200_000, 20_000) for compression in (None, "gzip")]
    makers = [*(partial(sparse_file, *size) for size in sizes), dense_file]
    for make in [*makers, million_file] if "--million" in sys.argv else makers:
        made = make()
        print(made, f"{made.stat().st_size / 1e6:,.0f} MB")
