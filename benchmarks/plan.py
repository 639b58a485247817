"""What it costs to know the order of an epoch of 500 million rows, without reading any.

Time from nothing to the first chunk, time per chunk of 16,384 rows at a random position, and memory
above what the process had before: of rows that are drawn by weight, above the weights themselves.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np

import measuring
from annpipes.plans.chunks import ChunkPlan
from annpipes.plans.order import BlockShuffled, InOrder
from annpipes.plans.weighted import Weighted

CHUNK = 16_384
CASES = {"rows one by one": (1, False), "blocks of 64": (64, False), "rows by weight": (1, True)}


def measure(case: tuple[int, bool], quick: bool) -> dict[str, Any]:
    (block, weighted), (n_rows, positions) = case, (5 * 10**6, 20) if quick else (5 * 10**8, 500)
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
