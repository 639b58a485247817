"""Where the time of a pass goes."""

from __future__ import annotations

import threading
import time
from collections import Counter

__all__ = ["Meter", "active_meter", "count", "measured", "metering"]

_local = threading.local()


class Meter:
    """Seconds and amounts by name, added up over threads."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Meter], tuple[()]]:
        return Meter, ()

    def add(self, name: str, amount: float) -> None:
        """Add to a total."""
        with self._lock:
            self.totals[name] += amount  # type: ignore[assignment] # Counter is typed for whole numbers

    def measured(self, name: str) -> measured:
        """Add the seconds that the block takes."""
        return measured(name, self)


def active_meter() -> Meter | None:
    """The meter of the pass that this thread works for, if any."""
    return getattr(_local, "meter", None)


class metering:
    """Let what this thread measures go to ``meter`` until the block ends.

    A class, as `measured` is: both run for each batch.
    """

    __slots__ = ("before", "meter")

    def __init__(self, meter: Meter | None) -> None:
        self.meter = meter

    def __enter__(self) -> None:
        self.before = active_meter()
        _local.meter = self.meter

    def __exit__(self, *error: object) -> None:
        _local.meter = self.before


class measured:
    """Add the seconds that the block takes to a meter, or to the active one.

    A class, because a generator's context costs several microseconds and this runs for each storage chunk.
    """

    __slots__ = ("begin", "meter", "name")

    def __init__(self, name: str, meter: Meter | None = None) -> None:
        self.name = name
        self.meter = active_meter() if meter is None else meter

    def __enter__(self) -> None:
        self.begin = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        if self.meter is not None:
            self.meter.add(self.name, time.perf_counter() - self.begin)


def count(name: str, amount: float) -> None:
    """Add an amount to the active meter."""
    meter = active_meter()
    if meter is not None:
        meter.add(name, amount)
