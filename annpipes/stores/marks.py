"""What a rewritten file says about how its rows were shuffled."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import h5py

from annpipes.stores.containers.base import Container

__all__ = ["is_mixed", "mark_of", "put_mark"]

_ATTRIBUTE = "annpipes-shuffled"  # of the file's root; anndata ignores it and does not copy it


def put_mark(file: h5py.File, mark: Mapping[str, Any]) -> None:
    """Say in ``file`` how it was shuffled; ``mark`` is anything that JSON can hold."""
    file.attrs[_ATTRIBUTE] = json.dumps(mark)


def mark_of(path: str) -> Mapping[str, Any]:
    """What a file says about how it was shuffled; empty if there is no file, or it was not shuffled."""
    if not os.path.exists(path):
        return {}
    with h5py.File(path, "r") as file:
        return _parsed(file.attrs.get(_ATTRIBUTE))


def is_mixed(container: Container) -> bool:
    """Whether neighbours in it are neighbours by chance: it was shuffled, and not by groups."""
    mark = _parsed(container.attribute(_ATTRIBUTE))
    return bool(mark) and mark.get("groupby") is None


def _parsed(text: Any) -> Mapping[str, Any]:
    try:
        mark = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        mark = {}
    return mark if isinstance(mark, dict) else {}
