"""A Loader as a node of torchdata: its epochs, and a state that is exact behind every other node."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
import torch
import torchdata.nodes as nodes
from passes import ids, loader_of
from running_once import PER_EPOCH, SHARED, take, through_json, whole_run

from annpipes.errors import StateError

ROW_SETS = {"left": range(30), "right": range(30, 101)}


@pytest.fixture(autouse=True)
def _garbage_is_collected_here() -> Iterator[None]:
    """torchdata's iterators wait for their threads when they are collected, which must not be by one of these."""
    gc.disable()
    yield
    gc.enable()
    gc.collect()


def node_of(**options: Any) -> nodes.BaseNode[Any]:
    return loader_of(SHARED, **options).to_node()


def as_it_is(node: Any) -> Any:
    return node


def prefetched(node: Any) -> Any:
    return nodes.Prefetcher(node, prefetch_factor=3)


def rarely_saved(node: Any) -> Any:
    return nodes.Prefetcher(node, prefetch_factor=2, snapshot_frequency=4)


def mapped(node: Any) -> Any:
    return nodes.Mapper(node, dict)


def mapped_and_prefetched(node: Any) -> Any:
    return prefetched(mapped(node))


def pinned(node: Any) -> Any:
    if not torch.cuda.is_available():
        pytest.skip("no GPU, which PinMemory asks for")
    return nodes.PinMemory(node)


