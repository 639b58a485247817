"""Tables of storage chunks of remote files, kept on this machine: reading one from far away takes seconds."""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.stores.bytes.protocol import ByteSource
from annpipes.stores.bytes.remote_file import RemoteFile

__all__ = ["kept"]

_FOLDER = "ANNPIPES_CACHE_DIR"
_BEGIN = b"annpipes table 1\n"  # then the digest of all that follows
_DIGEST = 32
_UNFINISHED, _ABANDONED_SECONDS = ".unfinished", 86_400


def kept(source: ByteSource, path: str, make: Callable[[], NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """What ``make`` gives, or gave before, of the array at ``path`` of a remote file of the same version and size."""
    if not isinstance(source, RemoteFile) or not source.seen[0].etag:
        return make()
    asked = repr((source.name, *source.seen[0], path))
    place = os.path.join(_folder(), f"{sha256(asked.encode()).hexdigest()}.table")
    found = _read(place)
    if found is None:
        found = make()
        with suppress(OSError):  # a full disk, a folder that must not be written: it is made again next time
            _write(place, found)
    return found


def _folder() -> str:
    chosen = os.environ.get(_FOLDER)
    return chosen or str(import_module("platformdirs").user_cache_dir("annpipes"))


def _read(place: str) -> NDArray[np.uint64] | None:
    """The table in a file; None if there is none, or it is spoilt."""
    try:
        with open(place, "rb") as file:
            begin, digest, content = file.read(len(_BEGIN)), file.read(_DIGEST), file.read()
    except OSError:
        return None
    if begin != _BEGIN or sha256(content).digest() != digest:
        return None
    table: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return table


def _write(place: str, table: NDArray[np.uint64]) -> None:
    """Whole or not at all, whoever else writes it."""
    content = io.BytesIO()
    np.save(content, table, allow_pickle=False)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    _remove_broken_off(os.path.dirname(place))
    file = tempfile.NamedTemporaryFile(  # noqa: SIM115 (closed below)
        dir=os.path.dirname(place), suffix=_UNFINISHED, delete=False
    )
    try:
        with file:
            file.write(_BEGIN + sha256(content.getvalue()).digest() + content.getvalue())
        os.replace(file.name, place)
    except OSError:
        os.unlink(file.name)
        raise


def _remove_broken_off(folder: str) -> None:
    """Remove what processes that were killed while they wrote have left."""
    for entry in os.scandir(folder):
        if entry.name.endswith(_UNFINISHED) and time.time() - entry.stat().st_mtime > _ABANDONED_SECONDS:
            os.unlink(entry.path)
