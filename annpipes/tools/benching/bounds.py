"""What batches of one order and form reach, and the limits that bound them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from annpipes.messages.reporting import Report

__all__ = ["ANNPIPES", "BenchCase", "BenchLimit", "binding", "together"]

ANNPIPES = "annpipes"
"""What binds where no limit does."""


@dataclass(frozen=True)
class BenchLimit(Report):
    """The best that this machine can do in one kind of work that every batch needs.

    Parameters
    ----------
    name
        ``decode``, ``copy``, ``densify``, ``hdf5`` (HDF5's own reading, in place of the first two), ``disk`` or
        ``network``.
    work
        The kind of work in words.
    cells_per_second
        The speed if there were no other work.
    megabytes_per_second
        Decoded, copied or written bytes (10⁶); for ``disk`` and ``network``, stored bytes.
    quick
        For ``decode``: whether no other codec would decode much faster.
    """

    name: str
    work: str
    cells_per_second: float
    megabytes_per_second: float
    quick: bool = False


@dataclass(frozen=True)
class BenchCase(Report):
    """The speed of batches of one form in one order, and the best possible speed.

    Parameters
    ----------
    order
        ``random`` rows, shuffled ``blocks`` or ``sequential``.
    block_size
        How many rows stay together; in sequential order, the rows of one chunk.
    form
        ``csr`` or ``dense`` batches.
    rows, turns
        How many rows were read in each turn, and how often.
    cells_per_second, slowest, fastest
        Speed of the median, the slowest and the fastest turn; from the page cache, or over the network.
    limits
        The work that the processor has to do; the cores share it, so its times add up.
    disk
        The speed of the device; None if only HDF5 knows which bytes are needed.
    read_amplification
        Bytes decoded for each byte of the rows asked for.
    at_most
        Cells per second if only the work of ``limits`` were done, while the network delivers at full speed.
    share
        The share of ``at_most`` that annpipes reaches.
    binding
        The name of the limit that takes most of the time; ``annpipes`` if the time that no limit explains is longer.
    epoch_seconds
        The time for the whole file at this speed.
    network
        The speed of plain requests for the same bytes; None for local files.
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
    network: BenchLimit | None = None

    @classmethod
    def of(
        cls,
        n_obs: int,
        *,
        cells_per_second: float,
        limits: Sequence[BenchLimit],
        network: BenchLimit | None = None,
        **values: Any,
    ) -> Self:
        """The case with what follows from its numbers."""
        at_most = min(together(limits), together([network] if network else []))
        return cls(
            **values,
            cells_per_second=cells_per_second,
            limits=tuple(limits),
            at_most=at_most,
            share=cells_per_second / at_most,
            binding=binding(cells_per_second, limits, network),
            epoch_seconds=n_obs / cells_per_second,
            network=network,
        )

    @property
    def named(self) -> str:
        """The order in words."""
        return f"blocks of {self.block_size}" if self.order == "blocks" else self.order

    def limit(self, name: str) -> BenchLimit | None:
        """The limit of this name, if there is one."""
        return next((limit for limit in (*self.limits, self.disk, self.network) if limit and limit.name == name), None)


def together(limits: Sequence[BenchLimit]) -> float:
    """Cells per second if all of this work is done by the same cores.

    >>> together([BenchLimit("decode", "", 300.0, 0), BenchLimit("densify", "", 150.0, 0)])
    100.0
    """
    seconds = sum(1 / limit.cells_per_second for limit in limits)
    return 1 / seconds if seconds else float("inf")


def binding(cells_per_second: float, limits: Sequence[BenchLimit], network: BenchLimit | None = None) -> str:
    """The name of what takes the most of each cell's time; ``annpipes`` for what is no limit's.

    Waiting for a network takes no core, so the limits' work is done meanwhile.

    >>> limits = [BenchLimit("decode", "", 300.0, 0), BenchLimit("densify", "", 150.0, 0)]
    >>> binding(90.0, limits), binding(40.0, limits)
    ('densify', 'annpipes')
    >>> binding(45.0, limits, network=BenchLimit("network", "", 50.0, 0))
    'network'
    """
    seconds = {limit.name: 1 / limit.cells_per_second for limit in limits}
    explained = sum(seconds.values())
    if network and 1 / network.cells_per_second > explained:
        explained = 1 / network.cells_per_second
        seconds = {network.name: explained}
    seconds[ANNPIPES] = 1 / cells_per_second - explained
    return max(seconds, key=lambda name: seconds[name])
