"""Some genes of a dense matrix that is cut along genes: storage chunks with none of them are left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from web_servers import WebServer, serving
from zarr_stores import dense_store, put, written

from annpipes import Collection, IndexSource, stream
from annpipes.stores import open_store

pytest.importorskip("obstore")
pytestmark = pytest.mark.usefixtures("calm_server")
WIDE = np.arange(20 * 23, dtype="f4").reshape(20, 23)
CHOICES = [[0], [22], [3, 22, 4], [21, 1], [7, 0, 14, 22, 8], list(range(23)), list(range(22, -1, -1))]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("served")
    dense_store(folder / "cells.zarr", 3, WIDE, chunks=(4, 5))
    dense_store(folder / "plain.zarr", 2, WIDE, chunks=(7, 6), compressors=None)
    dense_store(folder / "sharded.zarr", 3, WIDE, chunks=(4, 5), shards=(8, 10))
    anndata.AnnData(WIDE).write_h5ad(folder / "cells.h5ad")
    with serving(folder) as running:
        yield running


def columns_read(server: WebServer) -> set[int]:
    """Which columns of storage chunks were asked for."""
    return {int(path.rpartition("/")[2]) for _, path, span in server.log if "/X/c/" in path and span}


@pytest.mark.parametrize("genes", CHOICES, ids=str)
@pytest.mark.parametrize("name", ["cells.zarr", "plain.zarr", "sharded.zarr", "cells.h5ad"])
def test_chosen_genes_are_those_of_the_whole(server: WebServer, name: str, genes: list[int]) -> None:
    for place in (server.url, str(server.folder)):
        rows, found = zip(
            *((one["rows"], one["X"]) for one in stream(f"{place}/{name}", 6, fields=["X", "rows"], genes=genes)),
            strict=True,
        )
        assert np.array_equal(np.concatenate(found), WIDE[np.concatenate(rows)][:, genes])


@pytest.mark.parametrize(("genes", "columns"), [([0], {0}), ([22, 3], {0, 4}), ([6, 12, 7], {1, 2})])
def test_only_their_storage_chunks_are_asked_for(server: WebServer, genes: list[int], columns: set[int]) -> None:
    loader = stream(f"{server.url}/cells.zarr", 20, fields=["X"], genes=genes, block_size=4)
    server.log.clear()
    list(loader)
    assert columns_read(server) == columns


def test_all_are_asked_for_without_a_choice(server: WebServer) -> None:
    list(stream(f"{server.url}/cells.zarr", 20, fields=["X"], block_size=4))
    assert columns_read(server) == {0, 1, 2, 3, 4}


def test_genes_that_the_data_lacks_are_zeros(server: WebServer) -> None:
    genes = ["none", "21", "1", "nor this"]
    found = [
        one["X"].numpy()
        for one in stream(
            server.folder / "cells.zarr", 20, fields=["X"], genes=genes, missing_genes="fill", shuffle=False
        )
    ]
    nothing = np.zeros(20, "f4")
    assert np.array_equal(found[0], np.stack([nothing, WIDE[:, 21], WIDE[:, 1], nothing], axis=1))


def test_genes_of_files_that_are_joined(server: WebServer) -> None:
    """In an outer join of files with other genes, where a file is read by its own columns."""
    other = anndata.AnnData(WIDE[:, 10:] + 1000)
    other.var_names = [str(number) for number in range(10, 23)]
    path = written(other, server.folder / "other.zarr")
    put(path, "X", chunks=(4, 5))
    joined = Collection([f"{server.url}/cells.zarr", f"{server.url}/other.zarr"], join="outer", fill_value=-1)
    loader = stream(joined, 40, fields=["X"], genes=["22", "2", "12"], shuffle=False)
    server.log.clear()
    found = next(iter(loader))["X"].numpy()
    missing = np.full(20, -1, "f4")
    assert np.array_equal(found[:20], WIDE[:, [22, 2, 12]])
    assert np.array_equal(found[20:], np.stack([WIDE[:, 22] + 1000, missing, WIDE[:, 12] + 1000], axis=1))
    assert columns_read(server) == {0, 2, 4}


def test_what_a_cache_keeps_serves_other_genes_later(server: WebServer, tmp_path: Path) -> None:
    how: dict[str, Any] = {"batch_size": 20, "fields": ["X"], "shuffle": False, "cache": tmp_path / "decoded"}
    assert np.array_equal(next(iter(stream(f"{server.url}/cells.zarr", genes=[0], **how)))["X"], WIDE[:, [0]])
    loader = stream(f"{server.url}/cells.zarr", genes=[22], **how)
    server.log.clear()
    assert np.array_equal(next(iter(loader))["X"], WIDE[:, [22]])
    assert columns_read(server) == set()


def test_a_damaged_storage_chunk_is_told_with_its_rows(tmp_path: Path) -> None:
    path = dense_store(tmp_path / "cells.zarr", 3, WIDE, chunks=(4, 5))
    (path / "X" / "c" / "2" / "4").write_bytes(b"spoilt")
    assert IndexSource(path).n_obs == 20
    list(stream(path, 20, fields=["X"], genes=[0]))  # which it does not hold
    with pytest.raises(OSError, match=r"X of .*rows 8 … 11: storage chunk"):
        list(stream(path, 20, fields=["X"], genes=[22]))
    assert open_store(path).route("X").kind == "direct"
