"""Bytes of files flipped at random: right rows or a clean error, and the interpreter lives on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anndata
import hdf5plugin
import numpy as np
import pandas as pd
import pytest
from storage_files import create, csr_of, matrix_values, relayout
from storage_fuzzing import fuzz

CASES = int(os.environ.get("ANNPIPES_FUZZ_CASES", "300"))
"""Damaged copies of each file."""

BASES: dict[str, tuple[str, str, dict[str, dict[str, Any]]]] = {
    "as anndata writes it": ("csr", "earliest", {}),
    "csr, gzip": (
        "csr",
        "earliest",
        {"data": {"chunks": 16, "compression": "gzip"}, "indices": {"chunks": 20, "compression": "gzip"}},
    ),
    "csr, gzip, latest format": (
        "csr",
        "latest",
        {"data": {"chunks": 16, "compression": "gzip"}, "indices": {"chunks": 20, "compression": "gzip"}},
    ),
    "csr, gzip and checksums": (
        "csr",
        "earliest",
        {
            "data": {"chunks": 16, "shuffle": True, "compression": "gzip", "fletcher32": True},
            "indices": {"chunks": 16, "fletcher32": True},
        },
    ),
    "csr, plain": ("csr", "earliest", {"data": {"chunks": 16}, "indices": {}}),
    "csr, LZ4 and Blosc": (
        "csr",
        "earliest",
        {"data": {"chunks": 32, **hdf5plugin.LZ4()}, "indices": {"chunks": 32, **hdf5plugin.Blosc()}},
    ),
    "dense, gzip": ("dense", "earliest", {"": {"chunks": 8, "compression": "gzip"}}),
    "dense, Zstd": ("dense", "latest", {"": {"chunks": 8, **hdf5plugin.Zstd()}}),
}


@pytest.mark.parametrize("name", BASES)
def test_flipped_bytes_give_right_rows_or_a_clean_error(tmp_path: Path, name: str) -> None:
    form, libver, layouts = BASES[name]
    values = matrix_values()
    obs = pd.DataFrame(
        {"kind": pd.Categorical(np.resize(["T", "B", "NK"], 23)), "score": np.arange(23.0)},
        index=[f"c{i}" for i in range(23)],
    )
    path = tmp_path / "base.h5ad"
    anndata.AnnData(values if form == "dense" else csr_of(values), obs=obs).write_h5ad(path, compression="gzip")
    for part, options in layouts.items():
        relayout(path, f"X/{part}".rstrip("/"), create(**options), libver=libver)
    wrong, _ = fuzz(path, seed=sorted(BASES).index(name), count=CASES)
    assert not wrong, f"{len(wrong)} of {CASES}:\n" + "\n".join(wrong[:5])
