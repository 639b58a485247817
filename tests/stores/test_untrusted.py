"""Files of strangers: nothing in them is run."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import tiny
from zarr_stores import written

from annpipes import AnnDataset, IndexSource, check, stream
from annpipes.errors import DamageError, FormatError

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
def test_where_numcodecs_loads_pickles_zarr_stores_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path, made = poisoned(tmp_path, where)
    monkeypatch.setattr(pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    with pytest.raises(
        FormatError, match=r"the one that unpickles.* is allowed here: pip install 'numcodecs"
    ) as refused:
        list(stream(path, 4, fields=["obs_names"]))
    assert refused.value.remedy == "pip install 'numcodecs>=0.16.6,!=0.17.0'"
    assert not made.exists()
    zarr = pytest.importorskip("zarr")
    with np.errstate(all="ignore"), pytest.raises(Exception):  # noqa: B017, PT011 (whatever it makes of no array)
        zarr.open_group(path, mode="r")["obs/_index"][...]
    assert made.exists()  # so the store does what it is said to do
