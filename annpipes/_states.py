"""Positions in a training run, and what they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annpipes.errors import StateError

__all__ = ["differences", "open_state", "state_of"]

VERSION = 2


def state_of(epoch: int, batch: int, belongs_to: Mapping[str, Any]) -> dict[str, Any]:
    """A position as numbers and short strings: JSON, and of one size whatever the data."""
    return {"version": VERSION, "epoch": epoch, "batch": batch, "belongs_to": dict(belongs_to)}


def open_state(state: Mapping[str, Any], belongs_to: Mapping[str, Any]) -> tuple[int, int]:
    """Epoch and batch of a saved position.

    Raises
    ------
    StateError
        It was saved by another version, or belongs to something else; the message names each difference.
    """
    if state.get("version") != VERSION:
        raise StateError(f"expected a state of version {VERSION}, got {state.get('version')!r}")
    missing = {"epoch", "batch", "belongs_to"} - state.keys()
    if missing:
        raise StateError(f"the state lacks {', '.join(sorted(missing))}")
    different = differences(state["belongs_to"], belongs_to)
    if different:
        raise StateError(f"the state was saved by another loader: {different}")
    return int(state["epoch"]), int(state["batch"])


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs, in words; nothing if nothing does."""
    keys = sorted({*before, *now})
    unequal = [key for key in keys if before.get(key) != now.get(key)]
    return "; ".join(f"{key} was {before.get(key)!r} and is {now.get(key)!r}" for key in unequal)
