"""CSR batches of 256 made dense, 20,000 genes wide, as `collate_rows` does it on the CPU.

The limit is a compiled loop that writes the same arrays into ``np.zeros`` of each batch, with as many
threads as there are cores; for comparison also with one thread. Both keep a batch while the next
is made, as training does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import files
import measuring
from annpipes import Batch, Chunk, SparseRows
from annpipes.stages.collating import collate
from annpipes.stores import Threads, open_store
from annpipes.stores.limits.threads import write_rows

BATCH, CHUNK = 256, 16_384
CASES = {"dense batches of 256 × 20,000": CHUNK}


def collate_all(batches: Sequence[Batch]) -> None:
    for batch in batches:
        kept = collate(batch, "dense")
    del kept


def write_all(batches: Sequence[SparseRows], threads: Threads) -> None:
    for rows in batches:
        kept = np.zeros(rows.shape, np.float32)
        bounds = [(part.start, part.stop) for part in threads.split(len(rows))]
        threads.run([partial(write_rows, rows.data, rows.indices, rows.indptr, *some, kept) for some in bounds])
    del kept


def measure(count: int, quick: bool) -> dict[str, Any]:
    turns = 2 if quick else 9
    path = files.sparse_file(20_000, None)
    store, every = open_store(path), np.arange(count)
    whole = Batch(every, store.read(Chunk(every, every), ["X"]))
    batches = [whole[start : start + BATCH] for start in range(0, count, BATCH)]
    sparse = [batch["X"] for batch in batches]
    contenders: dict[str, Callable[[], None]] = {
        "collate": partial(collate_all, batches),
        "limit": partial(write_all, sparse, Threads(measuring.THREADS)),
        "one thread": partial(write_all, sparse, Threads(1)),
    }
    times = measuring.interleaved(contenders, turns, lambda: None)
    return {
        "file": path.name,
        "threads": measuring.THREADS,
        "turns": turns,
        "cells_per_second": times.rate("collate", count),
        "limit_cells_per_second": times.rate("limit", count),
        "one_thread_limit_cells_per_second": times.rate("one thread", count),
        "ratio": times.speed("collate", "limit"),
        "ratio_spread": times.spread("collate", "limit"),
    }


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
