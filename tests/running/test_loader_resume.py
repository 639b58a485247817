"""A saved position continues exactly, or is refused with the difference named: promise 4."""

from __future__ import annotations

import random
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from passes import ids, loader_of, side_by_side
from running_once import PER_EPOCH, SHARED, take, through_json, through_torch, whole_run

from annpipes import Loader
from annpipes.errors import ParameterError, StateError


class TestPlace:
    @given(received=st.integers(0, 2 * PER_EPOCH), prefetch=st.sampled_from([0, 1, 4]), workers=st.integers(0, 3))
    def test_any_boundary(self, received: int, prefetch: int, workers: int) -> None:
        loader = loader_of(SHARED, prefetch=prefetch, num_workers=workers)
        for _ in range(received // PER_EPOCH):
            list(loader)
        take(loader, received % PER_EPOCH)
        state = through_json(loader.state_dict())
        assert (state["epoch"], state["batch"]) == divmod(received, PER_EPOCH)
        other = loader_of(SHARED, num_workers=(workers + 2) % 4)
        other.load_state_dict(state)
        goes_on = [batch for _ in range(2) for batch in ids(other)]
        assert goes_on == whole_run()[received : other.epoch * PER_EPOCH]

    def test_batches_received_count_and_not_those_read_ahead(self) -> None:
        loader = loader_of(SHARED, prefetch=4, num_workers=3)
        counted = [loader.state_dict()["batch"]]
        for _ in loader:
            counted.append(loader.state_dict()["batch"])
        assert counted == [*range(PER_EPOCH), 0]
        assert loader.state_dict()["epoch"] == 1

    def test_before_the_first_batch(self) -> None:
        fresh, asked = loader_of(SHARED), loader_of(SHARED)
        iter(asked)
        for loader in (fresh, asked):
            other = loader_of(SHARED)
            other.load_state_dict(loader.state_dict())
            assert ids(other) == whole_run(1)

    def test_an_epoch_begins_when_its_first_batch_is_asked_for(self) -> None:
        loader = loader_of(SHARED, num_workers=1)
        for _ in range(3):
            iter(loader)  # as a framework does that looks whether it can
        assert loader.epoch == 0
        late = iter(loader)
        loader.set_epoch(2)
        assert ids(late) == whole_run(3)[2 * PER_EPOCH :]
        assert loader.epoch == 3

    def test_at_the_end_of_an_epoch_the_next_one_follows(self) -> None:
        # Also for a trainer that counts its batches and never asks for one too many.
        for loader in (loader_of(SHARED), loader_of(SHARED)):
            assert len(take(loader, PER_EPOCH)) == PER_EPOCH
            other = loader_of(SHARED)
            other.load_state_dict(loader.state_dict())
            assert other.epoch == 1
            assert ids(other) == whole_run(2)[PER_EPOCH:]

    def test_a_pass_that_was_left_can_be_resumed_by_another_loader(self) -> None:
        loader = loader_of(SHARED, num_workers=2)
        for number, _ in enumerate(loader):
            if number == 4:
                break
        other = loader_of(SHARED)
        other.load_state_dict(loader.state_dict())
        assert ids(other) == whole_run(1)[5:]
        assert ids(loader) == whole_run(2)[PER_EPOCH:]  # the loader itself begins the next epoch

    def test_an_epoch_that_was_chosen_is_where_the_loader_stands(self) -> None:
        loader = loader_of(SHARED)
        take(loader, 4)
        loader.set_epoch(1)
        state = loader.state_dict()
        assert (state["epoch"], state["batch"]) == (1, 0)

    def test_the_epoch_that_is_being_resumed_may_be_set_again(self) -> None:
        # for epoch in range(start, epochs): loader.set_epoch(epoch) … as every trainer writes it
        loader = loader_of(SHARED)
        list(loader)
        take(loader, 6)
        resumed, seen = loader_of(SHARED), []
        resumed.load_state_dict(loader.state_dict())
        for epoch in range(resumed.epoch, 3):
            resumed.set_epoch(epoch)
            seen += ids(resumed)
        assert seen == whole_run(3)[PER_EPOCH + 6 :]

    def test_another_epoch_begins_at_its_first_batch(self) -> None:
        loader = loader_of(SHARED)
        take(loader, 6)
        resumed = loader_of(SHARED)
        resumed.load_state_dict(loader.state_dict())
        resumed.set_epoch(2)
        assert ids(resumed) == whole_run(3)[2 * PER_EPOCH :]

    def test_a_position_can_be_taken_up_twice(self) -> None:
        loader = loader_of(SHARED)
        take(loader, 7)
        state = loader.state_dict()
        for other in (loader_of(SHARED), loader_of(SHARED, num_workers=1), loader):
            for _ in range(2):
                other.load_state_dict(state)
                assert other.state_dict() == state
                assert ids(other) == whole_run(1)[7:]
        assert state["batch"] == 7  # what was saved has not moved

    def test_twelve_kills_in_a_row(self) -> None:
        chance, seen, state = random.Random(0), [], None
        for _ in range(12):
            loader = loader_of(SHARED, num_workers=chance.choice([0, 1, 2]), prefetch=chance.choice([0, 1, 4]))
            if state is not None:
                loader.load_state_dict(state)
            seen += take(loader, chance.randint(0, 9))
            state = chance.choice([through_json, through_torch])(loader.state_dict())
        assert len(seen) > 2 * PER_EPOCH
        assert seen == whole_run()[: len(seen)]

    @pytest.mark.parametrize("start", ["fork", "spawn"])
    def test_into_processes(self, start: str) -> None:
        loader = loader_of(SHARED, num_workers=2, method="process", multiprocessing_context="fork")
        seen = take(loader, 5)
        other = loader_of(SHARED, num_workers=1, method="process", multiprocessing_context=start)
        other.load_state_dict(loader.state_dict())
        assert seen + ids(other) == whole_run(1)


class TestRanks:
    def loaders(self, world_size: int) -> list[Loader]:
        """One for each rank, with global batches of 24."""
        options = {"tail": "repeat", "chunk_size": 48, "seed": 5, "world_size": world_size}
        return [loader_of(SHARED, 24 // world_size, rank=rank, **options) for rank in range(world_size)]

    def run(self, world_size: int, state: Any, count: int) -> tuple[list[list[int]], Any]:
        """Some global batches, and where all ranks say that they stand."""
        loaders = self.loaders(world_size)
        if state is not None:
            for loader in loaders:
                loader.load_state_dict(state)
        seen = list(islice(side_by_side(loaders), count))
        states = [loader.state_dict() for loader in loaders]
        assert all(other == states[0] for other in states)
        return seen, states[0]

    @pytest.mark.parametrize("counts", [(2, 4, 1, 3, 2), (4, 3, 8, 1, 2), (1, 6, 4, 2, 3)])
    def test_other_numbers_of_ranks_at_the_same_global_batch(self, counts: tuple[int, ...]) -> None:
        loaders = self.loaders(counts[0])
        uninterrupted = [batch for _ in range(3) for batch in side_by_side(loaders)]
        seen, state = [], None
        for world_size, count in zip(counts, (2, 3, 1, 4, 3), strict=True):
            batches, state = self.run(world_size, state, count)
            seen += batches
            state = through_json(state)
        assert len(seen) > 10
        assert seen == uninterrupted[: len(seen)]

    def test_another_global_batch_is_refused(self) -> None:
        _, state = self.run(2, None, 1)
        for batch_size, world_size in ((12, 1), (8, 2), (5, 5), (1, 1)):
            loader = loader_of(SHARED, batch_size, rank=0, world_size=world_size, tail="repeat", seed=5)
            with pytest.raises(StateError, match=f"global_batch was 24 and is {batch_size * world_size}"):
                loader.load_state_dict(state)

    def test_a_batch_smaller_than_the_number_of_ranks_before_is_refused(self) -> None:
        state = loader_of(SHARED, 4, rank=0, world_size=8).state_dict()
        with pytest.raises(StateError, match="global_batch was 32 and is 2"):
            loader_of(SHARED, 2).load_state_dict(state)

    def test_a_short_last_batch_cannot_be_shared_by_ranks(self) -> None:
        state = loader_of(SHARED, 8).state_dict()
        with pytest.raises(ParameterError, match="tail='keep'"):
            loader_of(SHARED, 4, rank=0, world_size=2).load_state_dict(state)
