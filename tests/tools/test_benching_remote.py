"""How fast what is remote is read, beside bare requests for the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from builders import adata_of, write
from storage_files import create, relayout
from web_servers import WebServer, serving
from zarr_stores import written, zipped

from annpipes import Cache, IndexSource, Remote, bench
from annpipes.errors import ChangedError, ParameterError
from annpipes.plans.schedule import Schedule
from annpipes.stores import BareReading, Threads

pytest.importorskip("obstore")
pytestmark = pytest.mark.usefixtures("calm_server")
ENCODED = {
    "gzip.h5ad": {"network", "decode", "copy", "densify"},
    "plain.h5ad": {"network", "copy", "densify"},
    "lzf.h5ad": {"hdf5", "densify"},
    "two.zarr": {"network", "decode", "copy", "densify"},
    "three.zarr.zip": {"network", "decode", "copy", "densify"},
}
BRIEF: dict[str, Any] = {"batch_size": 8, "chunk_size": 32, "seconds": 0.02}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("served")
    for codec in ("gzip", "lzf", None):
        write(adata_of(), folder / f"{codec or 'plain'}.h5ad", codec)
    pieces = write(adata_of(), folder / "pieces.h5ad")
    for part in ("data", "indices"):
        relayout(pieces, f"X/{part}", create(chunks=(16,), compression="gzip"))
    written(adata_of(), folder / "two.zarr", 2)
    zipped(written(adata_of(), folder / "three.zarr", 3), folder / "three.zarr.zip")
    with serving(folder) as running:
        yield running


def asked(server: WebServer) -> list[tuple[str, str, str]]:
    """Each request for bytes since the last time, in any order."""
    found = sorted(one for one in server.log if one[0] == "GET")
    server.log.clear()
    return found


@pytest.mark.parametrize("name", ENCODED)
def test_what_is_remote_is_measured_beside_the_network(server: WebServer, name: str) -> None:
    found = bench(f"{server.url}/{name}", **BRIEF)
    assert [(case.order, case.form) for case in found.cases] == [
        (order, form) for order in ("random", "blocks", "sequential") for form in ("csr", "dense")
    ]
    for case in found.cases:
        limits = {limit.name for limit in (*case.limits, case.disk, case.network) if limit}
        assert limits == ENCODED[name] - ({"densify"} if case.form == "csr" else set())
        assert case.network is None or case.at_most < 1.001 * case.network.cells_per_second
        assert case.binding in {"annpipes", *limits}
    assert found.requests == 32
    assert "read over the network, 32 requests at once" in " ".join(str(found).split())
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("name", ["gzip.h5ad", "pieces.h5ad", "two.zarr"])
def test_bare_requests_are_those_of_reading(server: WebServer, name: str) -> None:
    source = IndexSource(f"{server.url}/{name}", block_size=2)
    chunk = Schedule(source.shuffle_blocks().plan, 8, 24).epoch((0, 0)).chunk(0)
    work = BareReading(source.store, [chunk]).network()
    assert work is not None
    asked(server)  # how the file is laid out, and where rows begin
    source.store.read(chunk, ["X"])
    by_reading = asked(server)
    with Threads(work.at_once) as threads:
        threads.run_chunks(work.tasks)
    assert asked(server) == by_reading
    sizes = [1 + last - first for _, _, area in by_reading for first, last in [map(int, area[6:].split("-"))]]
    assert work.n_bytes == sum(sizes)


@pytest.mark.parametrize("name", ["gzip.h5ad", "pieces.h5ad", "two.zarr"])
def test_decoding_is_measured_from_memory(server: WebServer, name: str) -> None:
    source = IndexSource(f"{server.url}/{name}", block_size=2)
    epoch = Schedule(source.shuffle_blocks().plan, 8, 24).epoch((0, 0))
    with Threads() as threads:
        works = BareReading(source.store, [epoch.chunk(0), epoch.chunk(1)]).works(threads)
        server.denied = True
        for work in works:
            threads.run_chunks(work.tasks)
    assert {work.name for work in works} == {"decode", "copy"}


def test_a_network_that_is_slow_binds(server: WebServer) -> None:
    server.delay = 0.05
    found = bench(Remote(f"{server.url}/gzip.h5ad", requests=4), **BRIEF)
    assert {case.binding for case in found.cases} <= {"network", "annpipes"}
    assert "network" in {case.binding for case in found.cases}
    assert all(case.network and case.network.cells_per_second < 1000 for case in found.cases)
    assert "4 requests at once" in " ".join(str(found).split())


def test_what_a_cache_has_needs_no_network(server: WebServer, tmp_path: Path) -> None:
    found = bench(f"{server.url}/gzip.h5ad", cache=Cache(tmp_path, "1GB"), **BRIEF)
    assert found.from_cache == 1
    assert not any(case.network or case.disk for case in found.cases)


def test_other_loaders_are_measured_on_files(server: WebServer) -> None:
    with pytest.raises(ParameterError, match="against must be empty for remote data"):
        bench(f"{server.url}/gzip.h5ad", against="anndata", **BRIEF)


def test_a_file_that_changes_is_an_error_and_no_speed(server: WebServer) -> None:
    path = write(adata_of(), server.folder / "changing.h5ad", "gzip")
    server.delay = 0.01

    def change(done: int, total: int) -> None:
        with h5py.File(path, "r+") as file:
            file.attrs[f"at {done}"] = np.zeros(100)

    with pytest.raises(ChangedError, match=r"changing\.h5ad changed"):
        bench(f"{server.url}/changing.h5ad", progress=change, **BRIEF)
