"""A file that others write to while it is read: an error that says so, never a signal, never rows of two versions."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata
import h5py
import pytest
from changing_files import DRAWN, file_of
from storage_files import read_x, rows_of, same
from storage_processes import run_alone

from annpipes import AnnDataset, IndexSource, Loader, check, inspect, stream
from annpipes.errors import BusyError, ChangedError, DamageError
from annpipes.stores import open_store
from annpipes.stores.engine.stretches import Stretches
from annpipes.stores.engine.targets import Decoding, Target

NAMES = ("plain csr", "plain dense", "gzip csr", "lzf csr", "gzip dense")


def cut(path: Path) -> None:
    os.truncate(path, 100)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def overwritten(path: Path) -> None:
    """In place, by somebody who asks for no lock."""
    with path.open("r+b") as file:
        content = file.read()
        file.seek(len(content) // 2)
        file.write(b"\x02" * (len(content) // 2))


def exchanged(path: Path) -> None:
    """By another file of the same name and size."""
    other = path.with_name("other.h5ad")
    other.write_bytes(path.read_bytes())
    os.replace(other, path)


def touched(path: Path) -> None:
    os.utime(path, ns=(0, 0))


CHANGES = (cut, emptied, overwritten, exchanged)


@contextmanager
def changed_while_copying(change: Callable[[], None]) -> Iterator[None]:
    """What copies or decodes a first share begins after somebody else has changed the file."""
    done: list[bool] = []

    def late(copy: Any) -> Any:
        def changed(*args: Any) -> Any:
            if not done:
                done.append(True)
                change()
            return copy(*args)

        return changed

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((Target, "fill"), (Target, "fill_from_disk"), (Decoding, "copy")):
            patch.setattr(owner, name, late(getattr(owner, name)))
        yield
    assert done, "nothing was copied by these"


def refused_when_changed(path: Path, change: Callable[[Path], None], genes: Any = None) -> None:
    store = open_store(path)
    whole = read_x(store, [0])  # the table of storage chunks is known, and pages of the mapping were touched
    assert whole is not None
    with changed_while_copying(lambda: change(path)), pytest.raises(ChangedError, match=f"{path.name} changed since"):
        read_x(store, DRAWN)
    with pytest.raises(ChangedError):  # and it stays refused
        read_x(store, DRAWN)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", [name for name in NAMES if "lzf" not in name])
def test_a_change_within_a_read_is_told(tmp_path: Path, name: str, change: Callable[[Path], None]) -> None:
    run_alone(refused_when_changed, file_of(tmp_path, name), change)


def loaded_until_changed(path: Path) -> None:
    loader = stream(path, batch_size=8, chunk_size=64, block_size=1, fields=["X"])
    assert isinstance(loader, Loader)
    batches = iter(loader)
    next(batches)
    cut(path)
    with pytest.raises(ChangedError, match="changed since"):
        assert all((batch["X"][:, 0] == 1).all() for batch in batches)


@pytest.mark.parametrize("name", ["plain csr", "plain dense", "gzip csr"])
def test_a_loader_tells_of_a_file_that_was_cut_off_within_an_epoch(tmp_path: Path, name: str) -> None:
    run_alone(loaded_until_changed, file_of(tmp_path, name))


@pytest.mark.parametrize("change", [exchanged, touched])  # HDF5 itself, which reads the rest, may crash on others
def test_a_check_says_nothing_of_a_file_that_changes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    path, read, done = file_of(tmp_path, "plain dense"), Stretches._read, list[bool]()

    def late(self: Stretches, *edges: int) -> Any:
        if not done:
            done.append(True)
            change(path)
        return read(self, *edges)

    monkeypatch.setattr(Stretches, "_read", late)
    with pytest.raises(ChangedError, match="changed since"):
        check(path)


def test_columns_of_obs_that_change_while_they_are_read_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_of(tmp_path, "plain csr")
    store = open_store(path)
    inside = h5py.File.__exit__

    def touched(self: Any, *error: Any) -> None:
        inside(self, *error)
        os.utime(path, ns=(0, 0))

    monkeypatch.setattr(h5py.File, "__exit__", touched)
    with pytest.raises(ChangedError):
        _ = store.obs_names


WRITER = """
import h5py, sys
try:
    with h5py.File(sys.argv[1], "r+") as file:
        print("open", flush=True)
        sys.stdin.readline()
except BlockingIOError:
    print("kept out", flush=True)
"""


@contextmanager
def writer(path: Path) -> Iterator[str]:
    """Another process that opens the file for writing, and what it says."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.communicate("\n")


@pytest.mark.parametrize("name", NAMES)
def test_hdf5_writers_are_kept_out_of_a_read_and_only_of_that(tmp_path: Path, name: str) -> None:
    path = file_of(tmp_path, name)
    store, said = open_store(path), list[str]()

    def try_to_write() -> None:
        with writer(path) as answer:
            said.append(answer)

    expected = anndata.read_h5ad(path).X
    read_x(store, [0])
    if "lzf" in name:
        with store.file.source.steady():  # through HDF5 alone there is no loop of ours to be late in
            try_to_write()
    else:
        with changed_while_copying(try_to_write):
            found = read_x(store, DRAWN)
        assert same(found, rows_of(expected, DRAWN) if "csr" in name else expected[DRAWN])
    try_to_write()
    assert said == ["kept out", "open"]


def test_a_file_that_is_open_for_writing_elsewhere_is_busy_and_not_damaged(tmp_path: Path) -> None:
    path = file_of(tmp_path, "plain csr")
    with writer(path) as said:
        assert said == "open"
        for use in (AnnDataset, stream, IndexSource, check, inspect):
            with pytest.raises(BusyError, match=f"{path.name} is open for writing in another process.*LOCKING") as busy:
                use(path)
            assert not isinstance(busy.value, DamageError)
    AnnDataset(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_a_writer_has_locked_since_is_busy(tmp_path: Path, name: str) -> None:
    path = file_of(tmp_path, name)
    store = open_store(path)
    expected = read_x(store, DRAWN)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="open for writing"):
            read_x(store, DRAWN)
    assert same(read_x(store, DRAWN), expected)


def test_a_file_that_this_process_has_open_for_writing_is_read(tmp_path: Path) -> None:
    path = file_of(tmp_path, "plain csr")
    expected = rows_of(anndata.read_h5ad(path).X, DRAWN)
    backed = anndata.read_h5ad(path, backed="r+")
    assert same(read_x(backed, DRAWN), expected)
    assert same(read_x(path, DRAWN), expected)
    backed.file.close()


@pytest.mark.parametrize("change", [cut, overwritten])
def test_without_locks_a_change_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
    run_alone(refused_when_changed, file_of(tmp_path, "plain csr"), change)
