"""torch's DataPipes: no other module imports their machinery, so that a torch without it costs this file."""

from __future__ import annotations

from torch.utils.data import IterDataPipe, functional_datapipe
from torch.utils.data.datapipes.iter import IterableWrapper, Mapper
from torch.utils.data.graph_settings import apply_random_seed, apply_sharding

__all__ = ["IterDataPipe", "IterableWrapper", "Mapper", "apply_random_seed", "apply_sharding", "functional_datapipe"]
