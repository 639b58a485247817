"""Files damaged in one place, and what a check says of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from annpipes.stores.engine import stretches
from annpipes.tools.inspecting import CheckReport

GZIP = {"chunks": 16, "compression": "gzip"}


Place = tuple[str, int | None, int | None]


def places(report: CheckReport) -> set[Place]:
    """Where damage was found."""
    return {(one.field, one.first, one.last) for one in report.damage}


def edit(path: Path, change: Callable[[h5py.File], None]) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def put(path: Path, field: str, where: Any, value: Any) -> Path:
    return edit(path, lambda file: file[field].__setitem__(where, value))


@pytest.fixture(params=[False, True], ids=["whole", "in stretches"], autouse=True)
def stretched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test reads small files as large ones are read, too."""
    if request.param:
        monkeypatch.setattr(stretches, "STRETCH_BYTES", 100)
        monkeypatch.setattr("annpipes.stores.checking.matrices.STRETCH_BYTES", 100)
        monkeypatch.setattr("annpipes.stores.checking.matrices._LEAST_STORAGE_CHUNKS", 1)
