"""A run of a small loader, uninterrupted and in parts."""

from __future__ import annotations

import io
import json
from functools import cache
from itertools import islice
from typing import Any

import torch
from builders import tiny
from passes import ids, loader_of

from annpipes import Loader

N = 101


PER_EPOCH = 13


SHARED = tiny(N)


@cache
def whole_run(epochs: int = 4) -> list[list[int]]:
    """Every batch of some epochs, uninterrupted."""
    loader = loader_of(SHARED)
    return [batch for _ in range(epochs) for batch in ids(loader)]


def take(loader: Loader, count: int) -> list[list[int]]:
    """The next batches of one pass, at most ``count``; then the pass is given up."""
    running = iter(loader)
    seen = ids(islice(running, count))
    running.close()
    return seen


def through_json(state: Any) -> Any:
    return json.loads(json.dumps(state))


def through_torch(state: Any) -> Any:
    """Saved within a model's checkpoint, and loaded as torch loads what it does not trust."""
    checkpoint = io.BytesIO()
    torch.save({"model": torch.nn.Linear(2, 1).state_dict(), "loader": state}, checkpoint)
    checkpoint.seek(0)
    return torch.load(checkpoint, weights_only=True)["loader"]
