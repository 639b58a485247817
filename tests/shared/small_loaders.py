"""A Loader over a few cells that most of its tests share."""

from __future__ import annotations

from typing import Any

from builders import tiny
from contracts import rows_seen

from annpipes import IndexSource, Loader

SHARED = tiny(60)


def loader_of(
    n_obs: int = 40, batch_size: int = 4, chunk_size: int = 12, block_size: int = 3, drop_last: bool = False, **how: Any
) -> Loader:
    source = IndexSource(SHARED, rows=range(n_obs), block_size=block_size).shuffle_blocks()
    read = source.sort_within_chunks(chunk_size).read_rows(["X", "rows"])
    return Loader(read.batch_rows(batch_size, drop_last=drop_last).collate_rows(), **how)


def batches(loader: Loader) -> list[list[int]]:
    return [rows_seen(batch) for batch in loader]
