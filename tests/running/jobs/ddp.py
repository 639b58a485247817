"""Data-parallel trainings under torchrun: ``ddp.py FOLDER TRAININGS`` writes what each rank saw to ``FOLDER``.

The loader is told nothing about ranks. ``TRAININGS`` is JSON: for each training, one after the other, keywords
of `annpipes.stream`; those under ``"of rank N"`` are for that rank alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from annpipes import stream
from annpipes.errors import RankError

EPOCHS = 2


def train(folder: Path, **options: Any) -> dict[str, Any]:
    loader = stream(folder / "cells.h5ad", 8, fields=["X", "rows"], block_size=4, chunk_size=24, **options)
    torch.manual_seed(0)
    model = DistributedDataParallel(torch.nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    epochs = []
    for epoch in range(EPOCHS):
        loader.set_epoch(epoch)
        epochs.append([])
        for batch in loader:
            optimizer.zero_grad()
            model(batch["X"] / 10_000).pow(2).mean().backward()  # waits for the gradients of all ranks
            optimizer.step()
            epochs[-1].append(batch["rows"].tolist())
    return {
        "length": len(loader),
        "epochs": epochs,
        "tails": [loader.tail_rows(epoch).tolist() for epoch in range(EPOCHS)],
        "weights": torch.cat([parameter.detach().ravel() for parameter in model.parameters()]).tolist(),
        "state": loader.state_dict(),
    }


def attempt(folder: Path, rank: int, options: dict[str, Any]) -> dict[str, Any]:
    own = options.get(f"of rank {rank}", {})
    shared = {key: value for key, value in options.items() if not key.startswith("of rank")}
    begin = time.monotonic()
    try:
        return train(folder, **{"seed": 1, **shared, **own})
    except RankError as error:
        return {"error": str(error), "seconds": time.monotonic() - begin}


def main(folder: Path, trainings: list[dict[str, Any]]) -> None:
    distributed.init_process_group("gloo", timeout=timedelta(seconds=60))
    rank = distributed.get_rank()
    reports = [attempt(folder, rank, options) for options in trainings]
    (folder / f"rank-{rank}.json").write_text(json.dumps(reports))
    distributed.destroy_process_group()
    # Gloo's threads outlive their group. One that lets go of a tensor while Python ends aborts the process:
    # https://github.com/pytorch/pytorch/pull/179291
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
