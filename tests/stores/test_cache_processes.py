"""A cache that several processes share, that is killed, and that has too little room; the oracle is anndata."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cached_files import cached, files_of, gzip_file, present, read_all
from storage_files import read_x, rows_of, same, stored_x
from storage_processes import run_alone, run_forked

import annpipes as ap
from annpipes.errors import DamageError
from annpipes.stores import kept_in, remove_kept
from annpipes.stores.caching import budgets, loops
from annpipes.stores.caching.budgets import bytes_on_disk

KILLS = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return gzip_file(tmp_path / "a.h5ad", rows=2000)


def read_rightly(path: Path, folder: Path, seed: int = 0, size: int | str | None = "1GB") -> None:
    store, x = cached(path, folder, size), stored_x(path)
    for epoch in range(2):
        found, drawn = read_all(store, seed + epoch)
        assert same(found, rows_of(x, drawn))


def check_kept(folder: Path) -> None:
    """Every entry of the table is that of the bytes which are there."""
    for file in files_of(folder, "data"):
        entries = np.fromfile(file.with_name("table"), np.int64)
        parts = np.fromfile(file, np.uint8).reshape(len(entries), -1)
        assert [loops.entry_of(part) for part, entry in zip(parts, entries, strict=True) if entry] == [
            entry for entry in entries.tolist() if entry
        ]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_share_it(path: Path, folder: Path, method: str) -> None:
    loaders = [
        ap.stream(path, 100, chunk_size=300, cache=cache, num_workers=workers, method="process",
                  multiprocessing_context=method)
        for cache, workers in ((None, 0), (ap.Cache(str(folder), "1GB"), 2))
    ]  # fmt: skip
    for _ in range(2):
        for one, other in zip(*loaders, strict=True):
            assert one["X"].equal(other["X"])
    assert present(folder) == (present(folder)[1],) * 2
    check_kept(folder)


def test_processes_that_write_the_same_at_once_write_the_same(path: Path, folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=read_rightly, args=(path, folder, seed)) for seed in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 4
    assert present(folder) == (present(folder)[1],) * 2
    check_kept(folder)


def test_nothing_open_crosses_a_fork(path: Path, folder: Path) -> None:
    store, x = cached(path, folder), stored_x(path)
    read_x(store, [3, 1500])  # type: ignore[arg-type]

    def child() -> None:
        found, drawn = read_all(store, 1)
        assert same(found, rows_of(x, drawn))

    run_forked(child)
    child()
    check_kept(folder)


def _stream_for_ever(path: Path, folder: Path) -> None:
    while True:
        remove_kept(str(folder), "*")  # so that there always is something to make and to write
        read_all(cached(path, folder))


def test_a_kill_at_any_moment_leaves_no_wrong_byte(path: Path, folder: Path) -> None:
    rng, x = np.random.default_rng(0), stored_x(path)
    read_x(cached(path, folder), range(1000))  # compiled code, which children share
    for _ in range(KILLS):
        child = multiprocessing.get_context("fork").Process(target=_stream_for_ever, args=(path, folder))
        child.start()
        time.sleep(float(rng.uniform(0.01, 0.15)))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        check_kept(folder)
    found, drawn = read_all(cached(path, folder), 5)
    assert same(found, rows_of(x, drawn))


@pytest.mark.parametrize("share", [0.25, 0.6])
def test_it_takes_no_more_than_its_size(tmp_path: Path, folder: Path, share: float) -> None:
    path = gzip_file(tmp_path / "a.h5ad", rows=20_000, chunks=4096)
    whole = 2 * 4 * len(stored_x(path).data)
    for seed in range(3):  # each as a process of its own, with a count of its own
        run_alone(read_rightly, path, folder, seed, int(share * whole))
    assert 0.5 * share * whole < bytes_on_disk(str(folder)) <= share * whole + (64 << 10)  # tables, and the tag


def test_no_room_at_all_is_no_cache(path: Path, folder: Path) -> None:
    read_rightly(path, folder, size=1)
    assert present(folder)[0] == 0


@pytest.mark.parametrize("free", [0, 200_000, 400_000])
def test_without_a_size_a_tenth_of_what_is_free_is_left(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    """However little that is of the disk: a large one that is nearly full has much room."""
    path = gzip_file(tmp_path / "a.h5ad", rows=20_000, chunks=4096)

    def usage(path: object) -> object:
        return SimpleNamespace(total=1000 << 30, free=free - bytes_on_disk(str(folder)))

    monkeypatch.setattr(budgets.shutil, "disk_usage", usage)
    with pytest.warns(UserWarning, match="nine tenths of the free disk space") as told:
        read_rightly(path, folder, size=None)
    assert len([one for one in told if one.category is UserWarning]) == 1  # anndata 0.13 has warnings of its own
    assert 0.5 * free <= bytes_on_disk(str(folder)) <= 0.9 * free + (64 << 10)


def _read_on_a_full_disk(path: Path, folder: Path, rows: int) -> None:
    x, store = stored_x(path), cached(path, folder)
    read_x(store, [0])  # type: ignore[arg-type] # the files are made
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))  # bytes that a file may have
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for start in (0, 100):
            for drawn in ([start + 50], range(start, start + rows)):
                assert same(read_x(store, drawn), rows_of(x, drawn))  # type: ignore[arg-type]
    assert [str(folder) in str(one.message) for one in told] == [True]
    assert "reading continues without it" in str(told[0].message)


@pytest.mark.parametrize("rows", [3, 1500])
def test_a_full_disk_is_told_once_and_reading_goes_on(path: Path, folder: Path, rows: int) -> None:
    run_alone(_read_on_a_full_disk, path, folder, rows)
    check_kept(folder)
    read_rightly(path, folder)  # where there is room again
    assert present(folder) == (present(folder)[1],) * 2


@pytest.mark.parametrize("few", [True, False])
def test_data_that_are_cut_off_while_they_are_read_are_told(path: Path, folder: Path, *, few: bool) -> None:
    store = cached(path, folder)
    read_all(store)
    for file in files_of(folder, "data"):
        os.truncate(file, 100)
    with pytest.raises(DamageError, match="was damaged while it was read"):
        read_x(store, [1999] if few else range(2000))  # type: ignore[arg-type]
    x = stored_x(path)
    assert same(read_x(store, range(2000)), rows_of(x, range(2000)))  # type: ignore[arg-type] # without it from now on


def test_a_table_that_is_cut_off_has_nothing(path: Path, folder: Path) -> None:
    store, x = cached(path, folder), stored_x(path)
    read_x(store, [0])  # type: ignore[arg-type]
    for file in files_of(folder, "table"):
        os.truncate(file, 0)
    found, drawn = read_all(store)
    assert same(found, rows_of(x, drawn))


def test_an_array_is_one_of_its_source(path: Path, folder: Path) -> None:
    read_rightly(path, folder)
    found = kept_in(str(folder))
    assert [(one.source, one.array) for one in found] == [(str(path), "X/data"), (str(path), "X/indices")]


def test_whoever_comes_second_keeps_what_the_first_has_made(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found nothing; the second is held up until the first has made the folder and written to it."""
    first, second = cached(path, folder), cached(path, folder)
    make, made = os.makedirs, {}

    def held_up(*arguments: Any, **options: Any) -> None:
        make(*arguments, **options)
        monkeypatch.setattr(os, "makedirs", make)
        read_all(first)
        made.update({file: file.stat().st_ino for file in files_of(folder, "data")})

    monkeypatch.setattr(os, "makedirs", held_up)
    read_all(second)
    assert len(made) == 2
    assert {file: file.stat().st_ino for file in files_of(folder, "data")} == made
    assert present(folder) == (present(folder)[1],) * 2
