"""Cells per second in small batches, as a share of those in batches of 256.

The same rows in the same order, as CSR, in turns. What a batch costs beside its rows is Python: cutting it out of its
chunk, and making tensors of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import annpipes as ap
import files
import measuring

USUAL = 256


@dataclass(frozen=True)
class Case:
    """How X is stored, how many rows stay together, and how many make a batch."""

    compression: str | None
    block_size: int
    batch_size: int


CASES = {
    "uncompressed, random rows, batches of 32": Case(None, 1, 32),
    "uncompressed, random rows, batches of 64": Case(None, 1, 64),
    "gzip, blocks of 64, batches of 32": Case("gzip", 64, 32),
}


def measure(case: Case, quick: bool) -> dict[str, Any]:
    n_obs = 20_000 if quick else 200_000
    path = files.sparse_file(n_obs, case.compression)
    passes = {
        size: partial(
            measuring.consume,
            ap.stream(path, batch_size=size, block_size=case.block_size, form="csr", chunk_size=16_384),
        )
        for size in (case.batch_size, USUAL)
    }
    turns = 2 if quick else 5 if case.compression else 11
    contenders = {str(size): run for size, run in passes.items()}
    times = measuring.interleaved(contenders, turns, partial(measuring.warm, path))
    small, usual = str(case.batch_size), str(USUAL)
    return {
        "file": path.name,
        "turns": turns,
        "cells_per_second": times.rate(small, n_obs),
        "in_batches_of_256": times.rate(usual, n_obs),
        "ratio": times.speed(small, usual),
        "ratio_spread": times.spread(small, usual),
    }


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
