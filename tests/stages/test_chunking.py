from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import tiny
from contracts import StageContract, all_rows
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data.graph_settings import apply_sharding

from annpipes import ChunkSorter, IndexSource
from annpipes.errors import ParameterError, ParameterTypeError, PipelineError


class TestChunkSorter(StageContract):
    shuffled = True

    def chained(self, path: Path) -> Any:
        return IndexSource(path, block_size=3).shuffle_blocks().sort_within_chunks(7)

    def constructed(self, path: Path) -> Any:
        return ChunkSorter(self.chained(path).source_datapipe, 7)


class TestChunkSorterUnshuffled(StageContract):
    def chained(self, path: Path) -> Any:
        return IndexSource(path).sort_within_chunks()

    def constructed(self, path: Path) -> Any:
        return ChunkSorter(IndexSource(path))


ROWS = [9, 2, 5, 2, 7, 0, 1]


def test_rows_ascend_for_the_disk_and_are_handed_on_as_drawn() -> None:
    pipe = IndexSource(tiny(10), rows=ROWS).sort_within_chunks(4)
    chunks = list(pipe)
    assert [chunk.rows.tolist() for chunk in chunks] == [[2, 2, 5, 9], [0, 1, 7]]
    assert [chunk.drawn.tolist() for chunk in chunks] == [ROWS[:4], ROWS[4:]]
    assert len(pipe) == 2


@pytest.mark.filterwarnings("ignore:.*chooses no row")
@given(
    n=st.integers(0, 40),
    block_size=st.integers(1, 9),
    chunk_size=st.integers(1, 50),
    instances=st.integers(1, 5),
    workers=st.integers(1, 3),
)
def test_whole_chunks_are_dealt_to_ranks_and_workers(
    n: int, block_size: int, chunk_size: int, instances: int, workers: int
) -> None:
    source = IndexSource(SHARED, rows=range(n), block_size=block_size).shuffle_blocks()
    whole = [chunk.drawn.tolist() for chunk in dealt(source, chunk_size, 1, 0, 1, 0)]
    hands = [
        [chunk.drawn.tolist() for chunk in dealt(source, chunk_size, instances, rank, workers, worker)]
        for rank in range(instances)
        for worker in range(workers)
    ]
    assert sorted(chunk for hand in hands for chunk in hand) == sorted(whole)
    assert sorted(row for chunk in whole for row in chunk) == list(range(n))
    assert max(map(len, hands)) - min(map(len, hands)) <= 1


SHARED = tiny(40)


def dealt(source: Any, chunk_size: int, ranks: int, rank: int, workers: int, worker: int) -> Any:
    """The chunks of one worker of one rank, dealt as torch deals: ranks in one group, workers in another."""
    from torch.utils.data.datapipes.iter.sharding import SHARDING_PRIORITIES

    pipe = source.set_seed(3).sort_within_chunks(chunk_size)
    apply_sharding(pipe, ranks, rank, SHARDING_PRIORITIES.DISTRIBUTED)
    apply_sharding(pipe, workers, worker, SHARDING_PRIORITIES.MULTIPROCESSING)
    return list(pipe)


def test_a_hand_dealt_again_replaces_the_one_before() -> None:
    pipe = IndexSource(tiny(10)).sort_within_chunks(2)
    for instances, instance, expected in [(2, 0, [0, 1, 4, 5, 8, 9]), (2, 1, [2, 3, 6, 7]), (1, 0, list(range(10)))]:
        apply_sharding(pipe, instances, instance)
        assert all_rows(pipe) == expected


@pytest.mark.parametrize(
    ("chunk_size", "error", "message"),
    [
        (0, ParameterError, "chunk_size must be at least 1, got 0"),
        ("16", ParameterTypeError, "chunk_size must be an integer, got '16'"),
    ],
)
def test_a_wrong_chunk_size_is_named(chunk_size: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        IndexSource(tiny(3)).sort_within_chunks(chunk_size)


def test_it_follows_a_stage_with_a_plan() -> None:
    with pytest.raises(PipelineError, match=r"sort_within_chunks must follow IndexSource or a stage .*, got \[1, 2\]"):
        ChunkSorter([1, 2], 2)


def test_a_pipe_holds_no_rows_that_torch_would_pickle_each_epoch() -> None:
    import pickle

    from torch.utils.data.graph import traverse_dps

    pipe = IndexSource(SHARED, rows=np.arange(40).repeat(1000)).shuffle_blocks().sort_within_chunks(16)
    seen: list[int] = []

    class Spy(pickle.Pickler):
        def persistent_id(self, value: Any) -> None:
            if isinstance(value, np.ndarray):
                seen.append(value.size)

    original, pickle.Pickler = pickle.Pickler, Spy
    try:
        traverse_dps(pipe)
    finally:
        pickle.Pickler = original
    assert sum(seen) < 1000
