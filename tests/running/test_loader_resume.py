"""A saved position continues exactly, or is refused with the difference named: promise 4."""

from __future__ import annotations

import io
import json
import random
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch
from builders import tiny, write
from hypothesis import given, settings
from hypothesis import strategies as st
from passes import ids, loader_of, side_by_side

from annpipes import Loader
from annpipes.errors import ParameterError, StateError

N = 101
PER_EPOCH = 13
SHARED = tiny(N)


@cache
def whole_run(epochs: int = 4) -> list[list[int]]:
    """Every batch of some epochs, uninterrupted."""
    loader = loader_of(SHARED)
    return [batch for _ in range(epochs) for batch in ids(loader)]


def take(loader: Loader, count: int) -> list[list[int]]:
    """The next batches of one pass, at most ``count``; then the pass is given up."""
    running = iter(loader)
    seen = ids(islice(running, count))
    running.close()
    return seen


def through_json(state: Any) -> Any:
    return json.loads(json.dumps(state))


def through_torch(state: Any) -> Any:
    """Saved within a model's checkpoint, and loaded as torch loads what it does not trust."""
    checkpoint = io.BytesIO()
    torch.save({"model": torch.nn.Linear(2, 1).state_dict(), "loader": state}, checkpoint)
    checkpoint.seek(0)
    return torch.load(checkpoint, weights_only=True)["loader"]


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


class TestRefusals:
    CHANGES = (
        ({"data": tiny(N - 1)}, "n_obs was 101 and is 100"),
        ({"data": tiny(N, n_vars=5)}, "n_vars was 3 and is 5"),
        ({"rows": range(100)}, "rows was '0:101' and is '0:100'"),
        ({"rows": np.arange(N)[::-1]}, "rows was '0:101' and is '101 rows, crc "),
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"block_size": 5}, "block_size was 4 and is 5"),
        ({"chunk_size": 32}, "chunk_size was 24 and is 32"),
        ({"batch_size": 4}, "global_batch was 8 and is 4"),
    )

    @pytest.mark.parametrize(("change", "message"), CHANGES)
    def test_a_difference_is_named(self, change: dict[str, Any], message: str) -> None:
        loader = loader_of(SHARED)
        take(loader, 3)
        other = loader_of(**{"data": SHARED, **change})
        with pytest.raises(StateError, match="the state belongs to other data or parameters") as refusal:
            other.load_state_dict(loader.state_dict())
        assert message in str(refusal.value)
        assert other.epoch == 0  # a refused state changes nothing
        assert ids(other)[0] == ids(loader_of(**{"data": SHARED, **change}))[0]

    def test_every_difference_is_named(self) -> None:
        with pytest.raises(StateError, match=r"block_size was 4 and is 2; .*seed was 0 and is 9"):
            loader_of(SHARED, seed=9, block_size=2).load_state_dict(loader_of(SHARED).state_dict())

    def test_cells_in_another_order_are_other_data(self) -> None:
        with pytest.raises(StateError, match=r"obs_names was 'crc \w+' and is 'crc "):
            loader_of(SHARED[::-1]).load_state_dict(loader_of(SHARED).state_dict())

    def test_a_file_that_was_moved_is_the_same_and_one_with_more_in_it_is_not(self, tmp_path: Path) -> None:
        path = write(SHARED, tmp_path / "cells.h5ad")
        state = loader_of(path).state_dict()
        moved = path.rename(tmp_path / "moved.h5ad")
        loader_of(moved).load_state_dict(state)
        more = anndata.AnnData(SHARED.X, obs=SHARED.obs.assign(donor="d"), var=SHARED.var)
        with pytest.raises(StateError, match="file_bytes was"):
            loader_of(write(more, tmp_path / "more.h5ad")).load_state_dict(state)

    def test_an_explicit_tail_is_not_overruled_by_a_state(self) -> None:
        state = loader_of(SHARED, tail="drop").state_dict()
        with pytest.raises(StateError, match="tail was 'drop' and is 'repeat'"):
            loader_of(SHARED, tail="repeat").load_state_dict(state)

    def test_a_tail_that_follows_from_the_number_of_ranks_stays_what_it_was(self) -> None:
        many = [loader_of(SHARED, 8, rank=rank, world_size=2) for rank in (0, 1)]
        one = loader_of(SHARED, 16)
        one.load_state_dict(many[0].state_dict())
        assert ids(one) == list(side_by_side(many))
        assert one.tail_rows(0).tolist() == many[1].tail_rows(0).tolist()

    @pytest.mark.parametrize("state", [{}, {"version": 1}, {"version": 99, "epoch": 0}, {"epoch": 1, "batch": 2}])
    def test_what_is_no_state_is_refused(self, state: dict[str, Any]) -> None:
        with pytest.raises(StateError):
            loader_of(SHARED).load_state_dict(state)

    SPOILT = (
        ("epoch", [-1, 1.0, "0", None, True, 2**70]),
        ("batch", [-1, 0.5, [], PER_EPOCH + 1, 2**70]),
        ("version", [None, 2, "3", True]),
        ("belongs_to", [None, [], 7, "", {1: 2}]),
    )

    @pytest.mark.parametrize(("part", "value"), [(part, value) for part, values in SPOILT for value in values])
    def test_a_spoilt_part_is_refused(self, part: str, value: Any) -> None:
        loader = loader_of(SHARED)
        with pytest.raises(StateError):
            loader.load_state_dict({**loader.state_dict(), part: value})
        assert ids(loader) == whole_run(1)

    @pytest.mark.parametrize("value", [None, [], {}, 0, -1, 3, 8.0, True, "8", 2**70, float("nan")])
    def test_any_spoilt_value_that_it_belongs_to_is_refused(self, value: Any) -> None:
        loader = loader_of(SHARED)
        state = loader.state_dict()
        for name, right in state["belongs_to"].items():
            if right is value or (right == value and type(right) is type(value)):
                continue
            with pytest.raises(StateError):
                loader.load_state_dict({**state, "belongs_to": {**state["belongs_to"], name: value}})
        assert loader.state_dict() == state

    @pytest.mark.parametrize("state", [None, 7, "state", [("epoch", 0)], b""])
    def test_what_is_no_dict_is_refused(self, state: Any) -> None:
        with pytest.raises(StateError, match="a state is a dict"):
            loader_of(SHARED).load_state_dict(state)


