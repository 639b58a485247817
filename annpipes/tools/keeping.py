"""What the folder of a cache holds, and its removal."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from annpipes.messages.brevity import brief_bytes
from annpipes.messages.reporting import Report
from annpipes.messages.showing import PAGE, Part, Shown, Table, Title
from annpipes.stores import Kept, kept_in, remove_kept

__all__ = ["CacheReport", "look_into_cache", "remove_from_cache"]


@dataclass(frozen=True)
class CacheReport(Report, Shown):
    """What a cache keeps, or what was removed from it; its ``str`` is what ``annpipes cache`` prints.

    Parameters
    ----------
    folder
        The folder of the cache.
    arrays
        What is kept of each array: source, path, storage chunks, how many are present, bytes on the disk.
    removed
        Whether they have been removed.
    """

    folder: str
    arrays: tuple[Kept, ...]
    removed: bool = False

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays together."""
        return sum(kept.n_bytes for kept in self.arrays)

    def __str__(self) -> str:
        return self.on(PAGE)

    def _shown(self) -> Sequence[Part]:
        verb = "removed" if self.removed else "kept"
        rows = [
            [kept.source, kept.array, f"{kept.present / kept.storage_chunks:.0%}", brief_bytes(kept.n_bytes)]
            for kept in self.arrays
        ]
        return [
            Table(["source", "array", "present", "size"], rows, numbers=[2, 3]),
            Title(f"{self.folder}: {brief_bytes(self.n_bytes)} of {len(self.arrays):,} arrays {verb}"),
        ]


def look_into_cache(folder: str | os.PathLike[str]) -> CacheReport:
    """What a cache keeps.

    Raises
    ------
    SourceError, ParameterError
        There is no such folder, or it is not one of a `Cache`.
    """
    return CacheReport(os.fspath(folder), tuple(kept_in(os.fspath(folder))))


def remove_from_cache(folder: str | os.PathLike[str], pattern: str) -> CacheReport:
    """What was removed: all of the sources that match ``pattern``, such as ``"*"`` or ``"*/atlas.h5ad"``.

    Loaders that read it right now read on.

    Raises
    ------
    SourceError, ParameterError
        There is no such folder, or it is not one of a `Cache`.
    """
    return CacheReport(os.fspath(folder), tuple(remove_kept(os.fspath(folder), pattern)), removed=True)
