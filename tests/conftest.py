"""Fixtures that several test files share."""

from __future__ import annotations

import gc
from pathlib import Path

import anndata
import pytest
import torch
from builders import adata_of, tiny, write
from hypothesis import HealthCheck, settings
from web_servers import WebServer

# No deadline: the first read of a file compiles and imports. No database: what fails must fail for everybody.
settings.register_profile(
    "annpipes", deadline=None, database=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("annpipes")


def pytest_configure(config: pytest.Config) -> None:
    # A machine with one core is told that two workers are many; they are what is being tested.
    config.addinivalue_line("filterwarnings", "ignore:This DataLoader will create 2 worker processes:UserWarning")
    # Python 3.12 warns of every fork of a process with threads, which torch and HDF5 libraries start.
    config.addinivalue_line("filterwarnings", "ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(autouse=True)
def _torch_seed() -> None:
    """torch draws the orders of plain DataLoaders from its global generator; begin each test alike."""
    torch.manual_seed(0)


@pytest.fixture
def adata() -> anndata.AnnData:
    """29 cells with every kind of field, X as CSR."""
    return adata_of()


@pytest.fixture(scope="session")
def h5ad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file; its X is ``float32``."""
    return write(adata_of(), tmp_path_factory.mktemp("shared") / "cells.h5ad", "gzip")


@pytest.fixture(scope="session")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 40 cells in which ``X[i, 0] = 100 i``."""
    return write(tiny(40), tmp_path_factory.mktemp("shared") / "numbered.h5ad")


@pytest.fixture
def calm_server(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> WebServer:
    """The module's server, which answers as it should again; and nobody waits long before a request is repeated."""
    server.calm()
    monkeypatch.setattr("annpipes.stores.bytes.requesting._FIRST_PAUSE", 0.001)
    return server


def pytest_collection_finish() -> None:
    """Thousands of tests, and all that they import, stay: the garbage collector need not go through them each time."""
    gc.collect()
    gc.freeze()
