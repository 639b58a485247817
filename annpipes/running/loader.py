"""Epochs over a pipe, in one exact order however they are run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any, Literal, Self, get_args

from torch.utils.data import IterableDataset, get_worker_info

from annpipes.errors import ParameterError, PipelineError, StateError
from annpipes.messages.reprs import changed_repr
from annpipes.messages.showing import Labelled, Part, Shown, Title
from annpipes.meters import Meter
from annpipes.plans.rows import RowArray, as_bytes, as_natural
from annpipes.plans.schedule import Schedule, ScheduledEpoch, Tail, as_tail
from annpipes.plans.state import State
from annpipes.running.making import BatchMaker
from annpipes.running.nodes import BaseNode, LoaderNode
from annpipes.running.placing import Placer
from annpipes.running.ranks import Ranks, agree, find_ranks
from annpipes.running.statistics import Statistics
from annpipes.running.steps import need_cut
from annpipes.stages.base import fingerprint_of, pipe_table
from annpipes.stages.chunking import ChunkSorter
from annpipes.stages.datapipes import IterDataPipe
from annpipes.stages.graph import last_of, upstream
from annpipes.stages.origins import OfSource, Source
from annpipes.stages.reading import RowBatcher, RowReader
from annpipes.stores import Answers, Request

__all__ = ["Loader"]


class Loader(Answers, OfSource, Shown, IterableDataset[Any]):
    """The epochs of a pipe: each pass is the next epoch, in an order determined by seed and epoch.

    >>> pipe = IndexSource("pbmc.h5ad").shuffle_blocks().sort_within_chunks(256).read_rows().batch_rows(64)
    >>> loader = Loader(pipe.collate_rows(), seed=1)
    >>> len(loader), sum(len(batch["X"]) for batch in loader), loader.epoch
    (11, 700, 1)

    The plan is computed in the caller's process; workers only execute it. Threads read chunks
    ahead while batches are consumed; batches are finished (transformed, collated) one by
    one, so dense batches never pile up.

    Parameters
    ----------
    pipe
        Stages from `IndexSource` to the end, with one ``sort_within_chunks`` and one
        ``batch_rows``; stages after it must yield one item for each batch. The chunk size
        is lowered to a multiple of the batch size (or raised to one batch), so that
        batches do not depend on who reads which chunk.
    seed
        The order depends on it and on the epoch, and on nothing else.
    num_workers
        How many workers finish batches ahead; with 0, a batch is finished when it is asked for.
    method
        ``"thread"``, or ``"process"`` for transforms that hold Python's lock for long.
    multiprocessing_context
        How processes start: ``"fork"``, ``"spawn"`` or ``"forkserver"``.
    prefetch
        Chunks read ahead, each by its own thread; with 0, a chunk is read when its first batch is asked for.
        When None: 3 if reading waits for a network, else 1.
    num_threads
        How many threads decode a chunk. When None: one for each core, shared with the other ranks on this machine.
    memory
        In place of the pipe's chunk size: how much memory two chunks may take, one in use and one being
        read, in bytes or as a string such as ``"2GB"``. Each further chunk that ``prefetch`` asks for takes
        half as much again. The chunk size is derived from the stored number of values per row.
    rank, world_size
        This process among those that share the epoch. When None, those of
        `torch.distributed` if it has been initialized, else a single one. Each rank gets
        ``batch_size`` rows of every global batch.
    tail
        What happens to rows that do not fill a whole global batch: ``"keep"`` makes a short last
        batch (one rank only), ``"drop"`` leaves them out, ``"fill"`` fills the batch up with the
        epoch's last row, ``"repeat"`` with its first ones. They differ in each epoch; see `tail_rows`.
        When None: ``"drop"`` if the pipe has ``drop_last``, else ``"keep"`` for one rank and ``"repeat"`` for several.
    pin_memory
        Copy tensors into pinned memory, from which a GPU can fetch them while it computes.
    device
        Move tensors to this device. To a GPU of CUDA or ROCm, the next two batches are copied while it computes, from
        pinned memory; if the pipe ends with ``collate_rows("dense")``, sparse rows become dense there.

    Raises
    ------
    PipelineError
        The pipe lacks a stage, or a stage after ``batch_rows`` drops or adds batches.
    ParameterError
        A parameter has an invalid value.
    RankError
        When a pass begins: the ranks have different data or parameters.
    WorkerError
        During a pass: a worker process has died.
    """

    def __init__(
        self,
        pipe: IterDataPipe[Any],
        *,
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
    ) -> None:
        self.pipe = pipe
        # What the repr says: values as they were given, before any is looked at.
        self._given = {name: value for name, value in locals().items() if name not in ("self", "pipe")}
        self.seed: int = as_natural(seed, "seed")
        self._placer = Placer(pipe, pin_memory, device)
        self.ranks: Ranks = find_ranks(rank, world_size)
        self._batcher = upstream(pipe, RowBatcher, "Loader", RowBatcher.verb)
        need_cut(self._batcher, self._batcher.cut)
        self._sorter = upstream(self._batcher, ChunkSorter, "Loader", ChunkSorter.verb)
        self.source: Source = upstream(self._sorter, Source, "Loader")
        self._chunk_size = self._sorter.chunk_size if memory is None else self._fit(as_bytes(memory, "memory"))
        self._any_tail = tail is None and not self._batcher.drop_last  # a state may say another
        known = as_tail(tail, drop_last=self._batcher.drop_last, world_size=self.ranks.world_size)
        self._schedule = self._schedule_for(self.ranks.world_size, known)
        self._meter = Meter()
        workers = num_workers, method, multiprocessing_context, prefetch, num_threads
        self._maker = BatchMaker(self._placer.pipe, self._batcher, self._sorter, *workers)
        self.num_workers: int = self._maker.num_workers
        self.prefetch: int = self._maker.prefetch
        self._next = self._at = (0, 0)  # epoch and batch: where the next pass begins, and what has been received

    def _fit(self, memory: int) -> int:
        return max(1, int(memory / 2 / max(1.0, self._answering("memory").row_bytes)))

    def _answering(self, needed_for: str) -> Request:
        return upstream(self._batcher, RowReader, f"Loader's {needed_for}").request

    def _schedule_for(self, lanes: int, tail: Tail) -> Schedule:
        batch_size = max(1, self._batcher.batch_size * self.ranks.world_size // lanes)
        chunk_size = max(self._chunk_size // batch_size, 1) * batch_size
        return Schedule(self._sorter.chunks.source, batch_size, chunk_size, lanes, tail)

    def __len__(self) -> int:
        """How many batches an epoch has, on this rank as on every other."""
        return self._schedule.n_batches

    def __repr__(self) -> str:
        given = changed_repr(type(self), self._given)
        return f"{type(self).__name__}({self.pipe!r}{given and ', '}{given})"

    def _shown(self) -> Sequence[Part]:
        title = Title(f"{type(self).__name__}: {len(self):,} batches of {self.batch_size:,} rows")
        given = ("loader", changed_repr(type(self), self._given) or "as by default")
        begins = ("next pass", f"epoch {self.epoch}, from batch {self.first_batch} on")
        reader = last_of(self._batcher, RowReader)
        chosen = [] if reader is None or reader.request.chosen is None else [("genes", reader.found_genes.line)]
        return [title, pipe_table(self.pipe), Labelled([given, *chosen, begins])]

    @property
    def epoch(self) -> int:
        """The epoch that the next pass will be."""
        return self._next[0]

    @property
    def first_batch(self) -> int:
        """The batch of its epoch with which the next pass begins; 0 unless it resumes within an epoch."""
        return self._next[1]

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass this epoch; without this call, each pass is the epoch after the last one begun.

        If the next pass is to resume in the middle of this same epoch, it still does.
        """
        if as_natural(epoch, "epoch") != self.epoch:
            self._next = (epoch, 0)
        self._at = self._next

    @property
    def batch_size(self) -> int:
        """How many rows a batch of this rank has."""
        return self._batcher.batch_size

    def planned(self, epoch: int | None = None) -> ScheduledEpoch:
        """The order of an epoch (by default the next): its chunks, and in ``schedule`` the sizes of all epochs.

        >>> stream("pbmc.h5ad", batch_size=256).planned(0).chunk(0).drawn[:3]
        array([ 64, 459, 564])
        """
        return self._schedule.epoch((self.seed, self.epoch if epoch is None else as_natural(epoch, "epoch")))

    def tail_rows(self, epoch: int | None = None) -> RowArray:
        """The rows that an epoch (by default the next) leaves out or, with ``fill`` and ``repeat``, visits again."""
        return self.planned(epoch).tail_rows()

    def state_dict(self, *, unused: int = 0, ended: bool | None = None) -> dict[str, Any]:
        """The consumer's position: counts the batches it received, not those read ahead.

        A few hundred bytes of JSON, the same on every rank, to be saved in the model's checkpoint.

        Parameters
        ----------
        unused
            How many of the last received batches come again, because their steps were not taken yet.
        ended
            True: the next epoch follows, even before this one's last batch. False: not yet, even right after it.
        """
        epoch, batch = self._at
        if (used := batch - as_natural(unused, "unused")) < 0:
            raise ParameterError(f"unused must be at most {batch}, the batches received in this epoch, got {unused}")
        over = used > 0 and (used == len(self) if ended is None else ended)
        position = {"epoch": epoch + over, "batch": 0 if over else used}
        return State(position, self._fingerprint(self._schedule)).as_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the next pass continue after the last batch that had been received when ``state`` was saved.

        The number of workers may differ, and so may the number of ranks if the global
        batch (``batch_size`` × ranks) is the same.

        Raises
        ------
        StateError
            The state belongs to other data or parameters (the message names each difference), or is corrupt.
        ParameterError
            The state is from one rank with a short last batch, which several ranks cannot share.
        """
        saved = State.read(state, {"epoch": int, "batch": int})
        tail: Any = saved.belongs_to.get("tail") if self._any_tail else self._schedule.tail
        if tail not in get_args(Tail):
            raise StateError(f"the state has tail={tail!r:.80}, which is not one of {', '.join(get_args(Tail))}")
        lanes = saved.natural("lanes")
        divides = self._schedule.global_batch % lanes == 0  # if not, it was another global batch
        schedule = self._schedule_for(lanes if divides else self._schedule.lanes, tail)
        position = saved.checked(self._fingerprint(schedule))
        if position["batch"] > schedule.n_batches:
            raise StateError(f"the state has batch={position['batch']}, but an epoch has {schedule.n_batches}")
        if schedule.tail == "keep" and self.ranks.world_size > 1:
            raise ParameterError("the state is from one rank with tail='keep': ranks cannot share a short last batch")
        self._schedule = schedule
        self._next = self._at = (position["epoch"], position["batch"])

    def _fingerprint(self, schedule: Schedule) -> dict[str, Any]:
        pipe = fingerprint_of(self._batcher)
        del pipe["batch_size"]  # of one rank
        return {
            **pipe,
            "seed": self.seed,
            "chunk_size": schedule.chunk_size,
            "global_batch": self._batcher.batch_size * self.ranks.world_size,
            "lanes": schedule.lanes,
            "tail": schedule.tail,
        }

    def with_ranks(self, rank: int | None = None, world_size: int | None = None) -> Self:
        """The same loader for another rank, by default that of `torch.distributed`, before its epoch 0."""
        return type(self)(self.pipe, **{**self._given, "rank": rank, "world_size": world_size})

    def to_node(self) -> BaseNode[Any]:
        """The loader as a node of torchdata: each ``reset()`` is the next epoch, and its state is exact."""
        return LoaderNode(self)

    def stats(self) -> Statistics:
        """Speed and bottleneck of the last pass begun, up to now.

        >>> loader = stream("pbmc.h5ad")
        >>> for batch in loader:
        ...     pass
        >>> loader.stats().read_amplification
        1.0
        """
        return Statistics.of(self._meter.totals, self.num_workers)

    def __iter__(self) -> Iterator[Any]:
        """The batches of the next epoch, which begins when the first one is asked for."""
        if get_worker_info() is not None:
            raise PipelineError(
                "a Loader has workers of its own: iterate over it directly, Loader(…, num_workers=n), or give the "
                "DataLoader its pipe, DataLoader(loader.pipe, batch_size=None, num_workers=n)"
            )
        (epoch, batch), self._next = self._next, (self._next[0] + 1, 0)
        self._at = (epoch, batch)
        agree(self.ranks, {**self._fingerprint(self._schedule), "epoch": epoch, "batch": batch})
        chunks = self.planned(epoch).chunks_from(batch, self.ranks.rank, self.ranks.world_size)
        n_rows, global_batch = self._schedule.n_rows, self._schedule.global_batch
        self._meter = meter = Meter()
        tally, now = meter.tally(), perf_counter()  # by hand: this runs for each batch
        with self._maker.open(chunks, meter) as finished, self._placer.open(finished) as placed:
            for number in range(batch, self._schedule.n_batches):
                item = next(placed)
                self._at, before, now = (epoch, number + 1), now, perf_counter()
                tally["wait"] += now - before
                yield item
                before, now = now, perf_counter()
                tally["consume"] += now - before
                tally["rows"] += min(self._batcher.batch_size, n_rows - number * global_batch)
