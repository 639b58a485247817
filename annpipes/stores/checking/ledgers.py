"""What a check finds, in stretches of rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from annpipes.messages.reporting import Report
from annpipes.plans.rows import RowArray, runs
from annpipes.stores.engine.stretches import Stretches

__all__ = ["Damage", "Ledger", "Ledgers"]

_MOST = 50  # of one kind in one field; the last of them covers the rest


@dataclass(frozen=True)
class Damage(Report):
    """Something that is wrong with a file, and where.

    Parameters
    ----------
    field
        The field or the part of it, such as ``X/indices``; ``file`` if it is the whole file.
    what
        What is wrong.
    unit
        What ``first`` and ``last`` count: ``rows`` (along obs), ``genes`` (along var) or ``entries``.
    first, last
        Where it begins and ends; None if it does not concern particular rows.
    count
        How many rows from ``first`` to ``last`` are affected.
    """

    field: str
    what: str
    unit: str = "rows"
    first: int | None = None
    last: int | None = None
    count: int = 0

    def __str__(self) -> str:
        return f"{self.field}{self.where and ', '}{self.where}: {self.what}"

    @property
    def where(self) -> str:
        """The rows in words."""
        if self.first is None or self.last is None:
            return ""
        if self.first == self.last:
            return f"{self.unit.removesuffix('s') if self.unit != 'entries' else 'entry'} {self.first:,}"
        span = self.last - self.first + 1
        some = "" if self.count == span else f" ({self.count:,} of these {span:,})"
        return f"{self.unit} {self.first:,} … {self.last:,}{some}"


class Ledger:
    """Notes of what is wrong; those that say the same of neighbouring rows become one."""

    def __init__(self) -> None:
        self._spans: dict[tuple[str, str, str], list[tuple[int, int]]] = {}

    def __len__(self) -> int:
        return len(self._spans)

    def note(
        self, field: str, what: str, unit: str = "rows", first: int | None = None, last: int | None = None
    ) -> None:
        """Something is wrong with the rows from ``first`` to ``last``, or as a whole."""
        spans = self._spans.setdefault((field, what, unit), [])
        if first is not None:
            spans.append((first, first if last is None else last))

    def note_rows(self, field: str, what: str, unit: str, rows: RowArray) -> None:
        """Something is wrong with each of these ascending rows."""
        for first, length in zip(*(part.tolist() for part in runs(rows)), strict=True):
            self.note(field, what, unit, first, first + length - 1)

    def knows(self, field: str) -> bool:
        """Whether something is wrong with a field or a part of it."""
        return any(noted == field or noted.startswith(f"{field}/") for noted, _, _ in self._spans)

    def entries(self) -> tuple[Damage, ...]:
        """All notes, in the order in which fields were first noted."""
        found: list[Damage] = []
        for (place, what, unit), spans in self._spans.items():
            joined = _joined(spans)
            kept, rest = (joined, []) if len(joined) <= _MOST else (joined[: _MOST - 1], joined[_MOST - 1 :])
            found += [Damage(place, what, unit, first, last, last - first + 1) for first, last in kept]
            if rest:
                rows = sum(last - first + 1 for first, last in rest)
                found.append(Damage(place, what, unit, rest[0][0], rest[-1][1], rows))
            if not joined:
                found.append(Damage(place, what, unit))
        return tuple(found)


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in ascending order; those that touch or overlap are one.

    >>> _joined([(4, 6), (0, 1), (7, 7), (2, 2)])
    [(0, 2), (4, 7)]
    """
    ordered = np.array(sorted(spans), np.int64).reshape(-1, 2)
    if not len(ordered):
        return []
    ends = np.maximum.accumulate(ordered[:, 1])
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:, 0] > ends[:-1] + 1]))
    lasts = np.append(begins[1:], len(ordered)) - 1
    return list(zip(ordered[begins, 0].tolist(), ends[lasts].tolist(), strict=True))


@dataclass(frozen=True)
class Ledgers:
    """What is damaged, what is unusual, and what could not be looked at."""

    damage: Ledger = field(default_factory=Ledger)
    remarks: Ledger = field(default_factory=Ledger)
    unchecked: Ledger = field(default_factory=Ledger)

    def know(self, name: str) -> bool:
        """Whether a field, or a part of it, is damaged or could not be looked at."""
        return self.damage.knows(name) or self.unchecked.knows(name)

    def note_bad(self, part: Stretches, path: str, unit: str, indptr: RowArray | None = None) -> None:
        """What could not be read of a dataset; ``indptr`` says where its rows begin."""
        for bad in part.bad:
            first, last = bad.first, bad.last
            if indptr is not None:
                first, last = (np.searchsorted(indptr, [first, last], side="right") - 1).tolist()
            self.damage.note(path, bad.reason, unit, first, last)
        if part.table and not part.bad:
            self.damage.note(path, part.table)
