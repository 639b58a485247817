"""Hundreds of files: no more of them open than allowed, and every row right."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import anndata
import h5py
import numpy as np
import pytest
from builders import dense, matrix_of, tiny, write
from contracts import chunk_of

from annpipes import Collection, stream
from annpipes.stores import open_store
from annpipes.stores.bytes import local

MANY = 200


@pytest.fixture(scope="module", params=["csr", "dense", "csr, one float64"])
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """200 files of two rows and three genes, in which ``X[i, j] = 10 · file + 3 i + j + 1``."""
    folder = tmp_path_factory.mktemp("many")
    form, _, wider = request.param.partition(", ")
    values = np.arange(1, 7).reshape(2, 3)
    first = write(anndata.AnnData(matrix_of(values, form, "float32")), folder / "first.h5ad", "gzip")
    paths = [Path(shutil.copy(first, folder / f"{number:03}.h5ad")) for number in range(MANY)]
    for number, path in enumerate(paths):
        with h5py.File(path, "r+") as file:
            data = file["X" if form == "dense" else "X/data"]
            data[...] = data[...] + 10 * number
    if wider:
        write(anndata.AnnData(matrix_of(values + 1000, form, "float64")), paths[100])
    return paths


@contextmanager
def watched(folder: Path) -> Iterator[list[int]]:
    """How many files of the folder are open, whenever one more was opened."""
    gc.collect()  # what earlier tests left
    seen: list[int] = []
    begin = local.FileBytes.__init__

    def counting(self: Any, path: str) -> None:
        begin(self, path)
        seen.append(files_open(folder))

    with mock.patch.object(local.FileBytes, "__init__", counting):
        yield seen


def files_open(folder: Path) -> int:
    """Files of the folder to which this process has descriptors; one that is mapped has two."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found.add(descriptor.readlink())
        except OSError:  # the one that listed the folder is gone
            continue
    return sum(path.parent == folder for path in found)


class TestManyFiles:
    def expected(self, rows: Any, paths: list[Path]) -> Any:
        files, places = np.divmod(np.asarray(rows), 2)
        values = 10.0 * files[:, None] + 3 * places[:, None] + np.arange(1, 4)
        with h5py.File(paths[100]) as file:
            if (file["X"] if isinstance(file["X"], h5py.Dataset) else file["X/data"]).dtype == np.float64:
                values[files == 100] = (1000 + 3 * places[:, None] + np.arange(1, 4))[files == 100]
        return values

    def test_every_row_is_right_and_no_more_are_open_than_allowed(self, many: list[Path]) -> None:
        store, rng = Collection(many, max_open_files=16), np.random.default_rng(0)
        for drawn in (rng.permutation(2 * MANY), rng.integers(0, 2 * MANY, 50), [399, 0, 200, 201]):
            with watched(many[0].parent) as seen:
                rows = dense(store.read(chunk_of(drawn), ["X"])["X"])
            np.testing.assert_array_equal(rows, self.expected(drawn, many))
            assert seen
            assert max(seen) <= 16
            assert files_open(many[0].parent) <= 16

    def test_through_a_loader_that_reads_ahead(self, many: list[Path]) -> None:
        store = Collection(many, max_open_files=16)
        loader = stream(store, 50, fields=["X", "rows"], block_size=1, chunk_size=200, prefetch=1)
        expected = self.expected(range(2 * MANY), many)  # now: it opens a file, which is not to be counted
        rows = []
        with watched(many[0].parent) as seen:
            for batch in loader:
                np.testing.assert_array_equal(batch["X"], expected[batch["rows"]])
                rows += batch["rows"].tolist()
        assert sorted(rows) == list(range(2 * MANY))
        assert max(seen) <= 16
        assert files_open(many[0].parent) <= 16

    def test_threads_that_close_what_others_read_do_no_harm(self, many: list[Path]) -> None:
        store, rng = Collection(many[90:110], max_open_files=2), np.random.default_rng(0)
        requests = [rng.integers(0, 40, 15) for _ in range(80)]
        with ThreadPoolExecutor(4) as threads:
            read = list(threads.map(lambda drawn: dense(store.read(chunk_of(drawn), ["X"])["X"]), requests))
        for drawn, rows in zip(requests, read, strict=True):
            np.testing.assert_array_equal(rows, self.expected(180 + drawn, many))

    def test_few_files_stay_open_until_they_are_closed(self, many: list[Path]) -> None:
        gc.collect()
        store = Collection(many[:5])
        store.read(chunk_of(range(10)), ["X"])
        assert files_open(many[0].parent) <= 5
        store.close()
        assert files_open(many[0].parent) == 0
        np.testing.assert_array_equal(dense(store.read(chunk_of([9]), ["X"])["X"]), self.expected([9], many))
        store.close()


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_a_closed_store_has_nothing_open_whatever_it_keeps_decoded(tmp_path: Path, compression: str | None) -> None:
    store = open_store(write(tiny(4), tmp_path / "cells.h5ad", compression))
    for _ in range(2):
        store.read(chunk_of([3, 1]), ["X"])
        store.close()
        assert files_open(tmp_path) == 0
