"""What a benchmark found, as numbers and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from annpipes.messages.brevity import brief_bytes, brief_number, brief_time
from annpipes.messages.reporting import Report
from annpipes.messages.showing import PAGE, Part, Prose, Shown, Table, Title

__all__ = ["BenchCase", "BenchLimit", "BenchPeer", "Benchmark"]

ANNPIPES = "annpipes"
_LABELS = {
    "disk": "disk",
    "hdf5": "HDF5",
    "zarr": "zarr",
    "decode": "decoding",
    "copy": "copying",
    "densify": "making dense",
}


@dataclass(frozen=True)
class BenchLimit(Report):
    """What this machine gives at best in one kind of work that batches cannot do without.

    Parameters
    ----------
    name
        ``decode``, ``copy``, ``densify``, ``hdf5`` (HDF5's own reading, in place of the first two) or ``disk``.
    work
        The same in words.
    cells_per_second
        If there were no other work.
    megabytes_per_second
        Decoded, copied, written or, of ``disk``, stored bytes (10⁶).
    quick
        Of ``decode``: whether no other codec would be decoded much faster.
    """

    name: str
    work: str
    cells_per_second: float
    megabytes_per_second: float
    quick: bool = False


@dataclass(frozen=True)
class BenchCase(Report):
    """Batches of one form in one order, and what they could be at best.

    Parameters
    ----------
    order
        ``random`` rows, shuffled ``blocks`` or ``sequential``.
    block_size
        How many rows stay together; in sequential order those of one chunk.
    form
        ``csr`` or ``dense`` batches.
    rows, turns
        How many rows were read in each turn, and how often.
    cells_per_second, slowest, fastest
        The median turn, and the two at the ends; from the page cache.
    limits
        The work that the processor has to do; the cores share it, so its times add up.
    disk
        What the device gives; None where only HDF5 knows which bytes are needed.
    read_amplification
        Bytes decoded for each byte of the rows asked for.
    at_most
        Cells per second if nothing but the work of ``limits`` were done.
    share
        Of that, what annpipes reaches.
    binding
        The name of the limit that takes the most of the time; ``annpipes`` if what is not explained by any takes more.
    epoch_seconds
        The whole file at this speed.
    """

    order: str
    block_size: int
    form: str
    rows: int
    turns: int
    cells_per_second: float
    slowest: float
    fastest: float
    limits: tuple[BenchLimit, ...]
    disk: BenchLimit | None
    read_amplification: float
    at_most: float
    share: float
    binding: str
    epoch_seconds: float

    @classmethod
    def of(cls, n_obs: int, *, cells_per_second: float, limits: Sequence[BenchLimit], **values: Any) -> Self:
        """The case with what follows from its numbers."""
        at_most = together(limits)
        return cls(
            **values,
            cells_per_second=cells_per_second,
            limits=tuple(limits),
            at_most=at_most,
            share=cells_per_second / at_most,
            binding=binding(cells_per_second, limits),
            epoch_seconds=n_obs / cells_per_second,
        )

    @property
    def named(self) -> str:
        """The order in words."""
        return f"blocks of {self.block_size}" if self.order == "blocks" else self.order

    def limit(self, name: str) -> BenchLimit | None:
        """The limit of this name, if there is one."""
        return next((limit for limit in (*self.limits, self.disk) if limit and limit.name == name), None)


def together(limits: Sequence[BenchLimit]) -> float:
    """Cells per second if all of this work is done by the same cores.

    >>> together([BenchLimit("decode", "", 300.0, 0), BenchLimit("densify", "", 150.0, 0)])
    100.0
    """
    seconds = sum(1 / limit.cells_per_second for limit in limits)
    return 1 / seconds if seconds else float("inf")


def binding(cells_per_second: float, limits: Sequence[BenchLimit]) -> str:
    """The name of what takes the most of each cell's time; ``annpipes`` for what is no limit's.

    >>> limits = [BenchLimit("decode", "", 300.0, 0), BenchLimit("densify", "", 150.0, 0)]
    >>> binding(90.0, limits), binding(40.0, limits)
    ('densify', 'annpipes')
    """
    seconds = {limit.name: 1 / limit.cells_per_second for limit in limits}
    seconds[ANNPIPES] = 1 / cells_per_second - sum(seconds.values())
    return max(seconds, key=lambda name: seconds[name])


@dataclass(frozen=True)
class BenchPeer(Report):
    """Another loader on the same file, in turns with annpipes.

    Parameters
    ----------
    name
        The loader.
    order, form
        As of `BenchCase`; None if it was not run.
    cells_per_second, annpipes_cells_per_second, speed
        Its median turn, that of annpipes beside it, and how many times as fast annpipes is.
    note
        Why there are no numbers, or what is to be known about them.
    """

    name: str
    order: str | None = None
    form: str | None = None
    cells_per_second: float | None = None
    annpipes_cells_per_second: float | None = None
    speed: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Benchmark(Report, Shown):
    """What `bench` measured; printed, it is a table.

    Parameters
    ----------
    file, n_obs, n_vars, file_bytes, route
        What was read, and how.
    batch_size, chunk_size
        As given to `bench`.
    machine, threads
        On what, and how many threads decode.
    cached_share
        The share of the file that the kernel kept in its page cache although it was asked to drop it: if it is
        large, the limit ``disk`` is the page cache's. None where it cannot be known.
    fits_memory
        Whether the file could stay in the page cache; None where the system does not tell.
    cases
        One for each order and form.
    peers
        Other loaders, if any were asked for.
    findings
        What binds, one sentence for each order.
    conclusion
        What follows from it.
    from_cache
        The least share of the rows' bytes that came from the cache, in any order; None without one.
    """

    file: str
    n_obs: int
    n_vars: int
    file_bytes: int
    route: str
    batch_size: int
    chunk_size: int
    machine: str
    threads: int
    cached_share: float | None
    fits_memory: bool | None
    cases: tuple[BenchCase, ...]
    peers: tuple[BenchPeer, ...]
    findings: tuple[str, ...]
    conclusion: str
    from_cache: float | None = None

    def __str__(self) -> str:
        return self.on(PAGE)

    def _shown(self) -> Sequence[Part]:
        head = (
            f"{self.file}: {self.n_obs:,} cells × {self.n_vars:,} genes, {brief_bytes(self.file_bytes)}, X {self.route}"
        )
        prose = (Prose(sentences, indent="  ") for sentences in (self.findings, [self.conclusion], [self._how()]))
        return [Title(head), self._cases(), self._limits(), self._peers(), *prose]

    def _cases(self) -> Table:
        header = ["order", "batches", "cells/s", "slowest–fastest", "at most", "reached", "limit", "epoch"]
        rows = [
            [
                case.named,
                case.form,
                brief_number(case.cells_per_second),
                f"{brief_number(case.slowest)}–{brief_number(case.fastest)}",
                brief_number(case.at_most),
                f"{case.share:.0%}",
                _LABELS.get(case.binding, case.binding),
                brief_time(case.epoch_seconds),
            ]
            for case in self.cases
        ]
        return Table(header, rows, numbers=[2, 3, 4, 5, 7])

    def _limits(self) -> Table:
        """Each limit alone, for each order; dense batches have all of them."""
        whole = {case.order: case for case in self.cases}.values()  # the last form of each order
        names = [name for name in _LABELS if any(case.limit(name) for case in whole)]
        header = ["order", *(_LABELS[name] for name in names), "decoded/used"]
        rows = [
            [case.named, *(_rate(case.limit(name)) for name in names), f"{brief_number(case.read_amplification)}"]
            for case in whole
        ]
        return Table(header, rows, range(1, len(header)), caption="Each limit alone, in cells/s (MB/s):")

    def _peers(self) -> Table:
        header = ["peer", "order", "batches", "cells/s", "annpipes", "times as fast", ""]
        rows = [
            [
                peer.name,
                peer.order or "",
                peer.form or "",
                _number(peer.cells_per_second),
                _number(peer.annpipes_cells_per_second),
                _number(peer.speed),
                peer.note,
            ]
            for peer in self.peers
        ]
        return Table(header, rows, numbers=[3, 4, 5])

    def _how(self) -> str:
        kept = {
            None: "what the page cache kept is unknown",
            True: f"the kernel kept {self.cached_share or 0:.0%} of the file, so disk is the page cache's speed",
            False: "disk: page cache dropped before",
        }[None if self.cached_share is None else self.cached_share > KEPT]
        if self.from_cache is not None:
            kept = f"{self.from_cache:.0%} of the rows from the cache of decoded storage chunks; disk not measured"
        how = f"{self.machine}; {self.threads} threads, batches of {self.batch_size}, chunks of {self.chunk_size:,}"
        return f"{how}; read from the page cache ({kept})"


KEPT = 0.1
"""A share of the file that is more than a few pages."""


def _rate(limit: BenchLimit | None) -> str:
    if limit is None:
        return "–"
    return f"{brief_number(limit.cells_per_second)} ({brief_number(limit.megabytes_per_second)})"


def _number(value: float | None) -> str:
    return "" if value is None else brief_number(value)
