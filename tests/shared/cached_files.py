"""Files read through a cache, and the files that the cache itself consists of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from storage_files import create, csr_of, matrix_values, read_x, relayout, write

from annpipes import Cache
from annpipes.stores import Store, kept_in, open_store

__all__ = ["ROWS", "cached", "files_of", "gzip_file", "present", "read_all"]

ROWS = 300


def gzip_file(path: Path, rows: int = ROWS, **options: Any) -> Path:
    """A CSR file of many small storage chunks."""
    path = write(path, csr_of(matrix_values(rows)))
    for part in ("data", "indices"):
        relayout(path, f"X/{part}", create(**{"chunks": 40, "compression": "gzip", **options}))
    return path


def cached(path: Path, folder: Path, size: int | str | None = "1GB") -> Store:
    """A file as a process sees it that has not read of it before."""
    return open_store(path, Cache(folder, size))  # type: ignore[arg-type] # a path is a path


def read_all(store: Store, seed: int = 0) -> tuple[Any, list[int]]:
    """All rows in a random order, by chunks and one by one, and the order."""
    drawn = np.random.default_rng(seed).permutation(store.n_obs).tolist()
    return read_x(store, drawn), drawn  # type: ignore[arg-type] # it takes stores, too


def files_of(folder: Path, name: str) -> list[Path]:
    """The files of this name (``data``, ``table``, ``about.json``) of all arrays."""
    return sorted(file for file in folder.glob(f"*/*/{name}") if not file.parent.name.startswith("."))


def present(folder: Path) -> tuple[int, int]:
    """How many storage chunks are kept, of how many."""
    kept = kept_in(str(folder))
    return sum(one.present for one in kept), sum(one.storage_chunks for one in kept)
