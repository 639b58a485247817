"""Tables of storage chunks of remote files are kept on this machine; requests are few, and told."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
from scipy import sparse
from web_servers import WebServer, serving

from annpipes import IndexSource, Loader, Remote, stream
from annpipes.stores.bytes.merging import Requesting, merged

pytest.importorskip("obstore")
ROWS, GENES = 6_000, 300


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("served")
    matrix = sparse.random(ROWS, GENES, 0.2, "csr", np.float32, random_state=np.random.default_rng(0))
    for name, compression in (("gzip", "gzip"), ("plain", None)):
        anndata.AnnData(matrix).write_h5ad(folder / f"{name}.h5ad", compression=compression)
    with serving(folder) as running:
        yield running


@pytest.fixture(autouse=True)
def cache(server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    server.calm()
    monkeypatch.setenv("ANNPIPES_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tables_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arrays whose tables are read from their file, from now on."""
    from annpipes.stores.containers import hdf5_tables

    seen, read = list[str](), hdf5_tables._entries
    monkeypatch.setattr(hdf5_tables, "_entries", lambda dataset, n: seen.append(dataset.name) or read(dataset, n))
    return seen


def sums(data: Any) -> list[float]:
    """The sum of X in each batch."""
    return [float(batch["X"].sum()) for batch in stream(data, 64, seed=1, block_size=16)]


def test_a_table_is_read_once(server: WebServer, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    read, url = tables_read(monkeypatch), f"{server.url}/gzip.h5ad"
    first = sums(url)
    assert {"/X/data", "/X/indices"} <= set(read)
    read.clear()
    assert sums(url) == first
    assert read == []
    assert sums(server.folder / "gzip.h5ad") == first
    assert {path.suffix for path in cache.iterdir()} == {".table"}


@pytest.mark.parametrize("spoil", [b"", b"annpipes table 1\n", None], ids=["empty", "cut off", "another number"])
def test_a_spoilt_table_is_made_anew(
    server: WebServer, monkeypatch: pytest.MonkeyPatch, cache: Path, spoil: bytes | None
) -> None:
    url = f"{server.url}/gzip.h5ad"
    first = sums(url)
    for path in cache.iterdir():
        content = bytearray(path.read_bytes())
        content[-9] ^= 1
        path.write_bytes(content if spoil is None else spoil)
    read = tables_read(monkeypatch)
    assert sums(url) == first
    assert "/X/data" in read


def test_a_table_of_another_version_is_not_taken(
    server: WebServer, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    path = server.folder / "changing.h5ad"
    anndata.AnnData(sparse.csr_matrix(np.eye(500, 40, dtype="f4"))).write_h5ad(path, compression="gzip")
    url = f"{server.url}/changing.h5ad"
    assert sum(sums(url)) == 40
    anndata.AnnData(sparse.csr_matrix(np.eye(500, 40, dtype="f4") * 3)).write_h5ad(path, compression="gzip")
    read = tables_read(monkeypatch)
    assert sum(sums(url)) == 120
    assert "/X/data" in read


def test_a_folder_that_cannot_be_written_does_no_harm(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ANNPIPES_CACHE_DIR", str(tmp_path / "file" / "within"))
    assert sums(f"{server.url}/gzip.h5ad") == sums(server.folder / "gzip.h5ad")


def test_a_table_that_cannot_be_finished_leaves_nothing(
    server: WebServer, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("annpipes.stores.containers.kept_tables.os.replace", full)
    assert sums(f"{server.url}/gzip.h5ad") == sums(server.folder / "gzip.h5ad")
    assert list(cache.iterdir()) == []


KILLED = """
import os, sys
from annpipes import stream
from annpipes.stores.containers import kept_tables
kept_tables.os.replace = lambda *_: os._exit(9)
stream(sys.argv[1], batch_size=8)
"""


def test_what_a_killed_process_left_is_not_taken_and_goes_in_time(server: WebServer, cache: Path) -> None:
    url = f"{server.url}/gzip.h5ad"
    assert subprocess.run([sys.executable, "-c", KILLED, url]).returncode == 9
    (left,) = cache.iterdir()
    assert sums(url) == sums(server.folder / "gzip.h5ad")
    assert left.exists()
    os.utime(left, (0, 0))
    for path in cache.glob("*.table"):
        path.unlink()
    sums(url)
    assert {path.suffix for path in cache.iterdir()} == {".table"}


@pytest.mark.parametrize("name", ["gzip", "plain"])
def test_neighbouring_ranges_are_one_request(server: WebServer, name: str) -> None:
    """Far fewer requests than storage chunks or blocks of rows, and `stats` tells how many."""
    source = IndexSource(Remote(f"{server.url}/{name}.h5ad", requests=8), block_size=16).shuffle_blocks()
    loader = Loader(source.sort_within_chunks(3_000).read_rows().batch_rows(500).collate_rows("csr"))
    server.calm()
    assert sum(len(batch["X"]) for batch in loader) == ROWS
    told = loader.stats()
    assert 2 <= told.requests_per_chunk <= 12
    assert told.requests_per_chunk == len(server.log) / 2
    with h5py.File(server.folder / f"{name}.h5ad") as file:
        whole = sum(file[f"X/{part}"].id.get_storage_size() for part in ("data", "indices"))
    assert whole * 0.4 < told.received_per_chunk * 1e6 < whole * 1.1


def test_what_a_cache_has_is_not_asked_for_again(server: WebServer, tmp_path: Path) -> None:
    """By those who find it there, and have yet to compare checksums, too; what is spoilt is asked for."""

    def passed() -> tuple[float, float]:
        loader = stream(f"{server.url}/gzip.h5ad", 500, form="csr", seed=1, cache=tmp_path / "decoded")
        total = sum(float(batch["X"].to_dense().sum()) for batch in loader)
        return total, loader.stats().received_per_chunk

    total, received = passed()
    assert received > 0
    assert passed() == (total, 0)
    for path in (tmp_path / "decoded").rglob("data"):
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        path.write_bytes(content)
    again, asked = passed()
    assert again == total
    assert 0 < asked < received / 2


def test_local_reading_makes_no_requests(server: WebServer) -> None:
    loader = stream(server.folder / "gzip.h5ad", 500, form="csr")
    list(loader)
    assert (loader.stats().requests_per_chunk, loader.stats().received_per_chunk) == (0, 0)


def test_ranges_are_merged_while_a_gap_costs_less_than_a_request() -> None:
    cost = Requesting(gap=10, largest=100, at_once=1)
    firsts, lengths = np.array([0, 15, 40, 45, 90, 130]), np.array([10, 10, 5, 5, 40, 1])
    parts = merged(firsts, lengths, cost)
    assert [firsts[start:stop].tolist() for start, stop in parts] == [[0, 15], [40, 45], [90, 130]]
    assert merged(firsts[:0], lengths[:0], cost) == []
    assert len(merged(np.array([50, 0]), np.array([5, 5]), cost)) == 2  # backwards
