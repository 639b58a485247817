"""Rows of which the first can be had before the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = ["Begun", "nothing"]


def nothing() -> None:
    """No rest: nothing is left to do, and no rows are left to have."""


class Begun(NamedTuple):
    """Rows of which the first are there, and the others are not yet.

    Parameters
    ----------
    first
        Values of the first rows, as many as were asked for; of all if that was 0.
    rest
        Call it, once, to have the values of the other rows.
    """

    first: Any
    rest: Callable[[], Any] = nothing

    @classmethod
    def of(cls, values: Any, first: int, finish: Callable[[], None] = nothing) -> Begun:
        """Slices of ``values``, of which the first rows are there, and the others once ``finish`` was called."""
        if not first:
            return cls(values)

        def rest() -> Any:
            finish()
            return values[first:]

        return cls(values[:first], rest)

    @classmethod
    def each(cls, begun: Mapping[str, Begun]) -> Begun:
        """Several, by key, as one."""
        return cls(
            {key: one.first for key, one in begun.items()}, lambda: {key: one.rest() for key, one in begun.items()}
        )

    def then(self, change: Callable[[Any], Any]) -> Begun:
        """The same rows, each part changed by a function of it."""
        return Begun(change(self.first), lambda: change(self.rest()))
