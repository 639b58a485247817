"""Random rows of an uncompressed file that is not in the page cache, and what the disk gives.

The limit is 16 threads that read the 4-KiB pages with the same rows by ``pread``. Before each turn
the page cache is dropped for the file; ``cached_share`` is the most that the kernel kept all the
same. A disk's own cache, or its host's, is out of reach, and the first round fills it for both.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

import annpipes as ap
import files
import measuring
from annpipes.plans.chunks import ChunkPlan
from annpipes.stores import BareReading, Threads

BATCH, CHUNK, DISK_THREADS = 256, 16_384, 16
CASES = {"cold, uncompressed, random rows": 2 * CHUNK}


class Cold:
    """A loader and its limit, with nothing of the file in memory before each turn."""

    def __init__(self, path: Path, rows: NDArray[Any]) -> None:
        self.path, self.rows = path, rows
        self.threads = Threads(DISK_THREADS)
        plan = ChunkPlan(self._source().plan, CHUNK)
        epoch = plan.epoch((0, 0))
        self.reading = BareReading(path, [epoch.chunk(number) for number in range(plan.n_chunks)])
        self.work = self.reading.disk()
        self.cached_share = 0.0

    def _source(self) -> Any:
        return ap.IndexSource(self.path, rows=self.rows, block_size=1).shuffle_blocks()

    def forget(self) -> None:
        """Open the file anew, because the kernel keeps what a process has mapped, and drop it from the cache."""
        read = self._source().sort_within_chunks(CHUNK).read_rows().batch_rows(BATCH)
        self.loader = ap.Loader(read.collate_rows("csr"))
        gc.collect()  # the last loader, with its map of the file
        measuring.drop(self.path)
        self.cached_share = max(self.cached_share, measuring.cached_share(self.path))

    def pipeline(self) -> None:
        """All rows as batches."""
        measuring.consume(self.loader)

    def limit(self) -> None:
        """The same rows' pages."""
        self.threads.run_chunks(self.work.tasks)


def measure(count: int, quick: bool) -> dict[str, Any]:
    n_obs, turns = (20_000, 2) if quick else (200_000, 7)
    path = files.sparse_file(n_obs, None)
    rows = measuring.sample_rows(n_obs, 1, count)
    cold = Cold(path, rows)
    times = measuring.interleaved({"pipeline": cold.pipeline, "limit": cold.limit}, turns, cold.forget)
    return {
        "file": path.name,
        "turns": turns,
        "cells_per_second": times.rate("pipeline", len(rows)),
        "limit_cells_per_second": times.rate("limit", len(rows)),
        "ratio": times.speed("pipeline", "limit"),
        "ratio_spread": times.spread("pipeline", "limit"),
        "limit_mb_per_s": times.rate("limit", cold.work.n_bytes / 1e6),
        "cached_share": cold.cached_share,
    }


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
