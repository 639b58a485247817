"""Remote Zarr stores: on a web server, which lists nothing, and on file systems that do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import adata_of
from torch.utils.data import DataLoader
from web_servers import FAULTS, WebServer, calm, seen, serving
from zarr_stores import put, stored, written

from annpipes import AnnDataset, stream
from annpipes.errors import ChangedError
from annpipes.stores import open_store

pytest.importorskip("obstore")
FIELDS = ["X", "layers/counts", "obs/cell_type", "obs/donor:code", "obsm/X_pca", "rows"]
HOW: dict[str, Any] = {"batch_size": 8, "fields": FIELDS, "seed": 3, "block_size": 2}
NAMES = ("two.zarr", "three.zarr", "sharded.zarr")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("served")
    written(adata_of(), folder / "two.zarr", 2)
    written(adata_of(), folder / "three.zarr", 3)
    sharded = written(adata_of(), folder / "sharded.zarr", 3)
    for part in ("data", "indices"):
        put(sharded, f"X/{part}", chunks=(8,), shards=(24,))
    with serving(folder) as running:
        yield running


@pytest.fixture(autouse=True)
def _calm(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    calm(server, monkeypatch)


@pytest.mark.parametrize("name", NAMES)
def test_batches_from_a_web_server_are_those_of_the_local_store(server: WebServer, name: str) -> None:
    assert seen(stream(f"{server.url}/{name}", **HOW)) == seen(stream(server.folder / name, **HOW))


@pytest.mark.parametrize("name", NAMES)
def test_batches_through_fsspec_are_those_of_the_local_store(server: WebServer, name: str) -> None:
    assert seen(stream(f"file://{server.folder}/{name}", **HOW)) == seen(stream(server.folder / name, **HOW))


def test_matrices_are_read_by_the_engine(server: WebServer) -> None:
    assert open_store(f"{server.url}/sharded.zarr").route("X").kind == "direct"


@pytest.mark.parametrize("fault", FAULTS)
def test_failures_that_pass_change_nothing(server: WebServer, fault: str) -> None:
    server.fault = fault
    assert seen(stream(f"{server.url}/sharded.zarr", **HOW)) == seen(stream(server.folder / "sharded.zarr", **HOW))


def test_a_store_whose_objects_changed_is_refused(server: WebServer) -> None:
    path = written(adata_of(), server.folder / "changing.zarr", 3)
    loader = stream(f"{server.url}/changing.zarr", batch_size=8)
    for file in stored(path, "X/data"):
        file.write_bytes(file.read_bytes()[::-1])
    with pytest.raises(ChangedError, match=r"changing.zarr/X/data/c/0 changed since"):
        list(loader)


def test_a_fork_reads_the_same(server: WebServer) -> None:
    data, local = AnnDataset(f"{server.url}/sharded.zarr"), AnnDataset(server.folder / "sharded.zarr")
    loader = DataLoader(data, batch_size=8, num_workers=1, multiprocessing_context="fork")
    torch.testing.assert_close(torch.cat([one["X"] for one in loader]), torch.stack([one["X"] for one in local]))


def test_a_pattern_names_stores(server: WebServer, tmp_path: Path) -> None:
    for name in ("a.zarr", "b.zarr"):
        written(adata_of(), tmp_path / name)
    assert seen(stream(f"file://{tmp_path}/*.zarr", **HOW)) == seen(stream(f"{tmp_path}/*.zarr", **HOW))
