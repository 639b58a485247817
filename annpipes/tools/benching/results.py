"""What a benchmark found, as numbers and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from annpipes.messages.brevity import brief_bytes, brief_number, brief_time
from annpipes.messages.reporting import Report
from annpipes.messages.showing import PAGE, Part, Prose, Shown, Table, Title
from annpipes.tools.benching.bounds import BenchCase, BenchLimit

__all__ = ["BenchPeer", "Benchmark"]

_LABELS = {
    "disk": "disk",
    "network": "network",
    "hdf5": "HDF5",
    "zarr": "zarr",
    "decode": "decoding",
    "copy": "copying",
    "densify": "making dense",
}


@dataclass(frozen=True)
class BenchPeer(Report):
    """Another loader on the same file, measured in turns with annpipes.

    Parameters
    ----------
    name
        The loader.
    order, form
        As for `BenchCase`; None if it was not run.
    cells_per_second, annpipes_cells_per_second, speed
        The speed of its median turn, that of annpipes in the same run, and how many times as fast annpipes is.
    note
        Why there are no numbers, or a remark about them.
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
        The machine, and how many threads decode.
    cached_share
        The share of the file that the kernel kept in its page cache although it was asked to drop it. If it is
        large, the limit ``disk`` is that of the page cache. None if it cannot be known.
    fits_memory
        Whether the file could stay in the page cache; None if the system does not tell.
    cases
        One for each order and form.
    peers
        Other loaders, if any were asked for.
    findings
        What limits the speed, one sentence for each order.
    conclusion
        What follows from the findings.
    from_cache
        The smallest share, over the orders, of the rows' bytes that came from the cache; None without a cache.
    requests
        How many requests ran at once; None for local files.
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
    requests: int | None = None

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
            True: f"the kernel kept {self.cached_share or 0:.0%} of the file, so disk is the speed of the page cache",
            False: "disk: page cache dropped before",
        }[None if self.cached_share is None else self.cached_share > KEPT]
        if self.from_cache is not None:
            kept = f"{self.from_cache:.0%} of the rows from the cache of decoded storage chunks; disk not measured"
        how = f"{self.machine}; {self.threads} threads, batches of {self.batch_size}, chunks of {self.chunk_size:,}"
        if self.requests is not None and self.from_cache is None:
            return f"{how}; read over the network, {self.requests} requests at once"
        return f"{how}; read from the page cache ({kept})"


KEPT = 0.1
"""A share of the file that is more than a few pages."""


def _rate(limit: BenchLimit | None) -> str:
    if limit is None:
        return "–"
    return f"{brief_number(limit.cells_per_second)} ({brief_number(limit.megabytes_per_second)})"


def _number(value: float | None) -> str:
    return "" if value is None else brief_number(value)
