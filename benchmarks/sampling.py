"""Balanced and grouped sampling against uniform shuffles of blocks of 64, and what their plans cost.

All deliver batches of 256 as CSR from the same file and take turns: ``rows`` are drawn one by one in chunks of
65,536, ``blocks`` in blocks of 64, ``sets`` are sets of 32 that share batch and cell type, also in
chunks of 65,536. ``speed`` is each one's share of the uniform rate. ``plan`` is the time to work out one
chunk of 16,384 rows out of 5·10⁸, by weights and by mixing two sources.
"""

from __future__ import annotations

import time
from functools import partial
from statistics import median
from typing import Any

import numpy as np

import annpipes as ap
import files
import measuring
from annpipes.plans.base import Plan
from annpipes.plans.chunks import ChunkPlan
from annpipes.plans.mixture import Mixed
from annpipes.plans.order import BlockShuffled, InOrder
from annpipes.plans.weighted import Weighted

BATCH, BLOCK, LARGE = 256, 64, 65_536
CASES = {"gzip": "gzip", "uncompressed": None, "plan of 5·10⁸ rows": "plan"}


def measure(compression: str | None, quick: bool) -> dict[str, Any]:
    if compression == "plan":
        return plan_costs(5_000_000 if quick else 500_000_000)
    path = files.sparse_file(20_000 if quick else 200_000, compression)
    source = ap.IndexSource(path, block_size=BLOCK)

    def loader(stage: Any, chunk: int) -> ap.Loader:
        return ap.Loader(stage.sort_within_chunks(chunk).read_rows().batch_rows(BATCH).collate_rows("csr"))

    loaders = {
        "uniform": loader(source.shuffle_blocks(), 16_384),
        "blocks": loader(source.sample_rows(balance="cell_type", unit="blocks"), 16_384),
        "rows": loader(source.sample_rows(balance="cell_type"), LARGE),
        "sets": loader(source.sample_groups(["batch", "cell_type"], 32, short="repeat"), LARGE),
    }
    contenders = {name: partial(measuring.consume, each) for name, each in loaders.items()}
    times = measuring.interleaved(contenders, 2 if quick else 5, partial(measuring.warm, path))
    cells = {name: len(each) * BATCH for name, each in loaders.items()}
    rates = {name: times.rate(name, cells[name]) for name in loaders}
    return {
        "file": path.name,
        "uniform_cells_per_second": rates["uniform"],
        **{f"{name}_cells_per_second": rates[name] for name in ("blocks", "rows", "sets")},
        **{f"{name}_speed": rates[name] / rates["uniform"] for name in ("blocks", "rows", "sets")},
    }


def plan_costs(n_obs: int) -> dict[str, Any]:
    source = InOrder(range(n_obs), BLOCK)
    weights = np.random.default_rng(0).random(n_obs)
    plans: dict[str, Plan] = {
        "weighted": Weighted(source, weights, n_obs),
        "mixed": Mixed([BlockShuffled(source), BlockShuffled(source)], [0, n_obs], [0.5, 0.5], 2 * n_obs),
    }
    found = {}
    for name, plan in plans.items():
        begin = time.perf_counter()
        epoch = ChunkPlan(plan, 16_384).epoch((0, 0))
        epoch.chunk(0)
        found[f"{name}_first_chunk_ms"] = 1e3 * (time.perf_counter() - begin)
        found[f"{name}_chunk_ms"] = 1e3 * median(_seconds(partial(epoch.chunk, number)) for number in range(1, 30))
    return found


def _seconds(call: Any) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
