"""Stages as parts of a pipe: found in it, copied out of it, and written by users."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from builders import tiny
from contracts import StageContract, all_rows
from torch.utils.data import IterDataPipe, functional_datapipe
from torch.utils.data.graph import traverse_dps

from annpipes import Batch, BlockShuffler, ChunkSorter, IndexSource, Loader, RowBatcher, RowReader, stream
from annpipes.errors import PipelineError, StateError
from annpipes.plans.base import Plan
from annpipes.plans.order import InOrder
from annpipes.plans.permutation import Key
from annpipes.plans.rows import RowArray
from annpipes.stages.base import PlanStage, RandomStage, Stage
from annpipes.stages.graph import graft, upstream


@functional_datapipe("keep_every")
class Thinned(Stage[Batch]):
    """A stage such as a user writes: every n-th row of each batch."""

    verb = "keep_every"

    def __init__(self, source_datapipe: IterDataPipe[Batch], step: int = 1) -> None:
        self.source_datapipe = source_datapipe
        self.step = step

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.source_datapipe:
            yield batch[:: self.step]


class TestStageOfOnesOwn(StageContract):
    def chained(self, path: Path) -> Any:
        return IndexSource(path, block_size=3).sort_within_chunks(7).read_rows(["rows"]).keep_every(1)

    def constructed(self, path: Path) -> Any:
        return Thinned(IndexSource(path, block_size=3).sort_within_chunks(7).read_rows(["rows"]), 1)


def whole_pipe(n_obs: int = 20) -> Any:
    pipe = IndexSource(tiny(n_obs), block_size=2).shuffle_blocks().sort_within_chunks(6)
    return pipe.read_rows(["X", "rows"]).batch_rows(4).collate_rows()


class TestUpstream:
    @pytest.mark.parametrize("kind", [IndexSource, BlockShuffler, ChunkSorter, RowReader, RowBatcher])
    def test_the_one_stage_of_a_kind_is_found(self, kind: type[Any]) -> None:
        assert type(upstream(whole_pipe(), kind, "a test")) is kind

    def test_none_or_several_are_told(self) -> None:
        with pytest.raises(PipelineError, match=r"a test needs a pipe with one BlockShuffler, and .* has no"):
            upstream(IndexSource(tiny(3)), BlockShuffler, "a test")
        twice = IndexSource(tiny(3)).sort_within_chunks(2).concat(IndexSource(tiny(3)).sort_within_chunks(2))
        with pytest.raises(PipelineError, match="2 of them"):
            upstream(twice, IndexSource, "a test")


class TestGraft:
    def test_the_end_of_a_pipe_is_copied_and_fed_by_another(self) -> None:
        pipe = IndexSource(tiny(8)).sort_within_chunks(4).read_rows(["rows"])
        other = IndexSource(tiny(8), rows=[5, 1]).sort_within_chunks(4)
        twin = graft(pipe, pipe.source_datapipe, other)
        assert all_rows(twin) == [5, 1]
        assert all_rows(pipe) == list(range(8))
        assert twin.request is pipe.request

    def test_a_pipe_in_use_is_not_disturbed(self) -> None:
        pipe = IndexSource(tiny(8)).sort_within_chunks(2).read_rows(["rows"])
        running = iter(pipe)
        first = next(running)
        graft(pipe, pipe.source_datapipe, IndexSource(tiny(8)).sort_within_chunks(2))
        assert first.rows.tolist() + all_rows(running) == list(range(8))

    def test_threads_copy_while_torch_walks_another_pipe(self) -> None:
        # Walking a pipe, torch sets a hook on the class of all pipes, in all threads, that makes them pickle and
        # copy as stubs: a loader that copies stages meanwhile must not be caught by it.
        loader = stream(tiny(12), 4, fields=["rows"], num_workers=1, prefetch=1)
        passes = []

        def run_the_loader() -> None:
            passes.append(thread.submit(all_rows, loader))
            wait(passes, timeout=30)

        with ThreadPoolExecutor(1) as thread:
            traverse_dps(Walked(run_the_loader))
        assert sorted(passes[0].result()) == list(range(12))


class Walked(IterDataPipe[Any]):
    """A pipe that does something in the middle of being walked."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.items = [Act(act)]  # a collection, which torch pickles to look for pipes in it

    def __iter__(self) -> Iterator[Any]:
        yield from ()


class Act:
    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act

    def __reduce__(self) -> tuple[type[int], tuple[()]]:
        self.act()
        return int, ()


class OddFirst(PlanStage):
    """A plan of one's own: odd rows, then even ones."""

    def __init__(self, source: IndexSource) -> None:
        self.source_datapipe = source
        n_obs = source.store.n_obs
        self.plan = InOrder(np.concatenate([np.arange(1, n_obs, 2), np.arange(0, n_obs, 2)]), 4)


class Strides(Plan):
    """A plan of one's own, shuffled: every so-and-so-many-th row, beginning anywhere, so that each comes once."""

    shuffled = True

    def __init__(self, n_rows: int, stride: int) -> None:
        assert np.gcd(n_rows, stride) == 1
        self.n_rows, self.stride = n_rows, stride

    def epoch(self, key: Key) -> StridesEpoch:
        return StridesEpoch(self, sum(key))


