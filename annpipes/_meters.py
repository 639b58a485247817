"""Where the time of a pass goes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

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

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Add the seconds that the block takes."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - begin)


def active_meter() -> Meter | None:
    """The meter of the pass that this thread works for, if any."""
    return getattr(_local, "meter", None)


@contextmanager
def metering(meter: Meter | None) -> Iterator[None]:
    """Let what this thread measures go to ``meter`` until the block ends."""
    before = active_meter()
    _local.meter = meter
    try:
        yield
    finally:
        _local.meter = before


@contextmanager
def measured(name: str) -> Iterator[None]:
    """Add the seconds that the block takes to the active meter."""
    meter = active_meter()
    with meter.measured(name) if meter is not None else nullcontext():
        yield


def count(name: str, amount: float) -> None:
    """Add an amount to the active meter."""
    meter = active_meter()
    if meter is not None:
        meter.add(name, amount)
