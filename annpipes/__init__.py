"""Shuffled mini-batches from AnnData ``.h5ad`` files into PyTorch, in one exact order.

Names stand in the order of a pipeline.
"""

from annpipes import errors
from annpipes.benching import BenchCase, BenchLimit, Benchmark, BenchPeer, bench
from annpipes.chunking import ChunkSorter
from annpipes.collating import Collator, CsrTensors
from annpipes.collections import Collection
from annpipes.datasets import AnnDataset
from annpipes.errors import AnnpipesError
from annpipes.grouping import GroupSampler
from annpipes.inspecting import CheckReport, Damage, FieldReport, Finding, Inspection, check, inspect
from annpipes.loaders import Loader
from annpipes.mixing import SourceMixer
from annpipes.pairing import ControlPairer
from annpipes.reading import RowBatcher, RowReader
from annpipes.resuming import ResumableDataset
from annpipes.rewriting import Rewrite, shuffle
from annpipes.sampling import RowSampler
from annpipes.shuffling import BlockShuffler
from annpipes.sources import IndexSource
from annpipes.splitting import split
from annpipes.statistics import Statistics
from annpipes.streaming import stream
from annpipes.transforming import RowTransformer
from annpipes.transforms import Binarize, Clip, Compose, Log1p, NormalizeTotal, Scale, Transform
from annpipes.tuning import Mixing, Tuning, TuningPoint, mixing_of, tune
from annpipes.types import Batch, Chunk, SparseRows

__version__ = "0.1.0.dev0"

__all__ = [  # noqa: RUF022 (in pipeline order)
    "Collection",
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
    "Statistics",
    "ResumableDataset",
    "stream",
    "split",
    "AnnDataset",
    "inspect",
    "Inspection",
    "FieldReport",
    "Finding",
    "check",
    "CheckReport",
    "Damage",
    "bench",
    "Benchmark",
    "BenchCase",
    "BenchLimit",
    "BenchPeer",
    "tune",
    "Tuning",
    "TuningPoint",
    "mixing_of",
    "Mixing",
    "shuffle",
    "Rewrite",
    "AnnpipesError",
    "errors",
]
