"""Cells per second from file to tensors, and the share of what the machine can do at best.

Each case takes turns, over the same rows of one whole epoch, between the pipeline (batches of 256, one
chunk read ahead), its ``store.read`` alone, and the limit: bare ISA-L inflation of the same storage
chunks, or a bare compiled gather of the same bytes from the mapped file into memory that is used
again; all with as many threads as there are cores, and a warm page cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import annpipes as ap
import files
import measuring
from annpipes.plans.chunks import ChunkPlan
from annpipes.stores import BareReading, Threads

BATCH, CHUNK = 256, 16_384


@dataclass(frozen=True)
class Case:
    """How X is stored, and how many rows stay together (None: all, in the file's order)."""

    dense: bool
    compression: str | None
    block: int | None
    turns: int

    def file(self, quick: bool) -> Path:
        """The file to read; there is no smaller dense one."""
        if self.dense:
            return files.dense_file(self.compression)
        return files.sparse_file(20_000 if quick else 200_000, self.compression)


CASES = {
    "gzip, blocks of 64": Case(False, "gzip", 64, turns=7),
    "gzip, contiguous": Case(False, "gzip", None, turns=7),
    "uncompressed, random rows": Case(False, None, 1, turns=9),
    "uncompressed, blocks of 64": Case(False, None, 64, turns=9),
    "uncompressed, contiguous": Case(False, None, None, turns=9),
    "dense, random rows": Case(True, None, 1, turns=15),
    "dense, contiguous": Case(True, None, None, turns=15),
}


def measure(case: Case, quick: bool) -> dict[str, Any]:
    path, turns = case.file(quick), 2 if quick else case.turns
    source = ap.IndexSource(path, block_size=case.block or 1)
    ordered = source if case.block is None else source.shuffle_blocks()
    read = ordered.sort_within_chunks(CHUNK).read_rows().batch_rows(BATCH)
    loader = ap.Loader(read.collate_rows("dense" if case.dense else "csr"))
    measuring.warm(path)
    with measuring.PeakMemory() as watched:
        cells = measuring.consume(loader)
    plan = ChunkPlan(ordered.plan, CHUNK)
    chunks = [plan.epoch((loader.seed, 0)).chunk(number) for number in range(plan.n_chunks)]
    limit, threads = BareReading(path, chunks), Threads(measuring.THREADS)
    work = limit.works(threads)[0]  # inflating, or copying where nothing is to be inflated

    def read_alone() -> None:
        for chunk in chunks:
            source.store.read(chunk, ["X"])

    contenders = {
        "pipeline": partial(measuring.consume, loader),
        "read": read_alone,
        "limit": partial(threads.run_chunks, work.tasks),
    }
    times = measuring.interleaved(contenders, turns, partial(measuring.warm, path))
    return {
        "file": path.name,
        "threads": threads.count,
        "turns": turns,
        "cells_per_second": times.rate("pipeline", cells),
        "read_cells_per_second": times.rate("read", cells),
        "limit_cells_per_second": times.rate("limit", cells),
        "ratio": times.speed("pipeline", "limit"),
        "ratio_spread": times.spread("pipeline", "limit"),
        "read_ratio": times.speed("read", "limit"),
        "mb_per_s": times.rate("pipeline", limit.decoded_bytes / 1e6),
        "read_amplification": limit.decoded_bytes / limit.row_bytes,
        **watched.peak,
    }


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
