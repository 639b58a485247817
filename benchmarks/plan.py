"""What it costs to know the order of an epoch of 500 million rows, without reading any.

Time from nothing to the first chunk, time per chunk of 16,384 rows at a random position, and memory
above what the process had before: of rows that are drawn by weight, above the weights themselves.

``sorting``: milliseconds in which a chunk's rows are sorted and shuffled, and the blocks of an epoch are shuffled, and
how many times as fast that is as with numpy: ``argsort``, and sorting random words with the numbers in their low bits.
"""

from __future__ import annotations

import time
from functools import partial
from statistics import median
from typing import Any

import numpy as np

import measuring
from annpipes.plans.chunks import ChunkPlan
from annpipes.plans.order import BlockShuffled, InOrder
from annpipes.plans.permutation import random_words
from annpipes.plans.sorting import shuffled, sorting_order
from annpipes.plans.weighted import Weighted

CHUNK = 16_384
BLOCKS = 1 << 20
CASES = {"sorting": None, "rows one by one": (1, False), "blocks of 64": (64, False), "rows by weight": (1, True)}


def measure(case: tuple[int, bool] | None, quick: bool) -> dict[str, Any]:
    return sorting(5 if quick else 51) if case is None else planned(*case, quick)


def sorting(turns: int) -> dict[str, Any]:
    rows = np.random.default_rng(0).permutation(200_000)[:CHUNK]
    few, many = (random_words((0,), count) for count in (CHUNK, BLOCKS))
    pairs = {
        "sort_chunk": (partial(sorting_order, rows), partial(np.argsort, rows)),
        "shuffle_chunk": (partial(shuffled, few), partial(by_sorting, few)),
        "shuffle_blocks": (partial(shuffled, many), partial(by_sorting, many)),
    }
    found: dict[str, Any] = {}
    for name, (ours, numpys) in pairs.items():
        times = measuring.interleaved({"ours": ours, "numpy": numpys}, turns, lambda: None)
        found |= {f"{name}_ms": 1e3 / times.rate("ours", 1), f"{name}_times_numpy": times.speed("ours", "numpy")}
        found[f"{name}_spread"] = times.spread("ours", "numpy")
    return found


def by_sorting(words: Any) -> Any:
    low = np.uint64(BLOCKS - 1)
    return (np.sort(words & ~low | np.arange(len(words), dtype=np.uint64)) & low).astype(np.int64)


def planned(block: int, weighted: bool, quick: bool) -> dict[str, Any]:
    n_rows, positions = (5 * 10**6, 20) if quick else (5 * 10**8, 500)
    weights = np.random.default_rng(0).random(n_rows) if weighted else None
    with measuring.PeakMemory() as watched:
        begin = time.perf_counter()
        rows = InOrder(range(n_rows), block)
        plan = ChunkPlan(BlockShuffled(rows) if weights is None else Weighted(rows, weights, n_rows), CHUNK)
        epoch = plan.epoch((0, 0))
        epoch.chunk(0)
        first = time.perf_counter() - begin
        seconds = []
        for number in np.random.default_rng(0).integers(0, plan.n_chunks, positions).tolist():
            begin = time.perf_counter()
            epoch.chunk(number)
            seconds.append(time.perf_counter() - begin)
    return {
        "rows": n_rows,
        "first_chunk_ms": first * 1e3,
        "chunk_ms": median(seconds) * 1e3,
        "slowest_chunk_ms": max(seconds) * 1e3,
        **watched.above(),
    }


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
