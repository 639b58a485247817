"""What reports have in common: plain values for machines, aligned text for people."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

__all__ = ["Progress", "Report", "Steps", "brief_bytes", "brief_number", "brief_time", "no_progress", "plain", "table"]

T = TypeVar("T")

Progress = Callable[[int, int], None]
"""Called now and then with how much is done, and how much there is to do."""


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


class Steps:
    """Tells ``progress`` what is done of ``total`` steps, from any thread."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0
        self._lock = threading.Lock()
        progress(0, total)

    def __call__(self, count: int) -> None:
        """So many more are done."""
        with self._lock:
            self.done += count
            self.progress(self.done, self.total)

    def after(self, result: T) -> T:
        """``result``, whose making was a step."""
        self(1)
        return result


class Report:
    """A dataclass whose ``str`` is for a terminal and whose `to_dict` is for machines."""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values that JSON can hold."""
        values: dict[str, Any] = plain(self)
        return values


def plain(value: Any) -> Any:
    """``value`` as dicts, lists, strings and numbers, so that JSON can hold it; what is not finite becomes None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray | list | tuple | range):
        return [plain(part) for part in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Columns of text, aligned; those in ``numbers`` to the right.

    >>> print(table(["field", "rows"], [["X", "700"], ["obs/louvain", "70"]], numbers=[1]))
    field        rows
    X             700
    obs/louvain    70
    """
    lines = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = (
        "  ".join(
            cell.rjust(width) if place in numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
    return "\n".join(map(str.rstrip, aligned))


def brief_bytes(count: float) -> str:
    """A number of bytes to three digits.

    >>> brief_bytes(1_234_567_890), brief_bytes(12_300), brief_bytes(7)
    ('1.23 GB', '12.3 kB', '7 B')
    """
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * size:
            return f"{brief_number(count / size)} {unit}"
    return f"{count:.0f} B"


def brief_number(number: float) -> str:
    """A number to three digits, thousands set apart.

    >>> brief_number(104_321), brief_number(0.96123), brief_number(12.0)
    ('104,000', '0.961', '12')
    """
    short = float(f"{number:.3g}")
    return f"{short:,.0f}" if short.is_integer() else f"{short:,g}"


def brief_time(seconds: float) -> str:
    """Seconds for people.

    >>> brief_time(0.0123), brief_time(3.21), brief_time(150), brief_time(9000)
    ('12 ms', '3.2 s', '2.5 min', '2.5 h')
    """
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= 1.5 * size or (unit == "s" and seconds >= 0.1):
            return f"{seconds / size:.1f} {unit}" if seconds < 9.95 * size else f"{seconds / size:.0f} {unit}"
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.001 else "under 1 ms"
