"""Ranks of one job on one machine, and a model that trains beside the loader.

``ranks``: the cells that all ranks together read of a gzip file in a second, as a share of what one rank reads; they
are started by torchrun with gloo, and share the machine's cores. ``training``: steps of an autoencoder over 20,000
genes that takes its batches from a `Loader`, as a share of its steps over batches that lie ready in memory; torch uses
all cores in both. They take turns of ten steps, and all of their seconds are added up, so that chunks count that are
read in a few of the turns; the spread is that of the shares in fifths of the run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import annpipes as ap
import files
import measuring

CASES = {"2 ranks": 2, "4 ranks": 4, "training, gzip": "gzip", "training, uncompressed": None}
STEPS, TURNS, BATCH = 10, 120, 128


def measure(case: int | str | None, quick: bool) -> dict[str, Any]:
    n_obs = 20_000 if quick else 60_000
    return side_by_side(case, n_obs, quick) if isinstance(case, int) else training(case, n_obs, quick)


def side_by_side(world_size: int, n_obs: int, quick: bool) -> dict[str, Any]:
    path = files.sparse_file(n_obs, "gzip")
    measuring.warm(path)
    rates: dict[int, list[float]] = {1: [], world_size: []}
    for _ in range(1 if quick else 5):
        for count, found in rates.items():
            found.append(n_obs / started(count, path))
    return {
        "cells_per_second": median(rates[world_size]),
        "one_rank_cells_per_second": median(rates[1]),
        "ratio": median(rates[world_size]) / median(rates[1]),
        "rates": [min(rates[world_size]), max(rates[world_size])],
    }


def started(world_size: int, path: Path) -> float:
    """Seconds of the second epoch of so many ranks."""
    command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world_size}", __file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "BENCHMARK_RANKS": str(path)}
    ran = subprocess.run([sys.executable, *command], env=environment, check=True, capture_output=True, text=True)
    return float(json.loads(ran.stdout.strip().splitlines()[-1]))


def rank(path: str) -> None:
    dist.init_process_group("gloo")
    loader = ap.stream(path, form="csr", block_size=64)
    for _ in range(2):
        dist.barrier()
        begin = time.perf_counter()
        measuring.consume(loader)
        dist.barrier()
    if dist.get_rank() == 0:
        print(json.dumps(time.perf_counter() - begin))
    dist.destroy_process_group()


def training(compression: str | None, n_obs: int, quick: bool) -> dict[str, Any]:
    path = files.sparse_file(n_obs, compression)
    stream = partial(ap.stream, path, BATCH, block_size=64)
    ready = cycle(list(islice(iter(stream()), 10)))
    loader = epochs(stream())
    model = nn.Sequential(nn.Linear(20_000, 128), nn.ReLU(), nn.Linear(128, 20_000))
    optimizer = torch.optim.Adam(model.parameters())

    def train(batches: Iterator[Any]) -> None:
        for batch in islice(batches, STEPS):
            x = batch["X"].log1p()
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), x).backward()
            optimizer.step()

    contenders = {"ready": partial(train, ready), "beside": partial(train, loader)}
    turns = 5 if quick else TURNS
    seconds = measuring.interleaved(contenders, turns, lambda: None).seconds
    fifths = [slice(first, first + turns // 5) for first in range(0, turns, turns // 5)]
    shares = [sum(seconds["ready"][part]) / sum(seconds["beside"][part]) for part in fifths]
    return {
        "cells_per_second": turns * STEPS * BATCH / sum(seconds["beside"]),
        "share_of_its_own_speed": sum(seconds["ready"]) / sum(seconds["beside"]),
        "spread": [min(shares), max(shares)],
    }


def epochs(loader: ap.Loader) -> Iterator[Any]:
    """The batches of one epoch after the other."""
    while True:
        yield from loader


if __name__ == "__main__":
    if (given := os.environ.get("BENCHMARK_RANKS")) is not None:
        rank(given)
    else:
        measuring.main(CASES, measure, __doc__)
