"""torch's DataPipes: no other module imports their machinery, so that a torch without it costs this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import IterDataPipe, functional_datapipe
from torch.utils.data._utils.collate import default_collate_fn_map
from torch.utils.data.datapipes.iter import Batcher, Collator, IterableWrapper, Mapper, Shuffler
from torch.utils.data.graph_settings import apply_random_seed, apply_sharding

from annpipes.errors import PipelineError

__all__ = [
    "OURS",
    "IterDataPipe",
    "IterableWrapper",
    "Mapper",
    "apply_random_seed",
    "apply_sharding",
    "collated_whole",
    "functional_datapipe",
]


OURS: Mapping[type, tuple[str, str]] = {
    Batcher: ("batch", "batch_rows"),
    Shuffler: ("shuffle", "shuffle_blocks"),
    Collator: ("collate", "collate_rows"),
}
"""Stages of torch that do something else than their verbs suggest here; and these verbs with those that are meant."""


def collated_whole(kind: type) -> None:
    """Let torch's `default_collate` hand on things of this kind as they are: they are batches already.

    A `DataLoader` that was not told ``batch_size=None`` would stack them, of one batch each, along a new dimension.
    """
    default_collate_fn_map[kind] = _only


def _only(batches: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    if len(batches) == 1:
        return batches[0]
    raise PipelineError(
        f"a DataLoader would put {len(batches)} batches into one, but the pipe makes batches: pass batch_size=None, "
        f"and give the number of rows to batch_rows(…)"
    )
