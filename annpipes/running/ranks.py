"""Which process of a distributed job this is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import distributed

from annpipes.errors import ParameterError, RankError
from annpipes.plans.rows import as_count, as_natural
from annpipes.plans.state import differences

__all__ = ["Ranks", "agree", "find_ranks"]


class Ranks(NamedTuple):
    """The number of a process among how many, and whether torch.distributed said so."""

    rank: int
    world_size: int
    detected: bool


def find_ranks(rank: int | None, world_size: int | None) -> Ranks:
    """The ranks given, or those of `torch.distributed` if that has been initialised, or one rank."""
    if (rank is None) != (world_size is None):
        raise ParameterError(f"rank and world_size must be given together, got rank={rank} and world_size={world_size}")
    if rank is not None and world_size is not None:
        if as_natural(rank, "rank") >= as_count(world_size, "world_size"):
            raise ParameterError(f"rank must lie in 0 … {world_size - 1}, got {rank}")
        return Ranks(rank, world_size, detected=False)
    if distributed.is_available() and distributed.is_initialized():
        return Ranks(distributed.get_rank(), distributed.get_world_size(), detected=True)
    return Ranks(0, 1, detected=False)


def agree(ranks: Ranks, mine: Mapping[str, Any]) -> None:
    """Return on every rank, or raise on every rank a `RankError` that names what differs."""
    if not ranks.detected:
        return
    everybody: list[Mapping[str, Any]] = [{}] * ranks.world_size
    distributed.all_gather_object(everybody, dict(mine))
    for rank, other in enumerate(everybody):
        if different := differences(everybody[0], other):
            raise RankError(f"rank {rank} differs from rank 0: {different}")
