"""A training that can be killed at any time: ``train.py FOLDER LIFE``.

It goes on from the folder's checkpoint, if there is one, and writes a new one after each step.
``LIFE`` is JSON: how many ranks and workers this life of it has, and when it is to be killed.
All ranks train side by side in this process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

from annpipes import Loader, stream

GLOBAL_BATCH = 24
EPOCHS = 3


def loaders_of(folder: Path, world_size: int, **options: Any) -> list[Loader]:
    """A loader for each rank; blocks and chunks fit neither the file nor the batch."""
    return [
        stream(
            folder / "cells.h5ad",
            GLOBAL_BATCH // world_size,
            fields=["X", "rows"],
            block_size=7,
            chunk_size=60,
            seed=3,
            tail="repeat",
            rank=rank,
            world_size=world_size,
            **options,
        )
        for rank in range(world_size)
    ]


def learn(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A step that depends on everything before it."""
    return (0.9 * weight + x.double().mean(dim=0)).sin()


def train(folder: Path, *, world_size: int, kill_after: int | None, delay: float, **options: Any) -> None:
    loaders, weight, logged = loaders_of(folder, world_size, **options), torch.zeros(3, dtype=torch.double), 0
    if (folder / "checkpoint.pt").exists():
        checkpoint = torch.load(folder / "checkpoint.pt", weights_only=True)
        weight, logged = checkpoint["weight"], checkpoint["logged"]
        for loader in loaders:
            loader.load_state_dict(checkpoint["loader"])
    steps = 0
    with (folder / "ids").open("a") as log:
        log.truncate(logged)  # what was written after the last checkpoint did not happen
        for epoch in range(loaders[0].epoch, EPOCHS):
            for loader in loaders:
                loader.set_epoch(epoch)
            for batches in zip(*loaders, strict=True):
                weight = learn(weight, torch.cat([batch["X"] for batch in batches]))
                log.write(json.dumps([row for batch in batches for row in batch["rows"].tolist()]) + "\n")
                log.flush()
                os.fsync(log.fileno())
                state = {"weight": weight, "logged": log.tell(), "loader": loaders[-1].state_dict()}
                torch.save(state, folder / "checkpoint.tmp")
                os.replace(folder / "checkpoint.tmp", folder / "checkpoint.pt")
                steps += 1
                if steps == kill_after:
                    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
    if kill_after is not None:
        time.sleep(60)


if __name__ == "__main__":
    train(Path(sys.argv[1]), **json.loads(sys.argv[2]))
