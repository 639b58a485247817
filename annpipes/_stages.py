"""What every stage has: a repr that can be typed back, and a place in its pipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self, TypeVar

import torch
from torch.utils.data import IterDataPipe

from annpipes._labels import LabelTables
from annpipes._permutations import Key
from annpipes._plans import Plan
from annpipes._reprs import call_repr, parameters_repr
from annpipes._rows import RowArray, as_natural
from annpipes._store import Store
from annpipes.errors import PipelineError

__all__ = ["PlanStage", "RandomStage", "Source", "Stage", "graft", "owner", "upstream"]

S = TypeVar("S")
T_co = TypeVar("T_co", covariant=True)


class Stage(IterDataPipe[T_co]):
    """A DataPipe whose repr is the code that makes it.

    A subclass keeps its parameters under the names they have in ``__init__``, the stage
    before it as ``source_datapipe``, and the verb that chains it in ``verb``.
    """

    verb = ""

    def __repr__(self) -> str:
        source = getattr(self, "source_datapipe", None)
        if source is None or not self.verb:
            return call_repr(self)
        return f"{source!r}.{self.verb}({parameters_repr(self, leave_out='source_datapipe')})"

    def __str__(self) -> str:
        return repr(self)

    def state_dict(self) -> dict[str, int | None]:
        """Where this pass stands: the protocol of torchdata's `StatefulDataLoader`."""
        sorter, shuffler = owner(self, "chunk_size"), owner(self, "pass_seed")
        batcher = owner(self, "batch_size") or sorter
        if sorter is None or batcher is None:
            raise PipelineError(f"{self!r} has no sort_within_chunks, and no position that could be saved")
        rows_each = batcher.batch_size if batcher is not sorter else sorter.plan.chunk_size
        row = sorter.first_row + self._number_of_samples_yielded * rows_each  # torch counts what it hands out
        return {"row": row, "seed": None if shuffler is None else shuffler.pass_seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next pass go on from there."""
        sorter, shuffler = owner(self, "chunk_size"), owner(self, "pass_seed")
        if sorter is not None:
            sorter.skip_to(int(state["row"]))
        if shuffler is not None:
            shuffler.repeat_seed(state["seed"])


class PlanStage(Stage[Any]):
    """A stage of the plan side: it holds no data, only a plan.

    Derive from it to bring an order of your own: set ``plan`` to an object with ``n_rows``,
    ``shuffled`` and ``epoch(key).rows(start, stop)``.
    """

    plan: Plan

    def pass_key(self) -> Key:
        """What this pass over the stage draws its order from."""
        return (0,)

    def __iter__(self) -> Iterator[Any]:
        yield from self.plan.epoch(self.pass_key()).blocks()


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

    @property
    def var(self) -> Any:
        """A `pandas.DataFrame` of what is known about the genes, in the order of X's columns."""
        return self.store.var

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that rows come from; the field ``file`` has their numbers."""
        return self.store.files

    def route(self, field: str = "X") -> str:
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


def owner(pipe: IterDataPipe[Any], name: str) -> Any:
    """The stage of the pipe that keeps an attribute of this name, if any does."""
    return next((stage for stage in _stages(pipe) if name in vars(stage)), None)


def _stages(pipe: IterDataPipe[Any]) -> Iterator[IterDataPipe[Any]]:
    """The pipe's stages from its end on, each as often as it is reached.

    torch's own walk (`traverse_dps`) pickles every stage under a hook that all threads share.
    """
    yield pipe
    for value in vars(pipe).values():
        for part in value if isinstance(value, list | tuple) else (value,):
            if isinstance(part, IterDataPipe):
                yield from _stages(part)


def upstream(pipe: IterDataPipe[Any], kind: type[S], needed_by: str) -> S:
    """The one stage of this kind in the pipe that ends with ``pipe``.

    Raises
    ------
    PipelineError
        There is none, or more than one.
    """
    if not isinstance(pipe, IterDataPipe):
        raise PipelineError(f"{needed_by} needs a pipe, got a {type(pipe).__name__}")
    found = [*{id(stage): stage for stage in _stages(pipe) if isinstance(stage, kind)}.values()]
    if len(found) != 1:
        count = "no" if not found else f"{len(found)} of"
        raise PipelineError(f"{needed_by} needs a pipe with one {kind.__name__}, and {pipe!r} has {count} them")
    return found[0]


def graft(pipe: IterDataPipe[Any], stage: IterDataPipe[Any], scion: IterDataPipe[Any]) -> IterDataPipe[Any]:
    """A copy of the end of ``pipe``, fed by ``scion`` in place of ``stage``.

    Only the stages between are copied, shallowly; what they hold is shared.
    """
    if pipe is stage:
        return scion
    twin = object.__new__(type(pipe))  # not copy.copy, which fails while another thread walks a pipe with torch
    vars(twin).update(vars(pipe))
    for name, value in vars(pipe).items():
        if isinstance(value, IterDataPipe):
            setattr(twin, name, graft(value, stage, scion))
    return twin
