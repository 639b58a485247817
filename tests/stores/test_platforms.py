"""Reading without the calls that only Linux, or only POSIX, has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pytest
from elsewhere import POSIX
from storage_files import csr_of, matrix_values, read_x, rows_of, same, write

from annpipes import AnnDataset, stream
from annpipes.stores import core_count
from annpipes.stores.bytes import local
from annpipes.tools.timing import drop, known_share, machine

HERE = Path(__file__).parent
DRAWN = [*range(399, 0, -3), 5, 5]

FILES = ("test_stores.py", "test_storage_layouts.py")
"""The tests of reading: every field of every kind of store, and every layout of a file."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The tests of reading as on each other system, both at once.

    Each has folders of its own: a pytest that starts clears what earlier ones left beside it, and two that
    start at once disturb each other there.
    """
    storage = str(tmp_path_factory.mktemp("hypothesis"))
    path = os.pathsep.join((str(HERE.parent / "shared"), os.environ.get("PYTHONPATH", "")))
    env = {**os.environ, "PYTHONPATH": path, "HYPOTHESIS_STORAGE_DIRECTORY": storage}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "elsewhere",
        "-p",
        "no:cacheprovider",
        "-k",
        "not TestMemory and not TestBacked and not any_rows",
        *FILES,
    ]
    started = {
        system: subprocess.Popen(
            [*command, "--basetemp", str(tmp_path_factory.mktemp(system) / "files")],
            cwd=HERE,
            env={**env, "ANNPIPES_TESTED_AS": system},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for system in ("macOS", "Windows")
    }
    yield started
    for run in started.values():
        run.kill()
        run.communicate()


@pytest.mark.parametrize("system", ["macOS", "Windows"])
def test_all_tests_of_reading_pass_without_what_another_system_lacks(
    runs: dict[str, subprocess.Popen[str]], system: str
) -> None:
    said, _ = runs[system].communicate(timeout=600)
    assert runs[system].returncode == 0, said[-5000:]
    assert " passed" in said


@pytest.mark.parametrize("name", POSIX)
@pytest.mark.parametrize("mapped", [0, 2**31])
def test_every_layout_is_read_without_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mapped: int
) -> None:
    monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(local, "_MAPPED_BYTES", mapped)
    values = matrix_values(400)
    for how in ({}, {"compression": "gzip"}, {"compression": "lzf"}):
        for form, x in {"dense": values, "csr": csr_of(values)}.items():
            path = write(tmp_path / "cells.h5ad", x, **how)
            expected = anndata.read_h5ad(path).X
            assert same(read_x(path, DRAWN), expected[DRAWN] if form == "dense" else rows_of(expected, DRAWN))
            seen = [batch["X"].numpy() for batch in stream(path, 32, fields=["X"], shuffle=False, genes=[7, 0, 3])]
            assert np.array_equal(np.concatenate(seen), values[:, [7, 0, 3]])
            assert np.array_equal(AnnDataset(path)[399]["X"].numpy(), values[399])


@pytest.mark.parametrize("name", POSIX)
def test_the_machine_is_described_without_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delattr(os, name, raising=False)
    path = write(tmp_path / "cells.h5ad", matrix_values())
    assert f"{core_count()} cores" in machine()
    assert core_count() >= 1
    drop(path)
    assert known_share(path) is None or 0 <= known_share(path) <= 1
