"""Where the time of a pass goes."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from time import perf_counter

__all__ = ["Meter", "Tally", "active_meter", "count", "measured", "metering"]


class Tally(defaultdict[str, float]):
    """Seconds and amounts by name, of one thread of a meter."""

    __slots__ = ("meter",)

    def __init__(self, meter: Meter) -> None:
        super().__init__(float)
        self.meter: Meter = meter


class _Here(threading.local):
    tally: Tally | None = None


_here = _Here()


class Meter:
    """Seconds and amounts by name, added up over threads, of which each has its own sums: no lock, for each batch."""

    def __init__(self) -> None:
        self._tallies: dict[int, Tally] = {}

    def __reduce__(self) -> tuple[type[Meter], tuple[()]]:
        return Meter, ()

    def tally(self) -> Tally:
        """What the running thread adds to."""
        thread = threading.get_ident()
        try:
            return self._tallies[thread]
        except KeyError:
            return self._tallies.setdefault(thread, Tally(self))

    @property
    def totals(self) -> Counter[str]:
        """The sums over all threads."""
        totals: Counter[str] = Counter()
        for tally in list(self._tallies.values()):
            totals.update(dict(tally))
        return totals


def active_meter() -> Meter | None:
    """The meter of the pass that this thread works for, if any."""
    return None if _here.tally is None else _here.tally.meter


class metering:
    """Let what this thread measures go to ``meter`` until the block ends.

    A class, as `measured` is: both run for each batch.
    """

    __slots__ = ("before", "meter")

    def __init__(self, meter: Meter | None) -> None:
        self.meter: Meter | None = meter

    def __enter__(self) -> None:
        self.before: Tally | None = _here.tally
        _here.tally = None if self.meter is None else self.meter.tally()

    def __exit__(self, *error: object) -> None:
        _here.tally = self.before


class measured:
    """Add the seconds that the block takes to the active meter.

    A class, because a generator's context costs several microseconds and this runs for each storage chunk.
    """

    __slots__ = ("begin", "name", "tally")

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.tally: Tally | None = _here.tally

    def __enter__(self) -> None:
        self.begin: float = perf_counter()

    def __exit__(self, *error: object) -> None:
        if self.tally is not None:
            self.tally[self.name] += perf_counter() - self.begin


def count(name: str, amount: float) -> None:
    """Add an amount to the active meter."""
    if _here.tally is not None:
        _here.tally[name] += amount
