"""Interpreters of their own: without HDF5's plugins, and ending in the middle of a read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import hdf5plugin
import numpy as np
import pytest
from storage_files import create, csr_file, matrix_values, relayout, write

PLUGINS: dict[str, dict[str, Any]] = {
    "lz4": dict(hdf5plugin.LZ4()),
    "zstd": dict(hdf5plugin.Zstd()),
    "blosc": dict(hdf5plugin.Blosc()),
    "bitshuffle": dict(hdf5plugin.Bitshuffle()),
}

READ_ALL = """
import sys
import numpy as np
from annpipes import Chunk
from annpipes.stores import open_store
from annpipes.errors import FormatError
rows = np.arange(23)
if "absent" in sys.argv:
    sys.modules["hdf5plugin"] = None
for name in ("lz4", "zstd", "blosc"):
    print(name, open_store(f"{name}.h5ad").read(Chunk(rows, rows), ["X"])["X"].sum())
assert not sys.modules.get("hdf5plugin")
try:
    print("bitshuffle", open_store("bitshuffle.h5ad").read(Chunk(rows, rows), ["X"])["X"].sum())
except FormatError as error:
    print(error)
"""

ENDING = """
import sys, threading, time
import numpy as np
from annpipes import Chunk
from annpipes.stores import open_store
store, rows = open_store(sys.argv[1]), np.arange(23)
def read():
    while True:
        store.read(Chunk(rows, rows), ["X"])
threading.Thread(target=read, daemon=True).start()
time.sleep(0.3)
"""

HOLDING = """
import sys, threading, time
from h5py._objects import phil
import annpipes as ap
source = ap.IndexSource(sys.argv[1])
def hold():
    while True:
        with phil:
            time.sleep(0.2)
        time.sleep(0.001)
threading.Thread(target=hold, daemon=True).start()
time.sleep(0.1)
"""


def interpret(code: str, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HDF5_PLUGIN_PATH": str(folder)}
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, cwd=folder, env=where, capture_output=True, text=True, timeout=120, check=False)


def test_plugins_are_not_needed_where_we_decode_and_named_where_they_are(tmp_path: Path) -> None:
    values = np.resize(matrix_values(), (23, 90))
    for name, options in PLUGINS.items():
        relayout(write(tmp_path / f"{name}.h5ad", values), "X", create(chunks=23, **options))
    with_plugins, without = interpret(READ_ALL, tmp_path), interpret(READ_ALL, tmp_path, "absent")
    assert with_plugins.returncode == without.returncode == 0, with_plugins.stderr + without.stderr
    assert with_plugins.stdout.splitlines() == [f"{name} {values.sum()}" for name in PLUGINS]
    *decoded, refused = without.stdout.splitlines()
    assert decoded == [f"{name} {values.sum()}" for name in ("lz4", "zstd", "blosc")]
    assert "X of bitshuffle.h5ad is compressed with" in refused
    assert "32008" in refused
    assert "pip install hdf5plugin" in refused


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_a_process_may_end_while_a_thread_reads(tmp_path: Path, compression: str) -> None:
    path = csr_file(tmp_path / "cells.h5ad", chunks=16, compression=compression)
    done = interpret(ENDING, tmp_path, str(path))
    assert done.returncode == 0, done.stderr


def test_a_process_ends_though_a_thread_is_stopped_while_it_has_the_lock_of_h5py(tmp_path: Path) -> None:
    done = interpret(HOLDING, tmp_path, str(csr_file(tmp_path / "cells.h5ad", chunks=16)))
    assert done.returncode == 0, done.stderr
