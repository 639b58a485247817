"""The default pipe in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from annpipes.errors import ParameterError
from annpipes.plans.schedule import Tail
from annpipes.running.loader import Loader
from annpipes.stages.base import PlanStage
from annpipes.stages.collating import Form
from annpipes.stages.sources import IndexSource
from annpipes.stages.verbs import BatchVerbs
from annpipes.stores import GeneVersions, MissingGenes, Unknown
from annpipes.transforms.base import Transforms

__all__ = ["stream"]


def stream(
    data: Any,
    batch_size: int = 256,
    *,
    fields: Sequence[str] = ("X",),
    genes: Any = None,
    genes_from: str | None = None,
    missing_genes: MissingGenes = "error",
    gene_versions: GeneVersions = "keep",
    categories: Mapping[str, Sequence[Any]] | None = None,
    unknown: Unknown = "error",
    rows: Any = None,
    shuffle: bool = True,
    weights: Any = None,
    balance: str | Sequence[str] | None = None,
    num_rows: int | None = None,
    transform: Transforms | None = None,
    form: Form = "dense",
    block_size: int | None = None,
    chunk_size: int = 16_384,
    drop_last: bool = False,
    seed: int = 0,
    num_workers: int = 0,
    method: Literal["thread", "process"] = "thread",
    multiprocessing_context: str | None = None,
    prefetch: int | None = None,
    num_threads: int | None = None,
    memory: int | str | None = None,
    rank: int | None = None,
    world_size: int | None = None,
    tail: Tail | None = None,
    pin_memory: bool = False,
    device: Any = None,
    cache: Any = None,
) -> Loader:
    """A `Loader` of shuffled batches: the default pipe in one line.

    >>> loader = stream("pbmc.h5ad", batch_size=128, fields=["X", "obs/louvain:code"])
    >>> for batch in loader:
    ...     x, y = batch["X"], batch["obs_louvain"]
    >>> len(loader)
    6

    Parameters
    ----------
    data, rows, block_size, cache
        As for `IndexSource`.
    shuffle
        With False, rows come in stored order, for evaluation and prediction.
    weights, balance, num_rows
        As for `RowSampler`, which replaces the shuffle if ``weights`` or ``balance`` is given.
    chunk_size
        As for `ChunkSorter`.
    fields, genes, genes_from, missing_genes, gene_versions, categories, unknown
        As for `RowReader`.
    batch_size, drop_last
        As for `RowBatcher`.
    transform
        As for `RowTransformer`.
    form
        As for `Collator`.
    seed, rank, world_size, tail, memory, pin_memory, device
        As for `Loader`.
    num_workers, method, multiprocessing_context, prefetch, num_threads
        As for `Loader`.
    """
    source = IndexSource(data, rows=rows, block_size=block_size, cache=cache)
    sampled = weights is not None or balance is not None
    if sampled and not shuffle:
        raise ParameterError("shuffle=False keeps rows in stored order, but weights and balance draw them")
    if sampled:
        ordered: PlanStage = source.sample_rows(weights=weights, balance=balance, num_rows=num_rows)
    elif num_rows is not None:
        raise ParameterError("num_rows needs weights or balance: otherwise an epoch has the rows there are")
    else:
        ordered = source.shuffle_blocks() if shuffle else source
    pipe: BatchVerbs = (
        ordered.sort_within_chunks(chunk_size)
        .read_rows(
            fields,
            genes=genes,
            genes_from=genes_from,
            missing_genes=missing_genes,
            gene_versions=gene_versions,
            categories=categories,
            unknown=unknown,
        )
        .batch_rows(batch_size, drop_last=drop_last)
    )
    if transform is not None:
        pipe = pipe.transform(transform)
    return Loader(
        pipe.collate_rows(form),
        seed=seed,
        num_workers=num_workers,
        method=method,
        multiprocessing_context=multiprocessing_context,
        prefetch=prefetch,
        num_threads=num_threads,
        memory=memory,
        rank=rank,
        world_size=world_size,
        tail=tail,
        pin_memory=pin_memory,
        device=device,
    )
