"""`AnnDataset` in a torch DataLoader without workers, and the pipeline reading the same rows with chunk = batch.

Both deliver random batches of 256 as dense tensors, with all obs columns. ``ratio`` is the speed of
`AnnDataset` as a share of the pipeline's, which by default reads a chunk ahead, and without that.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import annpipes as ap
import files
import measuring

BATCH = 256
CASES = {"gzip, random rows": "gzip", "uncompressed, random rows": None}


def measure(compression: str | None, quick: bool) -> dict[str, Any]:
    n_obs, turns = (20_000, 2) if quick else (200_000, 7)
    path = files.sparse_file(n_obs, compression)
    rows = measuring.sample_rows(n_obs, 1, BATCH * (4 if quick else 32 if compression else 128))
    dataset = ap.AnnDataset(path, obs_subset=rows)
    mapped = dataset.get_optimized_dataloader(batch_size=BATCH)
    stream = partial(ap.stream, path, BATCH, rows=rows, fields=dataset.fields, block_size=1, chunk_size=BATCH)
    contenders = {
        "dataset": lambda: sum(len(batch["X"]) for batch in mapped),
        "ahead": partial(measuring.consume, stream(prefetch=1)),
        "in turn": partial(measuring.consume, stream(prefetch=0)),
    }
    times = measuring.interleaved(contenders, turns, partial(measuring.warm, path))
    return {
        "file": path.name,
        "turns": turns,
        "cells_per_second": times.rate("dataset", len(rows)),
        "pipeline_cells_per_second": times.rate("ahead", len(rows)),
        "pipeline_without_prefetch_cells_per_second": times.rate("in turn", len(rows)),
        "ratio": times.speed("dataset", "ahead"),
        "ratio_spread": times.spread("dataset", "ahead"),
        "ratio_without_prefetch": times.speed("dataset", "in turn"),
    }


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
