"""Shuffled mini-batches from AnnData ``.h5ad`` files into PyTorch, in one exact order.

Names stand in the order of a pipeline.
"""

from annpipes import errors, reports
from annpipes.datasets import AnnDataset
from annpipes.errors import AnnpipesError
from annpipes.plans.base import Plan
from annpipes.running.loader import Loader
from annpipes.running.resuming import ResumableDataset
from annpipes.splitting import split
from annpipes.stages.base import PlanStage, Stage
from annpipes.stages.chunking import ChunkSorter
from annpipes.stages.collating import Collator, CsrTensors
from annpipes.stages.grouping import GroupSampler
from annpipes.stages.mixing import SourceMixer
from annpipes.stages.pairing import ControlPairer
from annpipes.stages.reading import RowBatcher, RowReader
from annpipes.stages.sampling import RowSampler
from annpipes.stages.shuffling import BlockShuffler
from annpipes.stages.sources import IndexSource
from annpipes.stages.transforming import RowTransformer
from annpipes.stores import Collection
from annpipes.streaming import stream
from annpipes.tools.benching import bench
from annpipes.tools.inspecting import check, inspect
from annpipes.tools.rewriting import rewrite_shuffled
from annpipes.tools.tuning import mixing_of, tune
from annpipes.transforms import Binarize, Clip, Compose, Log1p, NormalizeTotal, Scale, Transform
from annpipes.types import Batch, Chunk, SparseRows

__version__ = "0.1.0.dev0"

__all__ = [  # noqa: RUF022 (in pipeline order)
    "Collection",
    "Plan",
    "Stage",
    "PlanStage",
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
