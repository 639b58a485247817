"""Stores in forked and spawned processes, and files that change beneath them."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata
import h5py
import hdf5plugin
import pytest
from storage_files import chunk_of, create, csr_of, matrix_values, read_x, relayout, rows_of, same, write
from storage_processes import run_alone, run_forked

from annpipes.errors import AnnpipesError, DamageError, SourceError
from annpipes.stores import Store, open_store

DRAWN = [*range(399, 0, -7), 3, 3, 150]
ONE = chunk_of([7])
LAYOUTS: dict[str, dict[str, Any]] = {
    "gzip": {"chunks": 100, "compression": "gzip"},
    "plain": {},
    "lzf": {"chunks": 100, "compression": "lzf"},
    "blosc": {"chunks": 100, **hdf5plugin.Blosc()},
}


@pytest.fixture(params=LAYOUTS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """400 rows, one file for each way of reading."""
    path = write(tmp_path / "cells.h5ad", csr_of(matrix_values(400)))
    for part in ("data", "indices"):
        relayout(path, f"X/{part}", create(**LAYOUTS[request.param]))
    return path


def check(store: Store, expected: Any) -> None:
    """Read some rows several times; all must be right."""
    for _ in range(3):
        assert same(read_x(store, DRAWN), expected)
        assert same(read_x(store, DRAWN[:1])[0:1], expected[0:1])
    assert store.read(ONE, ["obs_names"])["obs_names"].tolist() == ["c7"]


@contextmanager
def reading(store: Store, threads: int = 2) -> Iterator[Callable[[], int]]:
    """Other threads read all the while; gives how often they did."""
    stop, counts, errors = threading.Event(), [0] * threads, []

    def read(number: int) -> None:
        try:
            while not stop.is_set():
                read_x(store, DRAWN)
                store.read(ONE, ["obs_names"])
                counts[number] += 1
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=read, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield lambda: sum(counts)
    finally:
        stop.set()
        for worker in workers:
            worker.join(60)
    assert not errors
    assert not any(worker.is_alive() for worker in workers)


@pytest.mark.parametrize("run", [run_alone, run_forked])
def test_a_child_forked_while_threads_read_reads_the_same(path: Path, run: Callable[..., None]) -> None:
    expected = rows_of(anndata.read_h5ad(path).X, DRAWN)
    store = open_store(path)
    check(store, expected)
    with reading(store) as count:
        for _ in range(8):
            before = count()
            run(check, store, expected, seconds=30)
            run(check, open_store(path), expected, seconds=30)
        while count() == before:  # the parent's threads did not stop either
            time.sleep(0.01)  # a loop that never rests would keep the lock from the readers
    check(store, expected)


def check_in_grandchild(store: Store, expected: Any) -> None:
    check(store, expected)
    run_forked(check, store, expected, seconds=20)
    check(store, expected)


def test_a_child_of_a_child_reads_the_same(path: Path) -> None:
    expected = rows_of(anndata.read_h5ad(path).X, DRAWN)
    store = open_store(path)
    check(store, expected)
    run_forked(check_in_grandchild, store, expected)
    check(store, expected)


def test_a_child_reads_what_its_parent_only_opened(path: Path) -> None:
    expected = rows_of(anndata.read_h5ad(path).X, DRAWN)
    store = open_store(path)
    run_forked(check, store, expected)
    store.check(["X"])
    run_forked(check, store, expected)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_process_that_begins_anew_reads_the_same(tmp_path: Path, method: str) -> None:
    context = multiprocessing.get_context(method)
    files = [write(tmp_path / f"{i}.h5ad", csr_of(matrix_values(400)), compression=("gzip", "lzf")[i]) for i in (0, 1)]
    stores = [open_store(file) for file in files]
    expected = rows_of(anndata.read_h5ad(files[0]).X, DRAWN)
    for store in stores:
        check(store, expected)
    with context.Pool(1) as pool:
        for result in [pool.apply_async(check, (store, expected)) for store in stores]:
            result.get(timeout=120)


def _other(path: Path) -> None:
    write(path, csr_of(matrix_values(400, seed=1)))


def _longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def _replaced(path: Path) -> None:
    _other(path.with_name("other.h5ad"))
    os.replace(path.with_name("other.h5ad"), path)


def _touched(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


CHANGES = {
    "written anew": _other,
    "replaced": _replaced,
    "longer": _longer,
    "cut off": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "touched": _touched,
}


def refused_since_changed(store: Store, name: str) -> None:
    with pytest.raises(DamageError, match=rf"{name}.* changed since it was first opened"):
        read_x(store, DRAWN)
    with pytest.raises(AnnpipesError, match="changed since"):
        store.read(ONE, ["obs_names"])


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("use", ["nothing", "check", "read"])
def test_a_file_that_changed_is_refused(path: Path, change: Callable[[Path], None], use: str) -> None:
    store = open_store(path)
    if use == "check":
        store.check(["X"])
    elif use == "read":
        read_x(store, DRAWN)
    copy = pickle.loads(pickle.dumps(store))
    change(path)
    for changed in (store, copy):
        run_alone(refused_since_changed, changed, path.name)  # a map of a file that was cut off can kill
        refused_since_changed(changed, path.name)


@pytest.mark.parametrize("use", ["nothing", "check", "read"])
def test_a_file_that_is_gone_is_named(path: Path, use: str) -> None:
    store = open_store(path)
    if use == "check":
        store.check(["X"])
    elif use == "read":
        read_x(store, DRAWN)
    path.unlink()
    with pytest.raises(SourceError, match=r"cells\.h5ad.* has been removed"):
        read_x(store, DRAWN)
    with pytest.raises(SourceError, match=r"no file .*cells\.h5ad"):
        open_store(path)


def test_a_file_may_be_written_anew_after_reading_it(path: Path) -> None:
    store = open_store(path)
    read_x(store, DRAWN)
    adata = anndata.read_h5ad(path)
    adata.X = adata.X * 2
    adata.write_h5ad(path)
    assert same(read_x(path, DRAWN), rows_of(adata.X, DRAWN))


def test_a_file_that_is_open_for_writing_elsewhere_is_read_or_refused(path: Path) -> None:
    expected = rows_of(anndata.read_h5ad(path).X, DRAWN)
    with h5py.File(path, "r+"):
        run_alone(read_or_refused, path, expected)
    check(open_store(path), expected)


def read_or_refused(path: Path, expected: Any) -> None:
    try:
        found = read_x(path, DRAWN)
    except AnnpipesError as error:
        assert path.name in f"{error}"  # noqa: PT017
    else:
        assert same(found, expected)


def open_places(path: Path) -> tuple[int, int]:
    """File descriptors of this process, and its mappings of this file."""
    mappings = Path("/proc/self/maps").read_text().count(path.name)
    return len(os.listdir("/proc/self/fd")), mappings


def test_nothing_stays_open_after_the_last_use(path: Path) -> None:
    read_x(path, DRAWN)  # whatever is opened once and for all
    gc.collect()
    before = open_places(path)
    gc.disable()  # a store that is dropped is closed, not collected some day
    try:
        for _ in range(20):
            store = open_store(path)
            read_x(store, DRAWN)
            read_x(store, DRAWN[:1])
            store.read(ONE, ["obs_names", "rows"])
            with pytest.raises(AnnpipesError):
                store.check(["layers/absent"])
        del store
        assert open_places(path) == before
    finally:
        gc.enable()


def test_many_reads_open_no_more_than_one(path: Path) -> None:
    store = open_store(path)
    read_x(store, DRAWN)
    before = open_places(path)
    with reading(store, 8) as count:
        while count() < 200:
            time.sleep(0.01)  # a loop that never rests would keep the lock from the readers
    assert open_places(path) == before