class StridesEpoch(NamedTuple):
    plan: Strides
    first: int

    def rows(self, start: int, stop: int) -> RowArray:
        places: RowArray = (self.first + np.arange(start, stop) * self.plan.stride) % self.plan.n_rows
        return places


class StridesFirst(RandomStage):
    def __init__(self, source: IndexSource, stride: int) -> None:
        super().__init__()
        self.source_datapipe, self.plan = source, Strides(source.store.n_obs, stride)


class TestAPlanOfOnesOwn:
    def loader(self, stride: int = 3, **options: Any) -> Loader:
        pipe = StridesFirst(IndexSource(tiny(40)), stride).sort_within_chunks(16).read_rows(["rows"]).batch_rows(4)
        return Loader(pipe, **options)

    def test_every_row_once_in_another_order_each_epoch(self) -> None:
        loader = self.loader(seed=3)
        first, second = all_rows(loader), all_rows(loader)
        assert sorted(first) == sorted(second) == list(range(40))
        assert first != second

    def test_by_itself_it_hands_on_blocks(self) -> None:
        stage = StridesFirst(IndexSource(tiny(40)), 3).set_seed(1)
        assert np.concatenate(list(stage)).tolist() == [(1 + 3 * place) % 40 for place in range(40)]

    def test_it_is_resumed(self) -> None:
        loader = self.loader(seed=3)
        whole = all_rows(loader)
        loader.set_epoch(0)
        seen = [row for batch in islice(loader, 3) for row in batch.rows.tolist()]
        other = self.loader(seed=3, num_workers=2)
        other.load_state_dict(loader.state_dict())
        assert seen + all_rows(other) == whole

    def test_ranks_share_it(self) -> None:
        ranks = [all_rows(self.loader(rank=rank, world_size=2)) for rank in (0, 1)]
        assert sorted(ranks[0] + ranks[1]) == list(range(40))

    def test_another_one_is_told_from_it(self) -> None:
        with pytest.raises(StateError, match="order was"):
            self.loader(stride=7).load_state_dict(self.loader().state_dict())


def test_what_is_no_plan_is_refused_with_what_to_do() -> None:
    class NoPlan:
        n_rows, shuffled = 40, False

    class First(PlanStage):
        def __init__(self, source: IndexSource) -> None:
            self.source_datapipe, self.plan = source, NoPlan()  # type: ignore[assignment]

    first = First(IndexSource(tiny(9)))
    for act in (lambda: list(first), lambda: first.sort_within_chunks(4)):
        with pytest.raises(PipelineError, match=r"the plan of First, which must be an annpipes\.Plan"):
            act()


class Keeps(Stage[Any]):
    """Hands on what comes, and has parameters of any name."""

    def __init__(self, source_datapipe: IterDataPipe[Any], **kept: Any) -> None:
        self.source_datapipe = source_datapipe
        vars(self).update(kept)

    def __iter__(self) -> Iterator[Any]:
        yield from self.source_datapipe


def test_names_of_attributes_decide_nothing() -> None:
    source = IndexSource(tiny(40), block_size=4).shuffle_blocks()
    read = source.sort_within_chunks(16).read_rows(["rows"])
    kept = dict.fromkeys(("labels", "batch_size", "chunk_size", "set_size", "pass_seed", "first_row", "plan"), 3)
    plain, other = Loader(read.batch_rows(8)), Loader(Keeps(read, **kept).batch_rows(8))
    assert all_rows(other) == all_rows(plain)
    assert other.state_dict() == plain.state_dict()
    behind = Keeps(read.batch_rows(8), **kept)
    running = iter(behind)
    next(running), next(running)
    assert behind.state_dict()["row"] == 16


def test_an_order_of_ones_own_goes_through_every_stage_and_the_loader() -> None:
    pipe = OddFirst(IndexSource(tiny(9))).sort_within_chunks(4).read_rows(["rows"]).batch_rows(2)
    expected = [1, 3, 5, 7, 0, 2, 4, 6, 8]
    assert all_rows(pipe) == all_rows(Loader(pipe)) == expected


def test_a_stage_in_the_middle_may_be_torchs() -> None:
    pipe = IndexSource(tiny(9)).sort_within_chunks(4).read_rows(["rows"]).batch_rows(2).map(first_row)
    assert [rows.tolist() for rows in pipe] == [rows.tolist() for rows in Loader(pipe)] == [[0], [2], [4], [6], [8]]


def first_row(batch: Batch) -> Any:
    return batch.rows[:1]


def test_a_mistake_inside_a_stage_is_told_as_it_is() -> None:
    # torch's __getattr__ swallows an AttributeError of a property and calls it an unknown method.
    pipe = whole_pipe()
    for name in ("plan", "no_such_thing"):
        with pytest.raises(AttributeError, match=name):
            getattr(pipe, name)
    assert not hasattr(pipe, "store")
