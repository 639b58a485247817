"""What every stage has: a repr that can be typed back, and a place in its pipe."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch

from annpipes.errors import PipelineError
from annpipes.messages.reprs import call_repr, parameters_repr
from annpipes.messages.showing import Part, Shown, Table
from annpipes.plans.base import Plan
from annpipes.plans.chunks import ChunkPlan
from annpipes.plans.permutation import Key
from annpipes.plans.rows import RowArray, as_natural
from annpipes.plans.state import State
from annpipes.stages.datapipes import IterDataPipe, Mapper
from annpipes.stages.graph import last_of, refuse_torchs, stages_of
from annpipes.stages.verbs import BatchVerbs, ChunkVerbs, PlanVerbs
from annpipes.stores import Request
from annpipes.types import Batch, Chunk, Need

__all__ = [
    "BatchStage",
    "ChunkStage",
    "CollateStage",
    "EachStage",
    "PlanStage",
    "RandomStage",
    "ReadStage",
    "Stage",
    "fingerprint_of",
    "need_batches",
    "need_chunks",
    "pipe_table",
    "plan_before",
]

P = TypeVar("P", bound=Plan)
T_in = TypeVar("T_in")
T_co = TypeVar("T_co", covariant=True)

_POSITION = {"row": int, "seed": int | None}


class Stage(Shown, IterDataPipe[T_co]):
    """A DataPipe whose repr is the code that makes it.

    A subclass keeps its parameters under the names they have in ``__init__``, the stage
    before it as ``source_datapipe``, and the name of its chained form in ``verb``.
    """

    verb: ClassVar[str] = ""
    attributes: ClassVar[Mapping[str, str]] = {}
    """By parameter, the attribute that keeps it, where torch has a method of its name."""
    source_datapipe: IterDataPipe[Any] | None = None

    def __repr__(self) -> str:
        if self.source_datapipe is None or not self.verb:
            return call_repr(self)
        return f"{self.source_datapipe!r}{self.code}"

    def __str__(self) -> str:
        return repr(self)

    @property
    def code(self) -> str:
        """What this stage adds to the repr of the one before; of the first one, the whole."""
        if self.source_datapipe is None or not self.verb:
            return repr(self)
        return f".{self.verb}({parameters_repr(self, 'source_datapipe', self.attributes)})"

    def _shown(self) -> Sequence[Part]:
        return [pipe_table(self)]

    def fingerprint(self) -> Mapping[str, Any]:
        """What this stage adds to what a saved state belongs to: short values by name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Where this pass stands: the protocol of torchdata's `StatefulDataLoader`."""
        chunker, batcher = self._chunker(), last_of(self, BatchStage)
        rows_each = chunker.chunks.chunk_size if batcher is None else batcher.batch_size
        row = chunker.first_row + self._number_of_samples_yielded * rows_each  # torch counts what it hands out
        drawn = last_of(self, RandomStage)
        position = {"row": row, "seed": None if drawn is None else drawn.pass_seed}
        return State(position, fingerprint_of(self)).as_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next pass go on from there.

        Raises
        ------
        StateError
            The state belongs to other data or parameters, or was spoilt.
        """
        chunker, drawn = self._chunker(), last_of(self, RandomStage)
        position = State.read(state, _POSITION).checked(fingerprint_of(self))
        chunker.skip_to(position["row"])
        if drawn is not None:
            drawn.repeat_seed(position["seed"])

    def _chunker(self) -> ChunkStage:
        chunker = last_of(self, ChunkStage)
        if chunker is None:
            raise PipelineError(f"{self!r} has no sort_within_chunks, so it has no position to save")
        return chunker


class EachStage(Stage[T_co], Generic[T_in, T_co]):
    """A stage that makes one item of each: all that is written is `each`, a function of one item."""

    source_datapipe: IterDataPipe[T_in]

    @abstractmethod
    def each(self, item: T_in) -> T_co:
        """What becomes of one item."""

    def __iter__(self) -> Iterator[T_co]:
        yield from map(self.each, self.source_datapipe)


class ChunkStage(ChunkVerbs, Stage[Chunk]):
    """A stage that cuts a plan into chunks, and can begin within an epoch."""

    chunks: ChunkPlan
    first_row: int
    """Of the rows that this worker is dealt, how many this pass left out at its beginning."""

    @abstractmethod
    def skip_to(self, row: int) -> None:
        """Let the next pass leave out so many of the rows that this worker is dealt."""


class ReadStage(BatchVerbs, EachStage[Chunk, Batch]):
    """A stage that reads the rows of chunks."""

    request: Request
    """What is read of each row."""

    def knowing(self, needs: Sequence[Need]) -> Self:
        """The same stage, which also reads what transforms must know of the rows."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        twin.request = self.request.knowing(needs)
        return twin


class BatchStage(BatchVerbs, Stage[Batch]):
    """A stage that makes batches of one size."""

    source_datapipe: IterDataPipe[Batch]
    batch_size: int


