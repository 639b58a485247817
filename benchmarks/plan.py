"""What it costs to know the order of an epoch of 500 million rows, without reading any.

Time from nothing to the first chunk, time per chunk of 16,384 rows at a random position, and memory
above what the process had before.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np

import measuring
from annpipes.plans.chunks import ChunkPlan
from annpipes.plans.order import BlockShuffled, InOrder

CHUNK = 16_384
CASES = {"rows one by one": 1, "blocks of 64": 64}


def measure(block: int, quick: bool) -> dict[str, Any]:
    n_rows, positions = (5 * 10**6, 20) if quick else (5 * 10**8, 500)
    with measuring.PeakMemory() as watched:
        begin = time.perf_counter()
        plan = ChunkPlan(BlockShuffled(InOrder(range(n_rows), block)), CHUNK)
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
