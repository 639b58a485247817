"""Passes over small numbered data: loaders, what they yield, and functions that worker processes can import."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from annpipes import IndexSource, Loader, stream

__all__ = [
    "OddError",
    "dawdle",
    "ids",
    "joined",
    "kill_at_17",
    "loader_of",
    "mapped",
    "odd_at_17",
    "raise_at_17",
    "side_by_side",
    "still_living",
    "with_pid",
]

SMALL = {"fields": ["X", "rows"], "block_size": 4, "chunk_size": 24}


def loader_of(data: Any, batch_size: int = 8, **options: Any) -> Loader:
    """Batches of 8 in chunks of 24 in blocks of 4, unless told otherwise."""
    return stream(data, batch_size, **{**SMALL, **options})


def mapped(data: Any, function: Callable[[Any], Any], **options: Any) -> Loader:
    """The same with a function of one's own behind the last stage."""
    read = IndexSource(data, block_size=4).shuffle_blocks().sort_within_chunks(24).read_rows(["X", "rows"])
    return Loader(read.batch_rows(8).collate_rows().map(function), **options)


def ids(batches: Iterable[Any]) -> list[list[int]]:
    """The rows of each batch."""
    return [batch["rows"].tolist() for batch in batches]


def joined(parts: Iterable[list[int]]) -> list[int]:
    """All parts one after the other."""
    return list(chain.from_iterable(parts))


def side_by_side(loaders: list[Loader]) -> Iterator[list[int]]:
    """The rows of each global batch: what all ranks get at the same time, in the order of ranks."""
    for batches in zip(*loaders, strict=True):
        yield joined(ids(batches))


def living(group: int) -> list[int]:
    """The processes of a group that still run; one that has ended may wait forever to be asked how."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, of_group = status.read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state not in "ZX":
                found.append(int(status.parent.name))
    return found


def still_living(group: int, seconds: float) -> list[int]:
    """Those that have not ended within that time."""
    begin = time.monotonic()
    while (found := living(group)) and time.monotonic() - begin < seconds:
        time.sleep(0.05)
    return found


def with_pid(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "pid": os.getpid()}


def dawdle(batch: dict[str, Any]) -> dict[str, Any]:
    """Take longer for some batches, so that later ones are done first."""
    time.sleep(0.03 * (int(batch["rows"][0]) % 3))
    return batch


def kill_at_17(batch: dict[str, Any]) -> dict[str, Any]:
    if 17 in batch["rows"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return batch


def raise_at_17(batch: dict[str, Any]) -> dict[str, Any]:
    if 17 in batch["rows"]:
        raise ZeroDivisionError("cell 17 has no counts")
    return batch


class OddError(Exception):
    """An error that pickles but cannot be unpickled: its ``__init__`` takes more than its ``args``."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(f"cell {row}: {reason}")


def odd_at_17(batch: dict[str, Any]) -> dict[str, Any]:
    if 17 in batch["rows"]:
        raise OddError(17, "no counts")
    return batch
