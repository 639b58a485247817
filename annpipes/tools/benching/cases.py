"""One order of a file's rows, measured in turns with the bare work that it needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np

from annpipes.plans.rows import Rows
from annpipes.plans.schedule import Schedule
from annpipes.running.loader import Loader
from annpipes.stages.sources import IndexSource
from annpipes.stores import BareReading, BareWork, Store, Threads, densifying
from annpipes.tools.benching.bounds import BenchCase, BenchLimit
from annpipes.tools.benching.peers import Task, compare
from annpipes.tools.benching.results import BenchPeer
from annpipes.tools.timing import Times, drop, interleaved, known_share, sample_rows, seconds_of, warm
from annpipes.types import Chunk

__all__ = ["Cold", "Sample", "Trial", "consume"]

Form = Literal["csr", "dense"]

_TURNS = 3, 15  # at least and at most
_SLOW = 1.0  # seconds of a pass: beside them, what only a first pass does is nothing
_COLD_SECONDS = 1.0  # at most: what a device gives shows soon
_COLD_PASSES = {"disk": 5, "network": 1}  # as much time as so many passes may a first read take; all are, of a network


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows from all of a file in one order, as an epoch of their own.

    Parameters
    ----------
    path, store
        The file; it has no path if it is remote.
    order
        ``random``, ``blocks`` or ``sequential``.
    block_size
        How many rows stay together.
    batch_size, chunk_size
        As of a pipe.
    count
        About how many rows.
    cached
        Whether a cache keeps what is read.
    """

    path: str | None
    store: Store
    order: str
    block_size: int
    batch_size: int
    chunk_size: int
    count: int
    cached: bool = False

    @classmethod
    def of(cls, path: str | None, source: IndexSource, order: str, batch_size: int, chunk_size: int) -> Sample:
        """A chunk of rows."""
        chunk_size = max(chunk_size // batch_size, 1) * batch_size  # as a Loader does
        cached = source.cache is not None
        block_size = {"random": 1, "blocks": source.plan.block_size}.get(order, chunk_size)
        return cls(path, source.store, order, block_size, batch_size, chunk_size, chunk_size, cached)

    @cached_property
    def rows(self) -> Rows:
        """The rows, ascending."""
        if self.count >= self.store.n_obs:
            return range(self.store.n_obs)
        return np.sort(sample_rows(self.store.n_obs, self.block_size, self.count))

    @cached_property
    def _ordered(self) -> Any:
        source = IndexSource(self.store, rows=self.rows, block_size=self.block_size)
        return source if self.order == "sequential" else source.shuffle_blocks()

    def loader(self, form: Form) -> Loader:
        """The default pipe over these rows."""
        read = self._ordered.sort_within_chunks(self.chunk_size).read_rows().batch_rows(self.batch_size)
        return Loader(read.collate_rows(form))

    @cached_property
    def chunks(self) -> list[Chunk]:
        """What the loader reads in its first epoch."""
        schedule = Schedule(self._ordered.plan, self.batch_size, self.chunk_size)
        epoch = schedule.epoch((0, 0))
        return [epoch.chunk(step) for step in range(schedule.n_steps)]


class Cold:
    """What the device, or the network, gives for a sample that is not in the page cache.

    It has to be measured before the file is read otherwise: what a process has mapped is kept.
    """

    def __init__(self, sample: Sample, seconds: float) -> None:
        self.kept: float | None = None
        self.limit: BenchLimit | None = None
        if sample.cached:  # no other file is read once all is there
            return
        if sample.path is not None:
            drop(sample.path)
            self.kept = known_share(sample.path)
        bare, n_rows = BareReading(sample.store, sample.chunks), len(sample.rows)
        work = bare.network() or bare.disk()
        if work is not None and work.n_bytes:
            with Threads(work.at_once) as threads:
                tasks = [task for chunk in work.tasks for task in chunk]
                n_bytes, taken = threads.run_for(tasks, min(seconds, _COLD_SECONDS))
            rate = n_bytes / max(taken, 1e-9)
            self.limit = BenchLimit(work.name, work.what, rate / work.n_bytes * n_rows, rate / 1e6)

    def of(self, name: str) -> BenchLimit | None:
        """The limit, if it is the one of this name."""
        return self.limit if self.limit is not None and self.limit.name == name else None


class Trial:
    """The cases of one order, and its peers.

    Parameters
    ----------
    sample
        Which rows; more of them are taken if they are read sooner.
    cold
        The same from the disk, or over the network.
    seconds
        About how long each form is measured.
    fits_memory
        Whether the whole file can be read into the page cache.
    threads
        Those of the bare work.
    """

    def __init__(
        self, sample: Sample, cold: Cold, seconds: float, *, fits_memory: bool | None, threads: Threads
    ) -> None:
        self.cold: Cold = cold
        self.seconds: float = seconds
        self.fits_memory: bool | None = fits_memory
        self.threads: Threads = threads
        if cold.limit is not None:  # a disk that seeks for each row would take minutes for a chunk
            most = int(cold.limit.cells_per_second * _COLD_PASSES[cold.limit.name] * seconds)
            sample = replace(sample, count=min(sample.count, max(sample.batch_size, most)))
        first = BareReading(sample.store, sample.chunks[:1])
        self.forms: tuple[Form, ...] = ("csr", "dense") if first.sparse else ("dense",)
        rates = [_first_rate(sample, form) for form in self.forms]
        self.slow: bool = len(sample.rows) / min(rates) > _SLOW
        self.sample: Sample = _enlarged(sample, max(rates) * seconds / (_TURNS[0] + 1))
        turns = int(min(rates) * seconds / 2 / len(self.sample.rows))
        self.turns: int = min(_TURNS[1], max(_TURNS[0], turns))
        self.filled: float = self._fill() if sample.cached else 0.0
        self.reading: BareReading = BareReading(sample.store, self.sample.chunks)
        self._disk = self.reading.disk()
        self._cached: float | None = None

    def _fill(self) -> float:
        """Have all rows in the cache, if it has room; the share of their bytes that come from there."""
        loader = self.sample.loader(self.forms[0])
        for _ in range(2):
            consume(loader)
        return loader.stats().cached

    def cases(self) -> list[BenchCase]:
        """One for each form."""
        works = [(len(self.sample.rows), work) for work in self.reading.works(self.threads)]
        works += [self._densifying()] if "csr" in self.forms else []
        contenders: dict[str, Callable[[], Any]] = {
            form: partial(consume, self.sample.loader(form)) for form in self.forms
        }
        contenders |= {work.name: partial(self.threads.run_chunks, work.tasks) for _, work in works}
        times = interleaved(contenders, self.turns, self.warm, discarded=0 if self.slow else 1)
        limits = [_limit(work, n_rows, times) for n_rows, work in works]
        return [self._case(form, times, limits) for form in self.forms]

    def against(self, name: str) -> BenchPeer:
        """A peer in turns with annpipes, in the form in which X is stored."""
        form = self.forms[0]
        assert self.sample.path is not None  # others read files
        return compare(
            name,
            Task(
                path=self.sample.path,
                order=self.sample.order,
                form=form,
                drawn=np.concatenate([chunk.drawn for chunk in self.sample.chunks]),
                block_size=self.sample.block_size,
                batch_size=self.sample.batch_size,
                chunk_size=self.sample.chunk_size,
                ours=partial(consume, self.sample.loader(form)),
                before=self.warm,
                seconds=self.seconds,
            ),
        )

    def warm(self) -> None:
        """Have what the sample needs in the page cache, unless it still is, or comes over a network."""
        if self.sample.path is None:
            return
        cached = known_share(self.sample.path)
        if cached is not None and self._cached is not None and cached >= self._cached:
            return
        if self._disk is not None:
            self.threads.run_chunks(self._disk.tasks)
        elif self.fits_memory is not False:
            warm(self.sample.path)
        self._cached = known_share(self.sample.path)

    def _densifying(self) -> tuple[int, BareWork]:
        """Making the batches of the first chunk dense, and how many rows that are."""
        chunk, size = self.sample.chunks[0], self.sample.batch_size
        rows = self.sample.store.read(chunk, ["X"])["X"]
        batches: list[Any] = [rows[start : start + size] for start in range(0, len(chunk), size)]
        return len(chunk), densifying(batches, self.threads)

    def _case(self, form: Form, times: Times, limits: Sequence[BenchLimit]) -> BenchCase:
        n_rows = len(self.sample.rows)
        slowest, fastest = times.rates(form, n_rows)
        return BenchCase.of(
            self.sample.store.n_obs,
            order=self.sample.order,
            block_size=self.sample.block_size,
            form=form,
            rows=n_rows,
            turns=self.turns,
            cells_per_second=times.rate(form, n_rows),
            slowest=slowest,
            fastest=fastest,
            limits=[limit for limit in limits if form == "dense" or limit.name != "densify"],
            disk=self.cold.of("disk"),
            network=self.cold.of("network"),
            read_amplification=self.reading.decoded_bytes / max(1, self.reading.row_bytes),
        )


def consume(loader: Loader) -> int:
    """The number of cells in one pass, always over the same epoch."""
    loader.set_epoch(0)
    return sum(batch["X"].shape[0] for batch in loader)


def _first_rate(sample: Sample, form: Form) -> float:
    """Rows per second of a second pass, as the first one compiles and opens; of the first if that hardly matters."""
    one_pass = partial(consume, sample.loader(form))
    first = seconds_of(one_pass)
    return len(sample.rows) / (first if first > _SLOW else seconds_of(one_pass))


def _enlarged(sample: Sample, count: float) -> Sample:
    """So many rows as whole chunks, if that is more."""
    more = min(math.ceil(count / sample.chunk_size) * sample.chunk_size, sample.store.n_obs)
    return replace(sample, count=more) if more > sample.count >= sample.chunk_size else sample


def _limit(work: BareWork, n_rows: int, times: Times) -> BenchLimit:
    megabytes = times.rate(work.name, work.n_bytes / 1e6)
    return BenchLimit(work.name, work.what, times.rate(work.name, n_rows), megabytes, work.quick)