@pytest.mark.parametrize("behind", [as_it_is, prefetched, rarely_saved, mapped, mapped_and_prefetched, pinned])
class TestBehind:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_epoch_after_epoch(self, behind: Callable[[Any], Any], workers: int) -> None:
        loader = nodes.Loader(behind(node_of(num_workers=workers)))
        assert [batch for _ in range(3) for batch in ids(loader)] == whole_run(3)

    @pytest.mark.parametrize("received", [0, 1, 6, PER_EPOCH - 1, PER_EPOCH, PER_EPOCH + 4, 2 * PER_EPOCH])
    def test_from_any_state(self, behind: Callable[[Any], Any], received: int) -> None:
        first = nodes.Loader(behind(node_of()))
        for _ in range(received // PER_EPOCH):
            list(first)
        if received % PER_EPOCH:
            list(islice(iter(first), received % PER_EPOCH))
        state = through_json(first.state_dict())
        second = nodes.Loader(behind(node_of(num_workers=2)))
        second.load_state_dict(state)
        seen: list[list[int]] = []
        while len(seen) < 3 * PER_EPOCH - received:
            seen += ids(second)
        assert seen == whole_run(3)[received:]

    def test_a_pass_that_is_begun_anew_is_the_next_epoch(self, behind: Callable[[Any], Any]) -> None:
        loader = nodes.Loader(behind(node_of()))
        list(islice(iter(loader), 5))
        assert ids(loader) == whole_run(2)[PER_EPOCH:]

    def test_and_so_it_is_after_a_state_was_loaded(self, behind: Callable[[Any], Any]) -> None:
        first = nodes.Loader(behind(node_of()))
        list(islice(iter(first), 5))
        second = nodes.Loader(behind(node_of()))
        second.load_state_dict(first.state_dict())
        iter(second)
        assert ids(second) == ids(first) == whole_run(2)[PER_EPOCH:]

    def test_five_interruptions_lose_and_repeat_nothing(self, behind: Callable[[Any], Any]) -> None:
        seen, state = [], None
        for count in (3, 1, 4, 0, PER_EPOCH - 8):
            loader = nodes.Loader(behind(node_of()))
            if state is not None:
                loader.load_state_dict(state)
            seen += ids(islice(iter(loader), count))
            state = loader.state_dict()
        assert seen == whole_run(1)


def resumed(state: Any) -> list[list[int]]:
    """What comes after a state, to the end of that epoch."""
    node = node_of()
    node.reset(state)
    return ids(node)


class TestResets:
    """The node by itself: others reset it when and as often as they like."""

    def test_each_begins_the_next_epoch_when_a_batch_is_asked_for(self) -> None:
        node = node_of()
        for epoch in range(3):
            for _ in range(2):
                node.reset()
                assert resumed(node.state_dict()) == whole_run(3)[epoch * PER_EPOCH : (epoch + 1) * PER_EPOCH]
            assert ids(islice(node, 4)) == whole_run(3)[epoch * PER_EPOCH :][:4]
            assert resumed(node.state_dict()) == whole_run(3)[epoch * PER_EPOCH : (epoch + 1) * PER_EPOCH][4:]

    def test_behind_the_last_batch_the_end_is_still_to_come(self) -> None:
        node = node_of()
        assert len(ids(islice(node, PER_EPOCH))) == PER_EPOCH
        for _ in range(2):
            assert resumed(node.state_dict()) == []
            assert next(node, None) is None
        node.reset()
        assert resumed(node.state_dict()) == whole_run(2)[PER_EPOCH:]

    @pytest.mark.parametrize("received", [1, 5, PER_EPOCH])
    def test_a_place_that_was_left_at_once_is_like_one_where_a_pass_was_left(self, received: int) -> None:
        node, other = node_of(), node_of()
        list(islice(node, received))
        other.reset(node.state_dict())
        for one in (node, other):
            one.reset()
        assert ids(node) == ids(other) == whole_run(2)[PER_EPOCH:]


CRITERIA = ["CYCLE_UNTIL_ALL_DATASETS_EXHAUSTED", "ALL_DATASETS_EXHAUSTED", "FIRST_DATASET_EXHAUSTED"]


@pytest.mark.parametrize("criterion", CRITERIA)
class TestMixed:
    """Several of them drawn from by torchdata, which says itself what a run without interruption is."""

    def mixed(self, criterion: str) -> nodes.Loader[Any]:
        sources = {name: node_of(rows=rows) for name, rows in ROW_SETS.items()}
        weights = {"left": 0.6, "right": 0.4}
        sampler = nodes.MultiNodeWeightedSampler(sources, weights, getattr(nodes.StopCriteria, criterion), seed=3)
        return nodes.Loader(nodes.Prefetcher(sampler, prefetch_factor=2))

    def test_from_any_state(self, criterion: str) -> None:
        whole = self.mixed(criterion)
        first, second, third = ids(whole), ids(whole), ids(whole)
        assert first != second
        for received in range(len(first) + 1):
            left = self.mixed(criterion)
            list(islice(iter(left), received))
            resumed = self.mixed(criterion)
            resumed.load_state_dict(left.state_dict())
            expected = first[received:] or second
            assert ids(resumed) == expected, received
            assert ids(resumed) == (second if received < len(first) else third), received

    def test_it_draws_from_all(self, criterion: str) -> None:
        seen = {row for batch in ids(self.mixed(criterion)) for row in batch}
        assert all(seen & set(rows) for rows in ROW_SETS.values())
        if criterion != "FIRST_DATASET_EXHAUSTED":
            assert seen == set(range(101))


def test_the_loader_of_a_node_begins_where_it_stands() -> None:
    loader = loader_of(SHARED)
    loader.load_state_dict({**loader.state_dict(), "epoch": 1, "batch": 4})
    assert ids(nodes.Loader(loader.to_node())) == whole_run(2)[PER_EPOCH + 4 :]


def test_a_state_of_others_is_refused() -> None:
    first, other = nodes.Loader(node_of()), nodes.Loader(node_of(seed=5))
    list(islice(iter(first), 2))
    other.load_state_dict(first.state_dict())
    with pytest.raises(StateError, match="seed was 0 and is 5"):
        list(other)


class TestTrainersThatCount:
    """What `to_node` and Lightning build upon: a position that the trainer says."""

    @pytest.mark.parametrize(("received", "unused", "place"), [(5, 1, 4), (5, 0, 5), (1, 1, 0), (PER_EPOCH, 1, 12)])
    def test_batches_that_were_not_used_come_again(self, received: int, unused: int, place: int) -> None:
        loader, other = loader_of(SHARED), loader_of(SHARED)
        take(loader, received)
        other.load_state_dict(loader.state_dict(unused=unused))
        assert ids(other) == whole_run(1)[place:]

    def test_an_epoch_that_is_over_for_the_trainer(self) -> None:
        loader, other = loader_of(SHARED), loader_of(SHARED)
        take(loader, 5)
        other.load_state_dict(loader.state_dict(ended=True))
        assert (other.epoch, ids(other)) == (1, whole_run(2)[PER_EPOCH:])

    def test_an_epoch_that_has_not_begun_does_not_end(self) -> None:
        loader = loader_of(SHARED)
        assert loader.state_dict(ended=True) == loader.state_dict()
        take(loader, 1)
        assert loader.state_dict(ended=True, unused=1)["epoch"] == 0

    def test_no_more_come_again_than_came(self) -> None:
        loader = loader_of(SHARED)
        take(loader, 2)
        with pytest.raises(ValueError, match="unused must be at most 2"):
            loader.state_dict(unused=3)
        with pytest.raises(ValueError, match="unused"):
            loader.state_dict(unused=-1)

    def test_the_same_loader_for_other_ranks(self) -> None:
        loader = loader_of(SHARED, seed=4, num_workers=2)
        take(loader, 3)
        for rank in range(2):
            by_hand = loader_of(SHARED, seed=4, rank=rank, world_size=2)
            assert ids(loader.with_ranks(rank, 2)) == ids(by_hand)
        assert repr(loader.with_ranks()) == repr(loader)
        assert loader.with_ranks().epoch == 0
        assert loader.epoch == 1  # it is another one
