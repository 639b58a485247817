"""A store may cross a fork, a spawn and a crowd of threads, and gives the same rows everywhere."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from builders import adata_of, dense, write
from contracts import chunk_of, opened

from annpipes.stores import Store, open_store

FIELDS = ["X", "layers/counts", "obs/cell_type", "obs/int32"]
DRAWN = [5, 28, 5, 0, 13]


def read(store: Store) -> list[Any]:
    values = store.read(chunk_of(DRAWN), FIELDS)
    return [dense(value).tolist() for value in values.values()]


def send(connection: Any, store: Store) -> None:
    connection.send(read(store))
    connection.close()


def read_in_child(store: Store, start: str) -> list[Any]:
    """What a process started now reads from the store."""
    context = multiprocessing.get_context(start)
    ours, theirs = context.Pipe()
    child = context.Process(target=send, args=(theirs, store))
    child.start()
    theirs.close()
    assert ours.poll(60), "the child hangs"
    values = ours.recv()
    child.join()
    assert child.exitcode == 0
    return values


@pytest.fixture(params=["csr gzip", "csr None", "dense gzip", "csr lzf"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    x, compression = request.param.split()
    return write(adata_of(x=x), tmp_path / "cells.h5ad", None if compression == "None" else compression)


def test_a_child_forked_in_the_middle_of_reading_reads_the_same(path: Path) -> None:
    store = open_store(path)
    expected = read(store)
    for _ in range(3):
        assert read_in_child(store, "fork") == expected
        assert read(store) == expected


def test_a_backed_object_crosses_a_fork(path: Path) -> None:
    backed = anndata.read_h5ad(path, backed="r")
    store = open_store(backed)
    expected = read(store)
    assert read_in_child(store, "fork") == expected == read(store)
    backed.file.close()


def test_a_spawned_child_reads_the_same(h5ad: Path) -> None:
    store = open_store(h5ad)
    expected = read(store)
    assert read_in_child(store, "spawn") == expected == read(store)


def test_children_forked_while_threads_read_do_not_hang(path: Path) -> None:
    store, done = open_store(path), threading.Event()
    expected, failures = read(store), []

    def keep_reading() -> None:
        while not done.is_set():
            if read(store) != expected:
                failures.append("wrong rows")
                return

    threads = [threading.Thread(target=keep_reading) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(8):
            assert read_in_child(store, "fork") == expected
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures


def test_what_a_child_closes_stays_open_in_its_parent(path: Path) -> None:
    store = open_store(path)
    expected = read(store)
    child = os.fork()
    if child == 0:  # pragma: no cover (a child that ends at once)
        del store
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert read(store) == expected


def test_nothing_stays_open_when_the_store_is_gone(path: Path) -> None:
    store = open_store(path)
    rows = store.read(chunk_of(range(29)), ["X"])["X"]
    before = dense(rows).copy()
    del store
    gc.collect()
    assert not opened(path)
    np.testing.assert_array_equal(dense(rows), before)
