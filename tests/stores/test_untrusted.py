"""Files of strangers: nothing in them is run."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numcodecs.lz4
import numcodecs.zstd
import numpy as np
import pytest
from builders import tiny
from zarr_stores import written

from annpipes import AnnDataset, IndexSource, check, stream
from annpipes.errors import DamageError, FormatError

MANY = 256 << 20
pickles: Any = pytest.importorskip("numcodecs.pickles")


class _MakesFolder:
    """What a pickle can do: anything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def poisoned(folder: Path, where: str) -> tuple[Path, Path]:
    """A Zarr store in which names of rows are a pickle behind a filter for strings, and the folder that it makes."""
    path, made = written(tiny(8), folder / "cells.zarr", 2), folder / "made"
    (path / ".zmetadata").unlink()
    array = path / "obs" / "_index"
    described = json.loads((array / ".zarray").read_text())
    assert described["filters"] == [{"id": "vlen-utf8"}]
    pickled = {"id": "pickle"}
    described |= {"compressor": pickled if where == "compressor" else None}
    described["filters"] += [pickled] if where == "filter" else []
    (array / ".zarray").write_text(json.dumps(described))
    (array / "0").write_bytes(pickle.dumps(_MakesFolder(made)))
    return path, made


@pytest.mark.parametrize("where", ["filter", "compressor"])
def test_a_pickle_in_a_zarr_store_is_never_loaded(tmp_path: Path, where: str) -> None:
    path, made = poisoned(tmp_path, where)
    for read in (
        lambda: list(stream(path, 4, fields=["obs_names"])),
        lambda: IndexSource(path, rows="index == 'c1'"),
        lambda: AnnDataset(path, rows=["c1"]),
    ):
        with pytest.raises(DamageError):
            read()
    assert not check(path).healthy
    assert not made.exists()


@pytest.mark.parametrize("where", ["filter", "compressor"])
def test_where_numcodecs_loads_pickles_stores_that_name_some_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path, made = poisoned(tmp_path, where)
    monkeypatch.setattr(pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    with pytest.raises(
        FormatError, match=r"could make zarr unpickle.* numcodecs allows it: pip install 'numcodecs"
    ) as refused:
        list(stream(path, 4, fields=["obs_names"]))
    assert refused.value.remedy == "pip install 'numcodecs>=0.16.6,!=0.17.0'"
    assert not made.exists()
    zarr = pytest.importorskip("zarr")
    with np.errstate(all="ignore"), pytest.raises(Exception):  # noqa: B017, PT011 (whatever it makes of no array)
        zarr.open_group(path, mode="r")["obs/_index"][...]
    assert made.exists()  # so the store does what it is said to do


@pytest.mark.parametrize("of_zarr", [2, 3])
def test_where_numcodecs_loads_pickles_other_stores_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_zarr: int
) -> None:
    path = written(tiny(8), tmp_path / "cells.zarr", of_zarr)
    monkeypatch.setattr(pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    assert len(list(stream(path, 4, fields=["obs_names"]))) == 2


BOMBS = {
    "gzip": lambda: zlib.compress(bytes(MANY), 1),
    "gzip member": lambda: gzip.compress(bytes(MANY), 1),
    "zstd": lambda: numcodecs.zstd.compress(bytes(MANY), 1),
    "lz4 block": lambda: numcodecs.lz4.compress(bytes(MANY)),
    "lz4": lambda: struct.pack(">QII", MANY, MANY, 5) + bytes(5),
}
DECODE = """
import resource, sys
from annpipes.stores.codecs.registry import BY_NAME
bomb = open(sys.argv[2], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    BY_NAME[sys.argv[1]].decode(bomb, 4096, ())
    print("decoded")
except ValueError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it has no resource module")
@pytest.mark.parametrize("codec", BOMBS)
def test_a_storage_chunk_is_decoded_to_no_more_than_its_array_says(tmp_path: Path, codec: str) -> None:
    (tmp_path / "bomb").write_bytes(BOMBS[codec]())
    command = [sys.executable, "-c", DECODE, codec, str(tmp_path / "bomb")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (
        int(ran.stdout) < MANY / (1 if sys.platform == "darwin" else 1024) / 8
    )  # which Linux counts in kB, and macOS in bytes
