"""How fast loaders are, timed in turns as long as there is time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Mapping
from itertools import islice

from annpipes._reports import Progress
from annpipes.loaders import Loader

__all__ = ["rates_in_turns"]

Sizes = tuple[int, int]
"""Of blocks and chunks."""

_TURNS = 5
_FAR_SLOWER = 3
_FIRST_TURN = 2 / 3  # of the time; the rest is for those that matter
_TIMED_ROWS = 16_384  # at least, where an epoch has more than a few chunks
_FEW_CHUNKS = 4
_SHORT = 0.05  # seconds: epochs are repeated until so many have passed


def rates_in_turns(
    loaders: Mapping[Sizes, Loader], seconds: float, progress: Progress, wanted: Collection[Sizes]
) -> tuple[dict[Sizes, list[float]], list[Sizes]]:
    """Cells per second of loaders by block and chunk size, and those that would have taken too long.

    All have one turn; those ``wanted`` that are not far slower than the fastest of these have more, as long as there
    is time, every other turn backwards: what changes on the machine meanwhile then hits all alike.
    """
    begin, total = time.perf_counter(), _TURNS * len(loaders)
    rates: dict[Sizes, list[float]] = {}
    left_out: list[Sizes] = []
    taken: dict[Sizes, float] = {}  # seconds
    smallest = min(chunk for _, chunk in loaders)
    deque(islice(next(iter(loaders.values())), 2), maxlen=0)  # compiles, opens files
    for sizes, loader in loaders.items():
        started = time.perf_counter()
        if sizes[1] > smallest and started - begin + _expected(sizes, loaders, taken) > _FIRST_TURN * seconds:
            left_out.append(sizes)
        else:
            rates[sizes] = [_rate(loader, 0)]
            taken[sizes] = time.perf_counter() - started
        progress(len(rates) + len(left_out), total)
    least = max((rates[sizes][0] for sizes in rates if sizes in wanted), default=0.0) / _FAR_SLOWER
    again = [sizes for sizes in rates if sizes in wanted and rates[sizes][0] >= least]
    for turn in range(1, _TURNS):
        if not again or time.perf_counter() - begin + sum(taken[sizes] for sizes in again) > seconds:
            break
        for place, sizes in enumerate(again[:: -1 if turn % 2 else 1], 1):
            rates[sizes].append(_rate(loaders[sizes], turn))
            progress(turn * len(loaders) + place, total)
    progress(total, total)
    return rates, left_out


def _expected(sizes: Sizes, loaders: Mapping[Sizes, Loader], taken: Mapping[Sizes, float]) -> float:
    """Seconds that timing a loader will take, by what a row took with these or the largest blocks so far."""
    if not taken:
        return 0.0
    alike = [other for other in taken if other[0] == sizes[0]] or [max(taken)]
    return _rows_read(loaders[sizes]) * taken[alike[-1]] / _rows_read(loaders[alike[-1]])


def _timed_chunks(loader: Loader) -> int:
    """How many chunks are timed after the first one, or 0 where an epoch has so few that it is timed as a whole."""
    schedule = loader._schedule
    if schedule.n_steps <= _FEW_CHUNKS:
        return 0
    return min(max(1, -(-_TIMED_ROWS // schedule.chunk_size)), schedule.n_steps - 2)


def _rows_read(loader: Loader) -> int:
    """How many rows are read to time a loader: of chunks also the first one, and one ahead."""
    timed, schedule = _timed_chunks(loader), loader._schedule
    return (timed + 2) * schedule.chunk_size if timed else schedule.n_rows


def _rate(loader: Loader, epoch: int) -> float:
    """Cells per second of an epoch that is well under way, or of whole epochs where they are short."""
    loader.set_epoch(epoch)
    timed, schedule = _timed_chunks(loader), loader._schedule
    if not timed:
        begin, rows = time.perf_counter(), 0
        while not rows or time.perf_counter() - begin < _SHORT:
            deque(loader, maxlen=0)
            rows += schedule.n_rows
        return rows / (time.perf_counter() - begin)
    each = schedule.chunk_size // schedule.batch_size
    batches = iter(loader)
    deque(islice(batches, each), maxlen=0)
    begin = time.perf_counter()
    deque(islice(batches, timed * each), maxlen=0)
    taken = time.perf_counter() - begin
    batches.close()  # type: ignore[attr-defined] # a generator, whose reader goes on otherwise
    return timed * schedule.chunk_size / taken
