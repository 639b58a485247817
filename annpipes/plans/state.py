"""Saved positions, and what they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from annpipes.errors import StateError

__all__ = ["State", "differences"]

_VERSION = 5
_LARGEST = 2**63 - 1
_OWN = ("version", "belongs_to")


@dataclass(frozen=True)
class State:
    """A position in something, as numbers and short strings: JSON, and of one size whatever the data.

    >>> saved = State({"epoch": 1, "batch": 7}, {"seed": 0}).as_dict()
    >>> saved
    {'version': 5, 'epoch': 1, 'batch': 7, 'belongs_to': {'seed': 0}}
    >>> State.read(saved, {"epoch": int, "batch": int}).checked({"seed": 0})["batch"]
    7

    Parameters
    ----------
    position
        Where something stands, by name: integers from 0, short strings, or None.
    belongs_to
        What it is a position in: values that distinguish this from others.
    """

    position: Mapping[str, Any]
    belongs_to: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """What is saved."""
        return {"version": _VERSION, **self.position, "belongs_to": dict(self.belongs_to)}

    @classmethod
    def read(cls, saved: Any, expected: Mapping[str, Any]) -> State:
        """A saved position, each part of it checked before anything is built from it.

        Parameters
        ----------
        saved
            What `as_dict` gave, perhaps through JSON or a checkpoint.
        expected
            The parts of the position, and the type of each: ``int``, ``str`` or ``int | None``.

        Raises
        ------
        StateError
            It is of another version, or was spoilt.
        """
        if not isinstance(saved, Mapping):
            raise StateError(f"a state must be a dict, got {saved!r:.80}")
        if saved.get("version") != _VERSION or isinstance(saved["version"], bool):
            raise StateError(f"expected a state of version {_VERSION}, got {saved.get('version')!r:.80}")
        missing = {*expected, "belongs_to"} - saved.keys()
        if missing:
            raise StateError(f"the state lacks {', '.join(sorted(missing))}")
        belongs_to = saved["belongs_to"]
        if not isinstance(belongs_to, Mapping) or not all(isinstance(name, str) for name in belongs_to):
            raise StateError(f"the state belongs to {belongs_to!r:.80}, which is not a dict of values by name")
        for name, kind in expected.items():
            _check(name, saved[name], kind)
        return cls({name: saved[name] for name in expected}, dict(belongs_to))

    def natural(self, name: str) -> int:
        """A number of what it belongs to, from 1 on."""
        value = self.belongs_to.get(name)
        _check(name, value, int)
        if not value:
            raise StateError(f"the state has {name}={value!r}, which is not an integer of at least 1")
        return int(value)

    def checked(self, belongs_to: Mapping[str, Any]) -> Mapping[str, Any]:
        """The position, if it is one in this.

        Raises
        ------
        StateError
            It belongs to something else; the message names each difference.
        """
        different = differences(self.belongs_to, belongs_to)
        if different:
            raise StateError(f"the state belongs to other data or parameters: {different}")
        return self.position


def _check(name: str, value: Any, kind: Any) -> None:
    right = isinstance(value, kind) and not isinstance(value, bool)
    if not right or (isinstance(value, int) and not 0 <= value <= _LARGEST):
        expected = "a string" if kind is str else "an integer of at least 0"
        raise StateError(f"the state has {name}={value!r:.80}, which is not {expected}")


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs, in words; empty if nothing does."""
    keys = sorted({*before, *now})
    unequal = [key for key in keys if not _equal(before.get(key), now.get(key))]
    return "; ".join(f"{key} was {before.get(key)!r:.200} and is {now.get(key)!r:.200}" for key in unequal)


def _equal(before: Any, now: Any) -> bool:
    return type(before) is type(now) and bool(before == now)
