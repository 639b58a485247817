"""Zarr stores wherever files may stand: mixed with them, in patterns, workers, items, samplers and when resuming."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch
from builders import adata_of, write
from contracts import opened
from torch.utils.data import DataLoader
from zarr_stores import stored, written, zarr, zipped

from annpipes import AnnDataset, Collection, IndexSource, stream
from annpipes.errors import StateError
from annpipes.stores import open_store

FIELDS = ["X", "layers/counts", "obs/cell_type", "obs/donor:code", "obsm/X_pca", "rows"]


@pytest.fixture(scope="module")
def adata() -> anndata.AnnData:
    return adata_of()


@pytest.fixture(scope="module")
def h5ad(tmp_path_factory: pytest.TempPathFactory, adata: anndata.AnnData) -> Path:
    return write(adata, tmp_path_factory.mktemp("file") / "cells.h5ad")


@pytest.fixture(scope="module", params=[2, 3])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, adata: anndata.AnnData) -> Path:
    return written(adata, tmp_path_factory.mktemp("store") / "cells.zarr", request.param)


def same_batches(one: Any, other: Any) -> None:
    for ours, theirs in zip(one, other, strict=True):
        assert ours.keys() == theirs.keys()
        for key, values in ours.items():
            equal = torch.equal(values, theirs[key]) if isinstance(values, torch.Tensor) else values == theirs[key]
            assert equal is True or np.all(equal), key


def test_the_order_is_that_of_a_file_with_the_same_rows(path: Path, h5ad: Path) -> None:
    how: dict[str, Any] = {"fields": FIELDS, "block_size": 2, "chunk_size": 8}
    same_batches(stream(path, 4, **how), stream(h5ad, 4, **how))


@pytest.mark.parametrize("method", ["thread", "process"])
def test_workers_change_nothing(path: Path, method: Any) -> None:
    how: dict[str, Any] = {"fields": FIELDS, "block_size": 2, "chunk_size": 8, "seed": 3}
    same_batches(list(stream(path, 4, **how)), list(stream(path, 4, num_workers=2, method=method, **how)))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_processes_of_a_plain_data_loader_read_it(path: Path, adata: anndata.AnnData, start: str) -> None:
    dataset = AnnDataset(path, fields=["X", "obs/cell_type:code"])
    assert torch.equal(dataset[3]["X"], torch.as_tensor(adata.X[[3]].toarray()[0]))  # opened here before
    loader = DataLoader(dataset, batch_size=10, num_workers=2, multiprocessing_context=start)
    assert torch.equal(torch.cat([batch["X"] for batch in loader]), torch.as_tensor(adata.X.toarray()))


def test_a_pass_is_resumed_and_only_over_the_same_rows(path: Path, h5ad: Path) -> None:
    how: dict[str, Any] = {"fields": ["rows"], "block_size": 1, "seed": 1}
    whole = [batch["rows"].tolist() for batch in stream(path, 4, **how)]
    loader = stream(path, 4, **how)
    batches = iter(loader)
    seen = [next(batches)["rows"].tolist() for _ in range(3)]
    state = loader.state_dict()
    again = stream(path, 4, **how)
    again.load_state_dict(state)
    assert seen + [batch["rows"].tolist() for batch in again] == whole
    with pytest.raises(StateError):
        stream(h5ad, 4, **how).load_state_dict(state)


def test_files_and_stores_are_mixed(path: Path, h5ad: Path, adata: anndata.AnnData, tmp_path: Path) -> None:
    archive = zipped(path, tmp_path / "cells.zarr.zip")
    source = IndexSource([h5ad, path, adata, archive])
    read = source.sort_within_chunks(4 * adata.n_obs).read_rows(["X", "obs/cell_type", "layers/logged", "file"])
    batch = next(iter(read))
    assert np.array_equal(batch["X"].to_dense(), np.concatenate([adata.X.toarray()] * 4))
    assert np.array_equal(batch["layers_logged"], np.concatenate([adata.layers["logged"]] * 4))
    assert batch["file"].tolist() == np.repeat(range(4), adata.n_obs).tolist()
    assert Collection([h5ad, path, adata, archive]).n_vars == adata.n_vars


def test_patterns_name_stores(tmp_path: Path, adata: anndata.AnnData) -> None:
    for name in ("b", "a"):
        written(adata[:5] if name == "a" else adata, tmp_path / f"{name}.zarr")
    assert open_store(str(tmp_path / "*.zarr")).files == (str(tmp_path / "a.zarr"), str(tmp_path / "b.zarr"))
    assert open_store(tmp_path / "*.zarr").n_obs == 5 + adata.n_obs


def test_a_store_of_several_is_a_collection_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "collection.zarr"
    group = zarr.open_group(folder, mode="w")
    group.attrs["encoding-type"] = "annbatch-preshuffled"
    for number in range(11):
        part = adata_of()[:2].copy()
        part.obs["number"] = number
        written(part, folder / f"dataset_{number}")
    source = IndexSource(folder)
    assert source.obs["number"].tolist() == np.repeat(range(11), 2).tolist()
    assert [os.path.basename(file) for file in source.files][-2:] == ["dataset_9", "dataset_10"]
    assert sum(len(batch["rows"]) for batch in stream(folder, 8, fields=["X", "rows"])) == 22
    assert open_store(folder / "dataset_3").n_obs == 2


def test_no_file_stays_open_after_closing(path: Path) -> None:
    store = open_store(path)
    store.read(next(iter(IndexSource(path).sort_within_chunks(9))), ["X"])
    assert any(opened(file) for file in stored(path, "X/data"))
    store.close()
    assert not any(opened(file) for file in stored(path, "X/data"))