class PlanStage(PlanVerbs, Stage[Any]):
    """A stage of the plan side: it holds no data, only a plan. Derive from it for an order of your own.

    ``plan`` is a `Plan` of your own class, derived from `Plan`; ``source_datapipe`` is the stage before it.
    """

    plan: Plan

    def pass_key(self) -> Key:
        """What this pass over the stage draws its order from."""
        return (0,)

    def __iter__(self) -> Iterator[RowArray]:
        yield from _plan_of(self, type(self).__name__).blocks(self.pass_key())


class RandomStage(PlanStage):
    """A stage whose plan is drawn again for each pass.

    It has no seed of its own: each pass uses the number that a `Loader` or torch's `DataLoader`
    set with ``set_seed``; without one it draws from torch's global generator, as torch's own
    samplers do.
    """

    def __init__(self) -> None:
        self._shuffled = True
        self.pass_seed: int | None = None
        self._pushed_seed: int | None = None
        self._repeated_seed: int | None = None

    def set_seed(self, seed: int) -> Self:
        """Fix the order of the next pass (torch's `DataLoader` calls this before each)."""
        self._pushed_seed = as_natural(seed, "seed")
        return self

    def set_shuffle(self, shuffle: bool = True) -> Self:
        """Turn the shuffle off or on (torch's `DataLoader` does if it is given ``shuffle=``)."""
        self._shuffled = shuffle
        return self

    def pass_key(self) -> Key:
        """The seed of a pass to be continued, or that pushed for this one, or a new one."""
        if not self._shuffled:
            return ()
        seed = self._pushed_seed if self._repeated_seed is None else self._repeated_seed
        if seed is None:
            seed = int(torch.empty((), dtype=torch.int64).random_().item())
        self.pass_seed = seed
        self._pushed_seed = self._repeated_seed = None
        return (seed,)

    def repeat_seed(self, seed: int | None) -> None:
        """Give the next pass the order of one that was broken off, whatever seed is pushed for it."""
        self._repeated_seed = self.pass_seed = seed


class CollateStage(EachStage[Batch, T_co], Generic[T_co]):
    """A stage whose items leave the pipe: no stage of ours follows."""


def need_chunks(stage: Any, needed_by: str) -> None:
    """Refuse a stage of ours, or one of torch in its place, that makes no chunks; stages of others are trusted.

    Raises
    ------
    PipelineError
        It says what to write.
    """
    refuse_torchs(stage, needed_by)
    if isinstance(_unmapped(stage), PlanStage):
        raise PipelineError(f"{needed_by} reads chunks: write .sort_within_chunks(…) before it, got {stage!r}")


def need_batches(stage: Any, needed_by: str) -> None:
    """As `need_chunks`, of a stage that makes no batches."""
    refuse_torchs(stage, needed_by)
    before = _unmapped(stage)
    if isinstance(before, PlanStage | ChunkStage):
        chunks = ".sort_within_chunks(…)" if isinstance(before, PlanStage) else ""
        raise PipelineError(
            f"{needed_by} needs rows that have been read: write {chunks}.read_rows(…) before it, got {stage!r}"
        )
    if isinstance(before, CollateStage):
        raise PipelineError(f"{needed_by} must stand before .{before.verb}(…), which makes tensors, got {stage!r}")


def _unmapped(stage: Any) -> Any:
    while isinstance(stage, Mapper):
        stage = stage.datapipe
    return stage


def plan_before(stage: Any, needed_by: str, kind: type[P], kind_name: str = "an IndexSource") -> P:
    """The plan of the stage before one that orders rows.

    Raises
    ------
    PipelineError
        The stage has no plan, or one of another kind.
    """
    refuse_torchs(stage, needed_by)
    if isinstance(stage, PlanStage):
        plan = _plan_of(stage, needed_by)
        if isinstance(plan, kind):
            return plan
    raise PipelineError(f"{needed_by} must follow {kind_name}, got {stage!r}")


def _plan_of(stage: PlanStage, needed_by: str) -> Plan:
    plan: object = vars(stage).get("plan")
    if not isinstance(plan, Plan):
        raise PipelineError(
            f"{needed_by} needs the plan of {type(stage).__name__}, which must be an annpipes.Plan (derive its class "
            f"from that), got {plan!r}"
        )
    return plan


def pipe_table(pipe: IterDataPipe[Any]) -> Table:
    """The stages of a pipe, one in each row."""
    rows: list[list[str]] = []
    stage: IterDataPipe[Any] | None = pipe
    while stage is not None:
        mapped = isinstance(stage, Mapper)
        code = stage.code if isinstance(stage, Stage) else ".map(…)" if mapped else repr(stage)
        rows.insert(0, [type(stage).__name__, code])
        stage = stage.datapipe if mapped else stage.source_datapipe if isinstance(stage, Stage) else None
    return Table(["stage", "code"], rows)


def fingerprint_of(pipe: IterDataPipe[Any]) -> dict[str, Any]:
    """What a position in this pipe belongs to: what all its stages say."""
    found: dict[str, Any] = {}
    for stage in stages_of(pipe):
        if isinstance(stage, Stage):
            found = {**stage.fingerprint(), **found}
    return found
