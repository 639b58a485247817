"""How fast loaders are, timed in turns as long as there is time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from itertools import islice

from annpipes.messages.progress import Progress
from annpipes.running.loader import Loader
from annpipes.stores import bytes_of
from annpipes.tools.timing import available_memory, warm

__all__ = ["Sizes", "rates_in_turns", "warm_files"]

Sizes = tuple[int, int]
"""Of blocks and chunks."""

_TURNS = 5
_FAR_SLOWER = 3
_FIRST_TURN = 2 / 3  # of the time; the rest is for those that matter
_TIMED_ROWS = 16_384  # at least, where an epoch has more than a few chunks
_FEW_CHUNKS = 4
_SHORT = 0.2  # seconds: as many chunks or epochs are timed as take longer


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
    ready: set[int] = set()  # chunk sizes
    for sizes, loader in loaders.items():
        started = time.perf_counter()
        if sizes[1] > smallest and started - begin + _expected(sizes, loaders, taken) > _FIRST_TURN * seconds:
            left_out.append(sizes)
        else:
            if sizes[1] not in ready:
                _get_ready(loaders[max(other for other in loaders if other[1] == sizes[1])])
                ready.add(sizes[1])
                started = time.perf_counter()
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


def _get_ready(loader: Loader) -> None:
    """Read two chunks: what compiles, opens files, and has the system find memory for chunks of this size."""
    schedule = loader.planned().schedule
    loader.set_epoch(_TURNS)
    deque(islice(loader, 2 * schedule.chunk_size // schedule.batch_size), maxlen=0)


def _expected(sizes: Sizes, loaders: Mapping[Sizes, Loader], taken: Mapping[Sizes, float]) -> float:
    """Seconds that timing a loader will take, by what a row took with these or the largest blocks so far."""
    if not taken:
        return 0.0
    alike = [other for other in taken if other[0] == sizes[0]] or [max(taken)]
    return _rows_read(loaders[sizes]) * taken[alike[-1]] / _rows_read(loaders[alike[-1]])


def warm_files(paths: Sequence[str], seconds: float) -> None:
    """Read files that fit in free memory into the page cache, for a limited time, so that all loaders find it alike."""
    free = available_memory()
    if free is None or sum(map(bytes_of, paths)) > free / 2:
        return
    until = time.perf_counter() + seconds
    for path in paths:
        warm(path, until)


def _timed_whole(loader: Loader) -> bool:
    """Whether an epoch has so few chunks that it is timed as a whole."""
    return loader.planned().schedule.n_steps <= _FEW_CHUNKS


def _rows_read(loader: Loader) -> int:
    """How many rows are read at least to time a loader: of chunks also the first one, and one ahead."""
    schedule = loader.planned().schedule
    timed = -(-_TIMED_ROWS // schedule.chunk_size)
    return schedule.n_rows if _timed_whole(loader) else min((timed + 2) * schedule.chunk_size, schedule.n_rows)


def _rate(loader: Loader, epoch: int) -> float:
    """Cells per second of an epoch that is well under way, or of whole epochs where they are short."""
    loader.set_epoch(epoch)
    schedule = loader.planned().schedule
    if _timed_whole(loader):
        begin, rows = time.perf_counter(), 0
        while not rows or time.perf_counter() - begin < _SHORT:
            deque(loader, maxlen=0)
            rows += schedule.n_rows
        return rows / (time.perf_counter() - begin)
    batches = iter(loader)
    deque(islice(batches, schedule.first_batch(1)), maxlen=0)
    begin, rows, taken = time.perf_counter(), 0, 0.0
    for step in range(1, schedule.n_steps - 1):  # without the last one, of which the last batch may be short
        each = schedule.first_batch(step + 1) - schedule.first_batch(step)
        deque(islice(batches, each), maxlen=0)
        rows, taken = rows + each * schedule.batch_size, time.perf_counter() - begin
        if rows >= _TIMED_ROWS and taken >= _SHORT:
            break
    batches.close()  # type: ignore[attr-defined] # a generator, whose reader goes on otherwise
    return rows / taken
