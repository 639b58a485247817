"""The files that a pattern names."""

from __future__ import annotations

import glob
import os

from annpipes.errors import SourceError
from annpipes.stores.refusals import refuse_remote

__all__ = ["is_pattern", "paths_of"]


def is_pattern(path: str) -> bool:
    """Whether a path is a glob, and no file of that very name."""
    return any(sign in path for sign in "*?[") and not os.path.exists(path)


def paths_of(pattern: str) -> list[str]:
    """The files that a glob names, sorted."""
    refuse_remote(pattern)
    found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        hint = f"; '~' is not replaced here: use os.path.expanduser({pattern!r})" if pattern.startswith("~") else ""
        raise SourceError(f"no file matches {pattern!r}{hint}")
    return found
