"""What a Loader says of its own speed, against what was done."""

from __future__ import annotations

import time

import anndata
import numpy as np
import pytest
import torch

import annpipes as ap


class Slow(ap.Transform):
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.002)
        return x


@pytest.fixture
def adata() -> anndata.AnnData:
    return anndata.AnnData(np.random.default_rng(0).poisson(1, (300, 40)).astype(np.float32))


def test_rows_are_counted_up_to_the_last_short_batch(adata: anndata.AnnData) -> None:
    loader = ap.stream(adata, 64)
    begin = time.perf_counter()
    assert sum(len(batch["X"]) for batch in loader) == 300
    assert loader.stats().cells_per_second >= 300 / (time.perf_counter() - begin)


def test_a_slow_transform_is_named(adata: anndata.AnnData) -> None:
    loader = ap.stream(adata, 64, transform=Slow())
    for _ in loader:
        pass
    assert loader.stats().transforming > 0.5
    assert "transforms took the most" in str(loader.stats())


def test_a_slow_consumer_is_told_that_data_is_not_the_limit(adata: anndata.AnnData) -> None:
    for _ in ap.stream(adata, 64):  # the first pass of a process imports and compiles
        pass
    loader = ap.stream(adata, 64)
    for _ in loader:
        time.sleep(0.05)
    assert loader.stats().waiting < 0.5


def test_whole_storage_chunks_show_as_amplification(adata: anndata.AnnData, tmp_path: object) -> None:
    path = f"{tmp_path}/cells.h5ad"
    adata.write_h5ad(path, compression="gzip")
    loader = ap.stream(path, 10, rows=[0], prefetch=0)
    for _ in loader:
        pass
    assert loader.stats().read_amplification > 10  # one row of a storage chunk of many


def test_nothing_measured_is_no_error(adata: anndata.AnnData) -> None:
    assert ap.stream(adata).stats().cells_per_second == 0
