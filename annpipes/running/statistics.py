"""How fast a pass was, and what it waited for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from annpipes.messages.brevity import brief_number
from annpipes.messages.showing import Labelled, Part, Prose, Shown

__all__ = ["Statistics"]


@dataclass(frozen=True)
class Statistics(Shown):
    """What a `Loader` measured since its last pass began.

    >>> print(Statistics.of({"rows": 8000, "wait": 0.02, "consume": 1.98, "read": 1.2}, num_workers=0))
    4,000 cells/s; data is not the limit: the consumer waited 1% of the time

    Parameters
    ----------
    cells_per_second
        Rows yielded over the whole time, including the consumer's.
    megabytes_per_second
        Decoded bytes (10⁶) over the whole time.
    read_amplification
        Bytes decoded for each byte of the rows asked for; more than 1 if whole storage chunks must be decoded.
    waiting
        Share of the time in which the consumer waited for a batch.
    reading, transforming, collating
        Seconds that threads spent on each, as shares of the whole time; more than 1 if several worked at once.
        Processes are not measured.
    decoding
        The part of ``reading`` in which storage chunks were decoded.
    cached
        Share of the rows' bytes that came from a `Cache`, including bytes of genes that were not chosen.
    requests_per_chunk, received_per_chunk
        For remote data: requests, including failed ones, and megabytes (10⁶) received. Processes are not measured.
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
    cached: float
    requests_per_chunk: float
    received_per_chunk: float
    advice: str

    @classmethod
    def of(cls, totals: Mapping[str, float], num_workers: int) -> Statistics:
        """Statistics from a meter's totals."""
        if not totals.get("rows"):
            nothing = dict.fromkeys((field.name for field in fields(cls) if field.name != "advice"), 0.0)
            return cls(**nothing, advice="no batch has been read yet: iterate over the loader first")
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
            cached=_per(totals, "cached", "copied"),
            requests_per_chunk=_per(totals, "requests", "chunks"),
            received_per_chunk=_per(totals, "received", "chunks") / 1e6,
            advice=_advice(share, totals, num_workers),
        )

    def __str__(self) -> str:
        return f"{self.cells_per_second:,.0f} cells/s; {self.advice}" if self.cells_per_second else self.advice

    def _shown(self) -> Sequence[Part]:
        measured = [
            ("speed", f"{self.cells_per_second:,.0f} cells/s, {brief_number(self.megabytes_per_second)} MB/s decoded"),
            ("decoded", f"{brief_number(self.read_amplification)} times what was used"),
            ("waiting", f"{self.waiting:.0%} of the time"),
            ("reading", f"{self.reading:.0%}, by threads, decoding included"),
            ("decoding", f"{self.decoding:.0%}"),
            ("transforms", f"{self.transforming:.0%}"),
            ("collating", f"{self.collating:.0%}"),
        ]
        return [Labelled(measured if self.cells_per_second else []), Prose([self.advice])]


def _advice(share: Mapping[str, float], totals: Mapping[str, float], num_workers: int) -> str:
    if share["wait"] < _NEGLIGIBLE:
        return f"data is not the limit: the consumer waited {share['wait']:.0%} of the time"
    waited = f"{share['wait']:.0%} of the time was spent waiting for data, of which"
    largest = max(("read", "transform", "collate"), key=lambda name: share[name])
    if largest == "transform":
        batched = "set batched = True on transforms that allow it, or raise num_workers"
        return f"{waited} transforms took the most: {batched} (now {num_workers})"
    if largest == "collate":
        return f"{waited} collating took the most: raise num_workers (now {num_workers}), or use form='csr'"
    amplification = totals.get("decoded", 0) / (totals.get("copied", 0) or float("inf"))
    if amplification > _WASTEFUL:
        remedy = f"{amplification:.1f} bytes are decoded for each one used, so raise block_size"
    elif share["decode"] > share["read"] / 2:
        remedy = _decode_less(totals)
    else:
        remedy = "raise prefetch or chunk_size"
    return f"{waited} reading took the most: {remedy}"


def _per(totals: Mapping[str, float], what: str, each: str) -> float:
    """How much of one there was for each of another; 0 if there was none of that."""
    return totals.get(what, 0) / (totals.get(each, 0) or float("inf"))


def _decode_less(totals: Mapping[str, float]) -> str:
    if cached := _per(totals, "cached", "copied"):
        return f"decoding is the limit, with {cached:.0%} from the cache: if it has room, later epochs use it more"
    return "decoding is the limit, so use cache=, which decodes once, or a faster codec (annpipes shuffle)"


_NEGLIGIBLE = 0.05
_WASTEFUL = 2.0