class TestSize:
    @pytest.mark.parametrize("batch_size", [1, 100_000])
    def test_a_million_rows_make_no_larger_state(self, batch_size: int) -> None:
        # Taken after a batch: what is counted must be a number and no list of rows.
        rows = np.random.default_rng(0).integers(0, N, 10**6)
        loader = loader_of(SHARED, batch_size, rows=rows, chunk_size=100_000, block_size=1000, seed=2**63)
        take(loader, 2)
        state = loader.state_dict()
        assert len(json.dumps(state)) < 1000
        assert through_json(state) == through_torch(state) == state

    def test_nor_do_long_names(self, tmp_path: Path) -> None:
        adata = tiny(N)
        adata.obs["n" * 300] = 1
        adata.layers["l" * 300] = adata.X
        adata.obs_names = [f"{i:0200}" for i in range(N)]
        path = write(adata, tmp_path / f"{'f' * 200}.h5ad")
        for data in (path, adata):
            loader = loader_of(data, fields=["rows", f"layers/{'l' * 300}", f"obs/{'n' * 300}"])
            take(loader, 2)
            assert len(json.dumps(loader.state_dict())) < 1000

    @given(epoch=st.integers(0, 2**40), batch=st.integers(0, PER_EPOCH - 1))
    @settings(max_examples=20)
    def test_a_late_position_costs_no_replay(self, epoch: int, batch: int) -> None:
        loader = loader_of(SHARED)
        loader.set_epoch(epoch)
        expected = ids(loader)
        state = {**loader.state_dict(), "epoch": epoch, "batch": batch}
        loader.load_state_dict(state)
        assert ids(loader) == expected[batch:]
