"""What the folder of a cache holds, and its removal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import escape, glob

import numpy as np

from annpipes.errors import ParameterError, SourceError
from annpipes.stores.caching.budgets import bytes_on_disk
from annpipes.stores.caching.files import About, remove
from annpipes.stores.caching.settings import is_cache

__all__ = ["Kept", "kept_in", "remove_kept"]


@dataclass(frozen=True)
class Kept:
    """What is kept of one array.

    Parameters
    ----------
    source, array
        The file or store, and the path of the array there.
    storage_chunks, present
        How many storage chunks the array has, and how many of them are kept.
    n_bytes
        Bytes that they take on the disk.
    folder
        Where they are kept.
    """

    source: str
    array: str
    storage_chunks: int
    present: int
    n_bytes: int
    folder: str


def kept_in(folder: str) -> list[Kept]:
    """All that a cache keeps, by source and array.

    Raises
    ------
    SourceError, ParameterError
        There is no such folder, or it is not one of a `Cache`.
    """
    path = os.path.expanduser(folder)
    if not os.path.isdir(path):
        raise SourceError(f"no such folder: {folder!r}")
    if not is_cache(path):
        raise ParameterError(f"{folder!r} is not the folder of a cache")
    return sorted(_each(path), key=lambda kept: (kept.source, kept.array))


def remove_kept(folder: str, pattern: str) -> list[Kept]:
    """Remove what a cache keeps of the sources that match a pattern (as for `fnmatch`): what was removed.

    Who reads it right now reads on.
    """
    found = [kept for kept in kept_in(folder) if kept.source == pattern or fnmatchcase(kept.source, pattern)]
    for place in {os.path.dirname(kept.folder) for kept in found}:
        remove(place)
    for left in glob(os.path.join(escape(os.path.expanduser(folder)), ".*")):  # by a removal that was killed
        remove(left)
    return found


def _each(path: str) -> Iterator[Kept]:
    for folder in glob(os.path.join(escape(path), "*", "*")):  # those in the making begin with a dot
        about = About.read(folder)
        if about is not None and about.intact(folder):
            present = int(np.count_nonzero(np.fromfile(os.path.join(folder, "table"), np.int64)))
            size = bytes_on_disk(folder)
            yield Kept(about.source, about.array, about.storage_chunks, present, size, folder)
