"""How fast a pass was, and what it waited for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Statistics"]


@dataclass(frozen=True)
class Statistics:
    """What a `Loader` measured since its last pass began.

    >>> print(Statistics.of({"rows": 8000, "wait": 0.02, "consume": 1.98, "read": 1.2}, num_workers=0))
    4,000 cells/s; data is not the limit: the consumer waited 1% of the time

    Parameters
    ----------
    cells_per_second
        Rows handed out over all time, the consumer's included.
    megabytes_per_second
        Decoded bytes (10⁶) over all time.
    read_amplification
        Bytes decoded for each byte of the rows asked for; more than 1 where whole storage chunks must be decoded.
    waiting
        Share of the time in which the consumer waited for a batch.
    reading, transforming, collating
        Seconds that threads spent on each, as shares of all time; more than 1 if several worked at once.
        Processes are not measured.
    decoding
        The part of ``reading`` in which storage chunks were decoded.
    advice
        What limits the speed, and the parameter to change.
    """

    cells_per_second: float
    megabytes_per_second: float
    read_amplification: float
    waiting: float
    reading: float
    decoding: float
    transforming: float
    collating: float
    advice: str

    @classmethod
    def of(cls, totals: Mapping[str, float], num_workers: int) -> Statistics:
        """Statistics from a meter's totals."""
        seconds = (totals.get("wait", 0) + totals.get("consume", 0)) or float("inf")
        share = {name: totals.get(name, 0) / seconds for name in ("wait", "read", "decode", "transform", "collate")}
        return cls(
            cells_per_second=totals.get("rows", 0) / seconds,
            megabytes_per_second=totals.get("decoded", 0) / seconds / 1e6,
            read_amplification=totals.get("decoded", 0) / (totals.get("copied", 0) or float("inf")),
            waiting=share["wait"],
            reading=share["read"],
            decoding=share["decode"],
            transforming=share["transform"],
            collating=share["collate"],
            advice=_advice(share, totals, num_workers),
        )

    def __str__(self) -> str:
        return f"{self.cells_per_second:,.0f} cells/s; {self.advice}"


def _advice(share: Mapping[str, float], totals: Mapping[str, float], num_workers: int) -> str:
    if share["wait"] < _NEGLIGIBLE:
        return f"data is not the limit: the consumer waited {share['wait']:.0%} of the time"
    waited = f"{share['wait']:.0%} of the time was spent waiting for data, of which"
    largest = max(("read", "transform", "collate"), key=lambda name: share[name])
    if largest == "transform":
        batched = "set batched = True on transforms that allow it, or raise num_workers"
        return f"{waited} transforms took the most: {batched} (now {num_workers})"
    if largest == "collate":
        return f"{waited} collating took the most: raise num_workers (now {num_workers}), or take form='csr'"
    amplification = totals.get("decoded", 0) / (totals.get("copied", 0) or float("inf"))
    if amplification > _WASTEFUL:
        remedy = f"{amplification:.1f} bytes are decoded for each one used, so raise block_size"
    elif share["decode"] > share["read"] / 2:
        remedy = "decoding is the limit, so more cores help, or a copy with a faster codec (annpipes shuffle)"
    else:
        remedy = "raise prefetch or chunk_size"
    return f"{waited} reading took the most: {remedy}"


_NEGLIGIBLE = 0.05
_WASTEFUL = 2.0
