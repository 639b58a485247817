from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annpipes.plans.chunks import ChunkPlan
from annpipes.plans.order import BlockShuffled, InOrder

sizes = st.integers(1, 40)


@st.composite
def row_sets(draw: Any) -> Any:
    """Rows of a source: all of them, a range out of the middle, or any rows with duplicates."""
    n = draw(st.integers(0, 300))
    first = draw(st.integers(0, 1000))
    drawn = np.random.default_rng(n).integers(0, 500, n)
    return draw(st.sampled_from([range(n), range(first, first + n), drawn]))


def whole(row_set: Any) -> list[int]:
    return np.asarray(row_set, np.int64).tolist()


def full_order(epoch: Any, n: int) -> np.ndarray:
    return epoch.rows(0, n)


class TestInOrder:
    @given(row_set=row_sets(), block_size=sizes)
    def test_blocks_put_together_are_the_rows_as_they_stand(self, row_set: Any, block_size: int) -> None:
        plan = InOrder(row_set, block_size)
        blocks = [block.tolist() for block in plan.blocks((0,))]
        assert list(chain(*blocks)) == whole(row_set)
        assert len(blocks) == plan.n_blocks
        assert all(len(block) == block_size for block in blocks[:-1])
        assert plan.n_rows == len(row_set)

    @given(row_set=row_sets(), block_size=sizes, data=st.data())
    def test_any_span_is_a_slice_of_the_whole(self, row_set: Any, block_size: int, data: Any) -> None:
        start = data.draw(st.integers(0, len(row_set)))
        stop = data.draw(st.integers(start, len(row_set)))
        assert InOrder(row_set, block_size).epoch((0,)).rows(start, stop).tolist() == whole(row_set)[start:stop]


class TestBlockShuffled:
    @given(row_set=row_sets(), block_size=sizes, seed=st.integers(0, 2**63))
    def test_every_row_once_and_blocks_stay_together(self, row_set: Any, block_size: int, seed: int) -> None:
        source = InOrder(range(len(row_set)), block_size)  # positions in row_set, which may hold a row twice
        blocks = [block.tolist() for block in BlockShuffled(source).blocks((seed,))]
        assert sorted(blocks) == [block.tolist() for block in source.blocks(())]
        plan = BlockShuffled(InOrder(row_set, block_size))
        rows = [whole(row_set)[position] for block in blocks for position in block]
        assert full_order(plan.epoch((seed,)), len(row_set)).tolist() == rows
        assert np.concatenate([[], *plan.blocks((seed,))]).tolist() == rows

    @given(row_set=row_sets(), block_size=sizes, seed=st.integers(0, 9), data=st.data())
    def test_any_span_is_a_slice_of_the_whole(self, row_set: Any, block_size: int, seed: int, data: Any) -> None:
        epoch = BlockShuffled(InOrder(row_set, block_size)).epoch((seed, 1))
        start = data.draw(st.integers(0, len(row_set)))
        stop = data.draw(st.integers(start, len(row_set)))
        span = epoch.rows(start, stop)
        assert span.dtype == np.int64
        assert span.tolist() == full_order(epoch, len(row_set))[start:stop].tolist()

    @pytest.mark.parametrize("block_size", [1, 3, 7, 10])
    def test_the_short_block_comes_anywhere(self, block_size: int) -> None:
        plan = BlockShuffled(InOrder(range(50), block_size))
        places = {full_order(plan.epoch((0, epoch)), 50).tolist().index(49) for epoch in range(200)}
        assert len(places) > 0.8 * plan.source.n_blocks

    def test_differs_between_epochs_and_seeds(self) -> None:
        plan = BlockShuffled(InOrder(range(60), 3))
        orders = {tuple(full_order(plan.epoch((seed, epoch)), 60)) for seed in range(5) for epoch in range(20)}
        assert len(orders) == 100

    def test_a_huge_plan_costs_nothing_but_what_is_asked_for(self) -> None:
        n = 10**12 + 7
        epoch = BlockShuffled(InOrder(range(n), 64)).epoch((0, 0))
        for start in (0, n // 2, n - 200):
            rows = epoch.rows(start, start + 200)
            assert len(set(rows.tolist())) == 200
            assert rows.min() >= 0
            assert rows.max() < n
            assert np.count_nonzero(np.diff(rows) != 1) <= 4


class TestChunkPlan:
    @given(row_set=row_sets(), block_size=sizes, chunk_size=st.integers(1, 90), seed=st.integers(0, 9))
    def test_a_chunk_holds_its_slice_of_the_order(
        self, row_set: Any, block_size: int, chunk_size: int, seed: int
    ) -> None:
        source = BlockShuffled(InOrder(row_set, block_size))
        plan = ChunkPlan(source, chunk_size)
        order = full_order(source.epoch((seed,)), len(row_set))
        assert plan.n_chunks == -(-len(row_set) // chunk_size)
        for number in reversed(range(plan.n_chunks)):  # any chunk by itself, in any order
            chunk = plan.epoch((seed,)).chunk(number)
            part = sorted(order[number * chunk_size : (number + 1) * chunk_size].tolist())
            assert chunk.rows.tolist() == sorted(chunk.drawn.tolist()) == part

    @given(row_set=row_sets(), chunk_size=st.integers(1, 90))
    def test_unshuffled_chunks_hand_rows_on_as_they_stand(self, row_set: Any, chunk_size: int) -> None:
        plan = ChunkPlan(InOrder(row_set, 4), chunk_size)
        drawn = [row for i in range(plan.n_chunks) for row in plan.epoch((0,)).chunk(i).drawn.tolist()]
        assert drawn == whole(row_set)

    def test_a_batch_is_not_made_of_whole_blocks(self) -> None:
        plan = ChunkPlan(BlockShuffled(InOrder(range(4096), 64)), 1024)
        for number in range(plan.n_chunks):
            batches = plan.epoch((0, 0)).chunk(number).drawn.reshape(-1, 64)
            blocks = [len(set((batch // 64).tolist())) for batch in batches]
            assert min(blocks) >= 6  # of the 16 in a chunk; 64 random rows miss more than ten of them never

    def test_chunks_of_an_epoch_are_permuted_differently(self) -> None:
        plan = ChunkPlan(BlockShuffled(InOrder(range(400), 100)), 100)
        orders = {
            tuple(plan.epoch((0, epoch)).chunk(number).order.tolist()) for epoch in range(5) for number in range(4)
        }
        assert len(orders) == 20

    def test_two_rows_meet_in_one_batch_as_often_as_others(self) -> None:
        # A block and chunk of everything: each pair shares one of the four batches in (5-1)/(20-1) of the epochs.
        plan = ChunkPlan(BlockShuffled(InOrder(range(20), 20)), 20)
        met = np.zeros((20, 20))
        for epoch in range(2000):
            for batch in plan.epoch((0, epoch)).chunk(0).drawn.reshape(4, 5):
                met[np.ix_(batch, batch)] += 1
        pairs = met[np.triu_indices(20, 1)] / 2000
        assert abs(pairs - 4 / 19).max() < 0.045  # five standard deviations
