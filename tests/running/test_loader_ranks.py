"""Ranks get equally many batches of one global order: promise 5, with ranks given by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import tiny
from hypothesis import given
from hypothesis import strategies as st
from passes import ids, loader_of, side_by_side
from torch import distributed

from annpipes import Loader
from annpipes.errors import ParameterError, ParameterTypeError

N = 101
SHARED = tiny(N)


def ranks_of(world_size: int, batch_size: int = 8, data: Any = SHARED, **options: Any) -> list[Loader]:
    return [loader_of(data, batch_size, rank=rank, world_size=world_size, **options) for rank in range(world_size)]


class TestOnce:
    @given(data=st.data())
    def test_every_row_once_but_for_the_tail(self, data: Any) -> None:
        n, world_size = data.draw(st.integers(0, N)), data.draw(st.integers(1, 8))
        tail = data.draw(st.sampled_from(["drop", "fill", "repeat", *(["keep"] if world_size == 1 else [])]))
        sizes = {
            "batch_size": data.draw(st.integers(1, 64)),
            "chunk_size": data.draw(st.integers(1, 200)),
            "block_size": data.draw(st.integers(1, 70)),
            "prefetch": data.draw(st.integers(0, 1)),
        }
        loaders = ranks_of(world_size, **sizes, rows=range(n), tail=tail)
        for epoch in range(2):
            repeated = Counter(loaders[-1].tail_rows(epoch).tolist())
            assert loaders[-1].tail_rows().tolist() == loaders[-1].tail_rows(epoch).tolist()
            seen = [ids(loader) for loader in loaders]
            assert {len(batches) for batches in seen} == {len(loader) for loader in loaders}
            counted = Counter(row for batches in seen for batch in batches for row in batch)
            if tail == "drop":
                counted += repeated
            else:
                counted -= repeated
            assert counted == Counter(range(n))
            full = [batch for batches in seen for batch in batches[: None if tail != "keep" else -1]]
            assert {len(batch) for batch in full} <= {sizes["batch_size"]}

    @pytest.mark.parametrize(
        ("tail", "world_size", "length"),
        [("keep", 1, 13), ("drop", 1, 12), ("fill", 1, 13), ("repeat", 1, 13), ("drop", 3, 4), ("repeat", 3, 5)],
    )
    def test_the_length_is_exact(self, tail: str, world_size: int, length: int) -> None:
        for loader in ranks_of(world_size, tail=tail):
            assert len(loader) == len(list(loader)) == length

    def test_values_follow_their_rows(self) -> None:
        for loader in ranks_of(3, num_workers=2):
            assert all(torch.equal(batch["X"][:, 0], 100.0 * batch["rows"]) for batch in loader)

    def test_rows_that_are_chosen_twice_come_twice(self) -> None:
        rows = [5, 5, 9, 20, 20, 20, 3, 7]
        seen = Counter(row for batch in side_by_side(ranks_of(2, 2, rows=rows)) for row in batch)
        assert seen == Counter(rows)


class TestTail:
    @pytest.mark.parametrize("tail", ["drop", "fill", "repeat"])
    def test_what_is_dropped_or_repeated_changes_with_the_epoch(self, tail: str) -> None:
        loader = ranks_of(2, tail=tail)[0]
        assert len({tuple(loader.tail_rows(epoch).tolist()) for epoch in range(30)}) > 10

    @pytest.mark.parametrize("n", [30, 64, 101])
    def test_blocks_of_any_size_leave_no_row_out_for_ever(self, n: int) -> None:
        loader = ranks_of(2, rows=range(n), block_size=64, tail="drop")[0]
        never_trained = set(range(n))
        for epoch in range(60):
            never_trained &= set(loader.tail_rows(epoch).tolist())
        assert not never_trained

    def test_it_is_reported_for_the_next_epoch(self) -> None:
        loader = ranks_of(2, tail="drop")[0]
        for epoch in range(3):
            assert loader.tail_rows().tolist() == loader.tail_rows(epoch).tolist()
            list(loader)

    def test_rows_are_reported_as_the_source_counts_them(self) -> None:
        chosen = np.arange(N)[::-1][:50]
        (loader,) = ranks_of(1, 16, rows=chosen, tail="drop")
        left_out = set(chosen.tolist()) - {row for batch in ids(loader) for row in batch}
        assert sorted(loader.tail_rows(0).tolist()) == sorted(left_out)
        assert len(left_out) == 2

    def test_one_rank_keeps_a_short_batch_and_several_repeat_the_first_rows(self) -> None:
        assert [len(batch) for batch in ids(loader_of(SHARED, 40))] == [40, 40, 21]
        assert [len(batch) for batch in side_by_side(ranks_of(2, 20))] == [40, 40, 40]
        assert [len(batch) for batch in side_by_side(ranks_of(2, 20, drop_last=True))] == [40, 40]
        assert [len(batch) for batch in ids(loader_of(SHARED, 40, drop_last=True))] == [40, 40]

    def test_a_short_batch_is_not_both_kept_and_left_out(self) -> None:
        with pytest.raises(ParameterError, match=r"tail='keep'.* drop_last"):
            loader_of(SHARED, 40, drop_last=True, tail="keep")


class TestOrder:
    @pytest.mark.parametrize("options", [{"num_workers": 2}, {"prefetch": 4}, {"prefetch": 0}])
    def test_global_batches_are_the_same_however_they_are_run(self, options: dict[str, Any]) -> None:
        expected = ranks_of(3, 4)
        other = ranks_of(3, 4, **options)
        for _ in range(3):
            assert list(side_by_side(other)) == list(side_by_side(expected))

    def test_ranks_have_different_rows_at_any_time(self) -> None:
        for batch in side_by_side(ranks_of(4, 4, tail="drop")):
            assert len(set(batch)) == 16

    def test_every_row_comes_to_every_rank(self) -> None:
        # Shuffled first and then striped: no rank keeps a slice of the file to itself.
        met: set[tuple[int, int]] = set()
        for rank, loader in enumerate(ranks_of(2)):
            for _ in range(20):
                met |= {(rank, row) for batch in ids(loader) for row in batch}
        assert len(met) == 2 * N

    def test_one_rank_that_is_named_is_like_none(self) -> None:
        assert ids(loader_of(SHARED, rank=0, world_size=1)) == ids(loader_of(SHARED))


class TestParameters:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"rank": 1}, ParameterError, "rank and world_size must be given together, got rank=1 and world_size=None"),
            ({"world_size": 2}, ParameterError, "rank and world_size must be given together"),
            ({"rank": 2, "world_size": 2}, ParameterError, "rank must lie in 0 … 1, got 2"),
            ({"rank": -1, "world_size": 2}, ParameterError, "rank must be at least 0, got -1"),
            ({"rank": 0, "world_size": 0}, ParameterError, "world_size must be at least 1, got 0"),
            ({"rank": "0", "world_size": 2}, ParameterTypeError, "rank must be an integer, got '0'"),
            ({"tail": "wrap"}, ParameterError, "tail must be one of keep, drop, fill, repeat, got 'wrap'"),
            ({"tail": "keep", "rank": 0, "world_size": 2}, ParameterError, "tail='keep' makes a short last batch"),
        ],
    )
    def test_a_wrong_argument_is_named(self, options: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            loader_of(SHARED, **options)


class TestDetected:
    def test_torch_distributed_is_asked_when_nothing_is_given(self, tmp_path: Path) -> None:
        distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
        try:
            detected, given_by_hand = loader_of(SHARED), loader_of(SHARED, rank=1, world_size=2)
            assert ids(detected) == ids(loader_of(SHARED, rank=0, world_size=1))  # having agreed with itself
            assert len(list(given_by_hand)) == len(given_by_hand) == 7  # without asking others
        finally:
            distributed.destroy_process_group()
