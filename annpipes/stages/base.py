"""What every stage has: a repr that can be typed back, and a place in its pipe."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch

from annpipes.errors import PipelineError
from annpipes.plans.base import Plan
from annpipes.plans.chunks import ChunkPlan
from annpipes.plans.permutation import Key
from annpipes.plans.rows import RowArray, as_natural
from annpipes.plans.state import State
from annpipes.reprs import call_repr, parameters_repr
from annpipes.stages.datapipes import IterDataPipe
from annpipes.stages.graph import last_of, stages_of
from annpipes.stages.verbs import BatchVerbs, ChunkVerbs, PlanVerbs
from annpipes.stores import LabelTables, Route, Store
from annpipes.types import Batch, Chunk

__all__ = [
    "BatchStage",
    "ChunkStage",
    "EachStage",
    "PlanStage",
    "RandomStage",
    "Source",
    "Stage",
    "fingerprint_of",
    "plan_before",
]

P = TypeVar("P", bound=Plan)
T_in = TypeVar("T_in")
T_co = TypeVar("T_co", covariant=True)

_POSITION = {"row": int, "seed": int | None}


class Stage(IterDataPipe[T_co]):
    """A DataPipe whose repr is the code that makes it.

    A subclass keeps its parameters under the names they have in ``__init__``, the stage
    before it as ``source_datapipe``, and the verb that chains it in ``verb``.
    """

    verb: ClassVar[str] = ""
    attributes: ClassVar[Mapping[str, str]] = {}
    """By parameter, the attribute that keeps it, where torch has a method of its name."""
    source_datapipe: IterDataPipe[Any] | None = None

    def __repr__(self) -> str:
        if self.source_datapipe is None or not self.verb:
            return call_repr(self)
        return f"{self.source_datapipe!r}.{self.verb}({parameters_repr(self, 'source_datapipe', self.attributes)})"

    def __str__(self) -> str:
        return repr(self)

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
            raise PipelineError(f"{self!r} has no sort_within_chunks, and no position that could be saved")
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


class BatchStage(BatchVerbs, Stage[Batch]):
    """A stage that makes batches of one size."""

    source_datapipe: IterDataPipe[Batch]
    batch_size: int


class PlanStage(PlanVerbs, Stage[Any]):
    """A stage of the plan side: it holds no data, only a plan. Derive from it to bring an order of your own.

    ``plan`` is a `Plan`, whose class you derive from as well; ``source_datapipe`` is the stage before it.
    """

    plan: Plan

    def pass_key(self) -> Key:
        """What this pass over the stage draws its order from."""
        return (0,)

    def __iter__(self) -> Iterator[RowArray]:
        yield from _plan_of(self, type(self).__name__).blocks(self.pass_key())


class RandomStage(PlanStage):
    """A stage whose plan is drawn anew in each pass.

    It has no seed of its own: each pass takes the number that a `Loader` or torch's `DataLoader`
    pushed with `set_seed`; without one it draws from torch's global generator, as torch's own
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


class Source(PlanStage):
    """The stage at which a pipe begins: a plan over the rows of a store."""

    store: Store

    def fingerprint(self) -> Mapping[str, Any]:
        """What makes this data other than others."""
        return self.store.fingerprint()

    @property
    def n_obs(self) -> int:
        """How many rows the data has, of which the source may have chosen some."""
        return self.store.n_obs

    @property
    def fields(self) -> tuple[str, ...]:
        """What can be read of each row."""
        return tuple(self.store.fields)

    @property
    def var(self) -> Any:
        """A `pandas.DataFrame` of what is known about the genes, in the order of X's columns."""
        return self.store.var

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that rows come from; the field ``file`` has their numbers."""
        return self.store.files

    def route(self, field: str = "X") -> Route:
        """How a field is read: by annpipes itself (``direct``), through ``h5py`` and why, or from memory.

        >>> IndexSource("pbmc.h5ad").route("raw/X")
        'direct (uncompressed)'
        """
        return self.store.route(field)

    def locate(self, rows: Any) -> tuple[RowArray, RowArray]:
        """The file of each of these rows, and the row's number in it; each ``(n,)``.

        >>> IndexSource(["pbmc.h5ad", "pbmc.h5ad"]).locate([699, 700])
        (array([0, 1]), array([699,   0]))
        """
        return self.store.locate(rows)

    def row_of(self, file: int, row: int) -> int:
        """The number in the whole of row ``row`` of file ``file``.

        >>> IndexSource(["pbmc.h5ad", "pbmc.h5ad"]).row_of(1, 0)
        700
        """
        return self.store.row_of(file, row)

    def categories(self, column: str) -> tuple[str, ...]:
        """The labels of an obs column, in the order of their codes.

        >>> IndexSource("pbmc.h5ad").categories("phase")
        ('G1', 'G2M', 'S')
        """
        return LabelTables(self.store).categories(column)

    def decode(self, column: str, codes: Any) -> list[str]:
        """The labels of an obs column that ``codes``, ``(n,)``, stand for; ``""`` for -1.

        >>> IndexSource("pbmc.h5ad").decode("phase", [2, -1])
        ['S', '']
        """
        return LabelTables(self.store).decode(column, codes)


def plan_before(stage: Any, needed_by: str, kind: type[P], kind_name: str = "an IndexSource") -> P:
    """The plan of the stage before one that orders rows.

    Raises
    ------
    PipelineError
        The stage has no plan, or one of another kind.
    """
    if isinstance(stage, PlanStage):
        plan = _plan_of(stage, needed_by)
        if isinstance(plan, kind):
            return plan
    raise PipelineError(f"{needed_by} follows {kind_name}, got {stage!r}")


def _plan_of(stage: PlanStage, needed_by: str) -> Plan:
    plan: object = vars(stage).get("plan")
    if not isinstance(plan, Plan):
        raise PipelineError(
            f"{needed_by} needs the plan of {type(stage).__name__}, which must be an annpipes.Plan (derive its class "
            f"from that), got {plan!r}"
        )
    return plan


def fingerprint_of(pipe: IterDataPipe[Any]) -> dict[str, Any]:
    """What a position in this pipe belongs to: what all its stages say."""
    found: dict[str, Any] = {}
    for stage in stages_of(pipe):
        if isinstance(stage, Stage):
            found = {**stage.fingerprint(), **found}
    return found
