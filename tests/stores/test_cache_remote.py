"""A cache of what is remote: each byte is asked for once, however it is stored there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
from builders import adata_of, write
from scipy import sparse
from web_servers import WebServer, seen, serving
from zarr_stores import put, written

from annpipes import AnnDataset, Cache, stream
from annpipes.stores import kept_in

pytest.importorskip("obstore")
pytestmark = pytest.mark.usefixtures("calm_server")
HOW: dict[str, Any] = {"batch_size": 16, "block_size": 4, "chunk_size": 64, "fields": ["X", "rows"], "seed": 2}
NAMES = ("gzip.h5ad", "csr.h5ad", "dense.h5ad", "tiles.h5ad", "wide.h5ad", "plain.zarr", "dense.zarr", "blosc.zarr")
N_OBS, N_VARS = 601, 900  # a dense row has 3,600 bytes, and the last piece of a contiguous X is not whole


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("served")
    x = sparse.random(N_OBS, N_VARS, 0.2, "csr", np.float32, 0)
    flat = anndata.AnnData(x.toarray())
    write(anndata.AnnData(x), folder / "gzip.h5ad", "gzip")
    write(anndata.AnnData(x), folder / "csr.h5ad")
    write(flat, folder / "dense.h5ad")
    write(anndata.AnnData(sparse.random(3, 200_000, 0.5, "csr", np.float32, 1).toarray()), folder / "wide.h5ad")
    write(flat, folder / "tiles.h5ad")
    with h5py.File(folder / "tiles.h5ad", "r+") as file:
        values, attributes = file["X"][:], dict(file["X"].attrs)
        del file["X"]
        file.create_dataset("X", data=values, chunks=(50, 400)).attrs.update(attributes)
    plain = written(anndata.AnnData(x), folder / "plain.zarr", 3)
    for part in ("data", "indices"):
        put(plain, f"X/{part}", chunks=(5000,), compressors=None)
    put(written(flat, folder / "dense.zarr", 3), "X", chunks=(70, 500), compressors=None)
    written(adata_of(N_OBS), folder / "blosc.zarr", 2)
    with serving(folder) as running:
        yield running


def asked_bytes(server: WebServer) -> int:
    """How many bytes were asked for by ranges."""
    areas = [area.removeprefix("bytes=").split("-") for _, _, area in server.log if area]
    return sum(int(last) - int(first) + 1 for first, last in areas)


@pytest.mark.parametrize("name", NAMES)
def test_later_epochs_ask_for_nothing(server: WebServer, tmp_path: Path, name: str) -> None:
    loader = stream(f"{server.url}/{name}", **HOW, cache=Cache(tmp_path / "kept", "1GB"))
    near = stream(server.folder / name, **HOW)
    assert seen(loader) == seen(near)
    assert {one.present for one in kept_in(tmp_path / "kept")} == {
        one.storage_chunks for one in kept_in(tmp_path / "kept")
    }
    server.denied = True
    for _ in range(2):
        assert seen(loader) == seen(near)
    assert loader.stats().cached == 1


@pytest.mark.parametrize("name", NAMES)
def test_another_process_would_ask_for_no_rows(server: WebServer, tmp_path: Path, name: str) -> None:
    kept = Cache(tmp_path / "kept", "1GB")
    list(stream(f"{server.url}/{name}", **HOW, cache=kept))
    loader = stream(f"{server.url}/{name}", **HOW, cache=kept)
    next(iter(stream(f"{server.url}/{name}", **HOW)))  # whatever opening asks for, has been asked for
    server.denied = True
    assert seen(loader) == seen(stream(server.folder / name, **HOW))


@pytest.mark.parametrize("cached", [True, False])
def test_of_a_contiguous_array_one_row_is_little(server: WebServer, tmp_path: Path, cached: bool) -> None:
    name = f"{server.url}/dense.h5ad"
    dataset = AnnDataset(name, cache=Cache(tmp_path / "kept", "1GB") if cached else None)
    dataset[0]
    server.log.clear()
    expected = anndata.read_h5ad(server.folder / "dense.h5ad").X
    for row in (N_OBS - 1, 100):
        assert (dataset[row]["X"].numpy() == expected[row]).all()
    assert asked_bytes(server) <= 2 * (256 << 10)


def test_without_room_all_is_asked_for_again(server: WebServer, tmp_path: Path) -> None:
    loader = stream(f"{server.url}/dense.h5ad", **HOW, cache=Cache(tmp_path / "kept", 600_000))
    near = stream(server.folder / "dense.h5ad", **HOW)
    for _ in range(3):
        assert seen(loader) == seen(near)
    assert sum(one.n_bytes for one in kept_in(tmp_path / "kept")) <= 600_000
    assert 0 < loader.stats().cached < 1
