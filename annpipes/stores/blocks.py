"""How many rows should stay together in a shuffle."""

from __future__ import annotations

import math
from typing import NamedTuple

from annpipes.stores.containers.base import Container
from annpipes.stores.marks import is_mixed
from annpipes.stores.routes import Route

__all__ = ["BlockAdvice", "longer", "small_blocks", "two_storage_chunks"]

_JUMP_BYTES = 64 << 10
_LARGEST_SMALL_BLOCK, _LARGEST_BLOCK = 64, 4096
_LONGER = 4  # a shuffled file's blocks: 15 % faster; see benchmarks/README.md


class BlockAdvice(NamedTuple):
    """A block size and what it follows from."""

    size: int
    reason: str


def small_blocks(row_bytes: float, route: Route) -> BlockAdvice:
    """Blocks where any row can be read alone: just long enough that a disk does not mind the jumps."""
    size = 2 ** max(0, round(math.log2(_JUMP_BYTES / max(1.0, row_bytes))))
    return BlockAdvice(min(size, _LARGEST_SMALL_BLOCK), f"about {_JUMP_BYTES >> 10} KiB at a time, {route}")


def two_storage_chunks(rows: float, route: Route) -> BlockAdvice:
    """Blocks as long as two storage chunks: they touch at most three, so at most half as much again is decoded in vain.

    Parameters
    ----------
    rows
        How many of them are in a storage chunk.
    route
        How they are read.
    """
    size = min(2 ** math.ceil(math.log2(max(1.0, 2 * rows))), _LARGEST_BLOCK)
    return BlockAdvice(size, f"two storage chunks of about {rows:.0f} rows, {route}")


def longer(advice: BlockAdvice, container: Container | None) -> BlockAdvice:
    """Longer blocks of rows that stand together by chance; these mix as well, and are read faster."""
    times = min(_LONGER, _LARGEST_BLOCK // advice.size)
    if times < 2 or container is None or not is_mixed(container):
        return advice
    return BlockAdvice(times * advice.size, f"{times} times {advice.reason}; the file is shuffled already")
