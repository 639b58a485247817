"""Shuffled mini-batches from AnnData files into PyTorch, in one exact order.

Names are in the order of a pipeline. Each is imported when it is first used, so that `import annpipes` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from annpipes import errors
from annpipes.errors import AnnpipesError

if TYPE_CHECKING:
    from annpipes import reports
    from annpipes.datasets import AnnDataset
    from annpipes.plans.base import Plan
    from annpipes.running.loader import Loader
    from annpipes.running.resuming import ResumableDataset
    from annpipes.splitting import split
    from annpipes.stages.base import PlanStage, RandomStage, Stage
    from annpipes.stages.chunking import ChunkSorter
    from annpipes.stages.collating import Collator
    from annpipes.stages.grouping import GroupSampler
    from annpipes.stages.mixing import SourceMixer
    from annpipes.stages.pairing import ControlPairer
    from annpipes.stages.reading import RowBatcher, RowReader
    from annpipes.stages.sampling import RowSampler
    from annpipes.stages.shuffling import BlockShuffler
    from annpipes.stages.sources import IndexSource
    from annpipes.stages.transforming import RowTransformer
    from annpipes.stores import Cache, Collection, Remote
    from annpipes.streaming import stream
    from annpipes.tensors import CsrTensors
    from annpipes.tools.benching import bench
    from annpipes.tools.inspecting import check, inspect
    from annpipes.tools.rewriting import rewrite_shuffled
    from annpipes.tools.tuning import mixing_of, tune
    from annpipes.transforms.base import Compose, Lambda, Transform
    from annpipes.transforms.standard import Binarize, Clip, Log1p, NormalizeTotal, Scale
    from annpipes.types import Batch, Chunk, SparseRows

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 (in pipeline order)
    "Cache",
    "Remote",
    "Collection",
    "Plan",
    "Stage",
    "PlanStage",
    "RandomStage",
    "IndexSource",
    "SourceMixer",
    "BlockShuffler",
    "RowSampler",
    "GroupSampler",
    "ChunkSorter",
    "RowReader",
    "RowBatcher",
    "ControlPairer",
    "RowTransformer",
    "Collator",
    "Chunk",
    "Batch",
    "SparseRows",
    "CsrTensors",
    "Transform",
    "Compose",
    "Lambda",
    "NormalizeTotal",
    "Log1p",
    "Scale",
    "Clip",
    "Binarize",
    "Loader",
    "ResumableDataset",
    "stream",
    "split",
    "AnnDataset",
    "inspect",
    "check",
    "bench",
    "tune",
    "mixing_of",
    "rewrite_shuffled",
    "AnnpipesError",
    "errors",
    "reports",
]

_HOMES = {
    "Cache": "annpipes.stores",
    "Remote": "annpipes.stores",
    "Collection": "annpipes.stores",
    "Plan": "annpipes.plans.base",
    "Stage": "annpipes.stages.base",
    "PlanStage": "annpipes.stages.base",
    "RandomStage": "annpipes.stages.base",
    "IndexSource": "annpipes.stages.sources",
    "SourceMixer": "annpipes.stages.mixing",
    "BlockShuffler": "annpipes.stages.shuffling",
    "RowSampler": "annpipes.stages.sampling",
    "GroupSampler": "annpipes.stages.grouping",
    "ChunkSorter": "annpipes.stages.chunking",
    "RowReader": "annpipes.stages.reading",
    "RowBatcher": "annpipes.stages.reading",
    "ControlPairer": "annpipes.stages.pairing",
    "RowTransformer": "annpipes.stages.transforming",
    "Collator": "annpipes.stages.collating",
    "Chunk": "annpipes.types",
    "Batch": "annpipes.types",
    "SparseRows": "annpipes.types",
    "CsrTensors": "annpipes.tensors",
    "Transform": "annpipes.transforms.base",
    "Compose": "annpipes.transforms.base",
    "Lambda": "annpipes.transforms.base",
    "NormalizeTotal": "annpipes.transforms.standard",
    "Log1p": "annpipes.transforms.standard",
    "Scale": "annpipes.transforms.standard",
    "Clip": "annpipes.transforms.standard",
    "Binarize": "annpipes.transforms.standard",
    "Loader": "annpipes.running.loader",
    "ResumableDataset": "annpipes.running.resuming",
    "stream": "annpipes.streaming",
    "split": "annpipes.splitting",
    "AnnDataset": "annpipes.datasets",
    "inspect": "annpipes.tools.inspecting",
    "check": "annpipes.tools.inspecting",
    "bench": "annpipes.tools.benching",
    "tune": "annpipes.tools.tuning",
    "mixing_of": "annpipes.tools.tuning",
    "rewrite_shuffled": "annpipes.tools.rewriting",
}
"""The module of each name that is imported when it is first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES and name != "reports":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module("annpipes.stages")  # the verbs of all stages, whichever name comes first
    if name == "reports":
        return import_module("annpipes.reports")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
