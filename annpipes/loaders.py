"""Epochs over a pipe, in one exact order however they are run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import IterDataPipe
from torch.utils.data.datapipes.iter import IterableWrapper
from torchdata import nodes

from annpipes._plans import ChunkPlan
from annpipes._rows import as_natural
from annpipes._stages import graft, upstream
from annpipes.chunking import ChunkSorter
from annpipes.collating import Form
from annpipes.errors import PipelineError
from annpipes.reading import RowBatcher
from annpipes.sources import IndexSource
from annpipes.transforms import Transform
from annpipes.types import Batch, Chunk

__all__ = ["Loader", "stream"]


class Loader:
    """The epochs of a pipe: each pass is the next one, in an order known from seed and epoch.

    >>> pipe = IndexSource("pbmc.h5ad").shuffle_blocks().sort_within_chunks(256).read_rows().batch_rows(64)
    >>> loader = Loader(pipe.collate_rows(), seed=1)
    >>> len(loader), sum(len(batch["X"]) for batch in loader), loader.epoch
    (11, 700, 1)

    The plan is computed here, in the caller's process; threads only execute it. Chunks are
    read ahead while batches are consumed, and batches are finished (transformed, collated)
    one by one, so dense ones never pile up.

    Parameters
    ----------
    pipe
        Stages from `IndexSource` to the end, with one ``sort_within_chunks`` and one
        ``batch_rows``; those after it must hand on one item for each batch. The chunk size
        is lowered to a multiple of the batch size (or raised to one batch), so that
        batches do not depend on who reads which chunk.
    seed
        With the epoch, all that the order depends on.
    num_workers
        Threads that transform and collate batches; 0 does it in the caller's.
    prefetch
        Chunks read ahead, each by a thread of its own; 0 reads when the first batch of a chunk is asked for.

    Raises
    ------
    PipelineError
        The pipe lacks a stage, or a stage after ``batch_rows`` drops or adds batches.
    """

    def __init__(self, pipe: IterDataPipe[Any], *, seed: int = 0, num_workers: int = 0, prefetch: int = 1) -> None:
        self.pipe = pipe
        self.seed = as_natural(seed, "seed")
        self.num_workers = as_natural(num_workers, "num_workers")
        self.prefetch = as_natural(prefetch, "prefetch")
        self.epoch = 0
        """The epoch that the next pass will be."""
        self._batcher = upstream(pipe, RowBatcher, "Loader")
        self._sorter = upstream(self._batcher, ChunkSorter, "Loader")
        batch_size = self._batcher.batch_size
        self._plan = ChunkPlan(self._sorter.plan.source, max(self._sorter.chunk_size // batch_size, 1) * batch_size)

    def __len__(self) -> int:
        """How many batches an epoch has."""
        whole, rest = divmod(self._plan.n_rows, self._batcher.batch_size)
        return whole + (rest > 0 and not self._batcher.drop_last)

    def __repr__(self) -> str:
        return f"Loader({self.pipe!r}, seed={self.seed}, num_workers={self.num_workers}, prefetch={self.prefetch})"

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass this epoch; without it, each pass is the one after the last begun."""
        self.epoch = as_natural(epoch, "epoch")

    def __iter__(self) -> Iterator[Any]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self._pass(epoch)

    def _pass(self, epoch: int) -> Iterator[Any]:
        chunks = self._plan.epoch((self.seed, epoch))
        source: Any = nodes.IterableWrapper(map(chunks.chunk, range(self._plan.n_chunks)))
        read: Any = _mapper(source, _Part(self._batcher, self._sorter), self.prefetch)
        batches: Any = nodes.Unbatcher(read)
        finish = _mapper(batches, _One(_Part(self.pipe, self._batcher)), self.num_workers)
        yield from finish


def _mapper(source: Any, function: Any, threads: int) -> Any:
    """``function`` of each item, in order; with threads, at most one item of each waits to be taken."""
    return nodes.ParallelMapper(source, function, num_workers=threads, max_concurrent=threads or None)


class _Part:
    """The stages after ``first`` up to ``last`` as a function of one item."""

    def __init__(self, last: IterDataPipe[Any], first: IterDataPipe[Any]) -> None:
        self.last = last
        self.first = first

    def __call__(self, item: Chunk | Batch) -> Sequence[Any]:
        return list(graft(self.last, self.first, IterableWrapper([item], deepcopy=False)))


class _One:
    """The one result of a part."""

    def __init__(self, part: _Part) -> None:
        self.part = part

    def __call__(self, batch: Batch) -> Any:
        results = self.part(batch)
        if len(results) != 1:
            raise PipelineError(
                f"stages after batch_rows made {len(results)} items of one batch; a Loader, whose length is "
                f"exact, needs one for each (iterate the pipe itself, or move the stage before batch_rows)"
            )
        return results[0]


def stream(
    data: Any,
    batch_size: int = 256,
    *,
    fields: Sequence[str] = ("X",),
    genes: Any = None,
    rows: Any = None,
    transform: Transform | None = None,
    x: Form = "dense",
    block_size: int | None = None,
    chunk_size: int = 16_384,
    drop_last: bool = False,
    seed: int = 0,
    num_workers: int = 0,
    prefetch: int = 1,
) -> Loader:
    """A `Loader` of shuffled batches: the default pipe in one line.

    >>> loader = stream("pbmc.h5ad", batch_size=128, fields=["X", "obs/louvain:code"])
    >>> for batch in loader:
    ...     x, y = batch["X"], batch["obs_louvain"]
    >>> len(loader)
    6

    Parameters
    ----------
    data, rows, block_size
        As of `IndexSource`.
    chunk_size
        As of `ChunkSorter`.
    fields, genes
        As of `RowReader`.
    batch_size, drop_last
        As of `RowBatcher`.
    transform
        As of `RowTransformer`.
    x
        As of `Collator`.
    seed, num_workers, prefetch
        As of `Loader`.
    """
    pipe = (
        IndexSource(data, rows=rows, block_size=block_size)
        .shuffle_blocks()
        .sort_within_chunks(chunk_size)
        .read_rows(fields, genes=genes)
        .batch_rows(batch_size, drop_last=drop_last)
    )
    if transform is not None:
        pipe = pipe.transform(transform)
    return Loader(pipe.collate_rows(x), seed=seed, num_workers=num_workers, prefetch=prefetch)
