"""Rows come as often as their weights and classes say, and sources in proportion."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from builders import tiny, write
from contracts import StageContract, all_rows
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare
from torch.utils.data import DataLoader

import annpipes
from annpipes import IndexSource, Loader, RowSampler, SourceMixer
from annpipes.errors import FieldError, ParameterError, PipelineError
from annpipes.plans.mixture import Mixed
from annpipes.plans.order import BlockShuffled, InOrder
from annpipes.plans.weighted import Weighted

RARE = 1e-5
"""Keys are fixed, so a test passes always or never; a fair draw fails one in a hundred thousand such tests."""

DRAWN = 40_000
ROUND = 4096

keys = st.tuples(st.integers(0, 2**40), st.integers(0, 9))


def check_shares(counts: Any, shares: Any) -> None:
    """What was counted came as often as its share says, and what has none never."""
    counts, shares = np.asarray(counts), np.asarray(shares, float)
    assert not counts[shares == 0].any()
    drawable = shares > 0
    if np.count_nonzero(drawable) > 1:
        wanted = shares[drawable] / shares.sum() * counts.sum()
        assert chisquare(counts[drawable], wanted).pvalue > RARE


def drawn(plan: Any, key: tuple[int, ...] = (0, 0)) -> NDArray[np.int64]:
    """A whole epoch."""
    return plan.epoch(key).rows(0, plan.n_rows)


def weighted(weights: Any, n_rows: int = DRAWN, block_size: int = 1) -> Weighted:
    weights = np.asarray(weights, float)
    return Weighted(InOrder(range(len(weights)), max(2, block_size)), weights, n_rows, block_size)


WEIGHTS = {
    "equal": [1.0] * 7,
    "one": [3.0],
    "rising": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    "zeros at both ends": [0, 0, 2, 1, 0, 4, 0, 0, 0],
    "one between zeros": [0, 0, 5, 0],
    "tiny": [1e-300, 3e-300, 0, 2e-300],
    "far apart": [1e-3, 1e3, 1, 0, 1e3],
    "thirds": [1 / 3, 0.1, 0.2, 1 / 7, 0],
}


class TestWeightedRows:
    @pytest.mark.parametrize("name", WEIGHTS)
    @pytest.mark.parametrize("key", [(0, 0), (0, 1), (2**40, 3)])
    def test_as_often_as_their_weights(self, name: str, key: tuple[int, ...]) -> None:
        weights = WEIGHTS[name]
        check_shares(np.bincount(drawn(weighted(weights), key), minlength=len(weights)), weights)

    def test_at_the_seams_of_weights_that_are_no_binary_numbers(self) -> None:
        weights = np.full(1000, 0.1)
        weights[-300:] = 0
        check_shares(np.bincount(drawn(weighted(weights, 200_000)), minlength=1000), weights)

    def test_one_draw_does_not_depend_on_the_last(self) -> None:
        rows = drawn(weighted([1, 2, 3, 4]))
        shares = np.outer([1, 2, 3, 4], [1, 2, 3, 4]).ravel()
        for distance in (1, 2, 64):
            pairs = rows[::distance][: len(rows[::distance]) // 2 * 2].reshape(-1, 2)
            check_shares(np.bincount(pairs[:, 0] * 4 + pairs[:, 1], minlength=16), shares)

    def test_nor_one_epoch_on_another(self) -> None:
        plan = weighted([1, 2, 3, 4])
        shares = np.outer([1, 2, 3, 4], [1, 2, 3, 4]).ravel()
        for other in ((0, 1), (1, 0)):
            check_shares(np.bincount(drawn(plan) * 4 + drawn(plan, other), minlength=16), shares)

    def test_rows_of_a_source_keep_their_own_numbers(self) -> None:
        plan = Weighted(InOrder(np.array([9, 4, 4, 70]), 2), np.array([1.0, 1, 2, 0]), DRAWN)
        check_shares(np.bincount(drawn(plan), minlength=71)[[4, 9, 70]], [3, 1, 0])


class TestWeightedBlocks:
    @pytest.mark.parametrize(
        ("n", "block_size"), [(12, 4), (10, 4), (9, 4), (11, 4), (5, 4), (4, 4), (3, 4), (1, 4), (20, 7), (2, 64)]
    )
    def test_a_block_comes_as_often_as_its_rows_weigh_together(self, n: int, block_size: int) -> None:
        weights = np.random.default_rng(n).integers(1, 9, n).astype(float)
        length = min(n, block_size)
        blocks = drawn(weighted(weights, DRAWN * length, block_size)).reshape(-1, length)
        assert (np.diff(blocks, axis=1) == 1).all()
        firsts = [*range(0, n - length + 1, block_size)]
        firsts += [n - length] if n % block_size and n > block_size else []  # the last one begins earlier
        shares = np.zeros(n)
        for first in firsts:
            shares[first] = weights[first : first + length].sum()
        check_shares(np.bincount(blocks[:, 0], minlength=n), shares)

    def test_a_block_without_weight_never_comes(self) -> None:
        weights = [0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
        assert set(drawn(weighted(weights, 4000, 4)).tolist()) == {4, 5, 6, 7}

    def test_the_rows_of_a_short_last_block_can_be_drawn(self) -> None:
        blocks = drawn(weighted([0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 400, 4)).reshape(-1, 4)
        assert set(map(tuple, blocks.tolist())) == {(6, 7, 8, 9)}

    def test_an_epoch_may_end_within_a_block(self) -> None:
        assert len(drawn(weighted([1] * 10, 7, 4))) == 7

    def test_through_the_sampler(self) -> None:
        source = IndexSource(with_labels(), block_size=10)
        weights = np.repeat([1.0, 0, 0, 3, 0, 0], 10)
        rows = drawn(source.sample_rows(weights=weights, unit="blocks", num_rows=10 * DRAWN).plan)
        check_shares(np.bincount(rows[::10] // 10, minlength=6), [1, 0, 0, 3, 0, 0])


def more_of_the_first(epoch: int, n: int = 60) -> NDArray[np.float64]:
    """Weight 1, and for row 0 one more than the epoch."""
    weights = np.ones(n)
    weights[0] += 59 * epoch
    return weights


class TestWeightsOfTheEpoch:
    def test_each_epoch_has_its_own(self) -> None:
        pipe = IndexSource(tiny(60)).sample_rows(weights=more_of_the_first, num_rows=DRAWN)
        loader = Loader(pipe.sort_within_chunks(DRAWN).read_rows(["rows"]).batch_rows(DRAWN).collate_rows())
        for epoch in (0, 1, 2, 0):
            loader.set_epoch(epoch)
            (batch,) = loader
            check_shares(np.bincount(batch["rows"], minlength=60), more_of_the_first(epoch))

    def test_they_are_of_all_rows_of_the_data(self) -> None:
        pipe = IndexSource(tiny(60), rows=[0, 30]).sample_rows(weights=more_of_the_first, num_rows=DRAWN)
        check_shares(np.bincount(drawn(pipe.plan, (0, 1)), minlength=31)[[0, 30]], [60, 1])

    def test_a_source_in_a_mixture_is_asked_for_the_epoch(self) -> None:
        asked: list[int] = []

        def weights(epoch: int) -> NDArray[np.float64]:
            asked.append(epoch)
            return np.ones(8)

        one, two = (IndexSource(tiny(8)).sample_rows(weights=weights) for _ in range(2))
        mixer = SourceMixer({"one": one, "two": two}, {"one": 1, "two": 1})
        asked.clear()
        mixer.plan.epoch((5, 3)).rows(0, 16)
        assert set(asked) == {3}
        asked.clear()
        list(mixer)  # a pass without a Loader has a seed and no epoch
        assert set(asked) == {0}

    def test_a_mistake_of_a_later_epoch_is_told_as_it_comes(self) -> None:
        pipe = IndexSource(tiny(60)).sample_rows(weights=lambda epoch: np.ones(60 - epoch))
        loader = Loader(pipe.sort_within_chunks(60).read_rows(["rows"]).batch_rows(60).collate_rows())
        list(loader)
        with pytest.raises(ParameterError, match=r"weights must be 60 numbers, .* got float64 of shape \(59,\)"):
            list(loader)


def with_labels() -> anndata.AnnData:
    """60 cells: 40 T, 15 B, 3 NK, 2 without a type; donors in turn; a column of weights."""
    adata = tiny(60)
    types = np.array(["T"] * 40 + ["B"] * 15 + ["NK"] * 3 + [None] * 2, object)
    adata.obs["cell_type"] = pd.Categorical(types, ["B", "never seen", "NK", "T"])
    adata.obs["donor"] = pd.Categorical(np.array(["d1", "d2", "d3"])[np.arange(60) % 3])
    adata.obs["batch"] = pd.Categorical(np.where(np.arange(60) % 7 == 2, None, "b"), ["b"])
    adata.obs["lane"] = pd.Categorical(np.array([10, 2])[np.arange(60) % 2])
    adata.obs["quality"] = np.linspace(0, 1, 60)
    adata.obs["good"] = np.arange(60) % 4 == 0
    adata.obs["nothing"] = pd.Categorical([None] * 60, ["a"])
    adata.obs["minus"] = -1.0
    adata.obs["absent"] = np.where(np.arange(60) == 7, np.nan, 1.0)
    return adata


LABELLED = with_labels()
TYPES = np.array(["T"] * 40 + ["B"] * 15 + ["NK"] * 3 + [""] * 2)


def sampled(rows: Any = None, **options: Any) -> NDArray[np.int64]:
    """How often each row of 60 is drawn."""
    sampler = IndexSource(LABELLED, rows=rows, block_size=4).sample_rows(num_rows=DRAWN, **options)
    return np.bincount(drawn(sampler.plan), minlength=60)


def by_type(counts: NDArray[np.int64]) -> list[int]:
    return [int(counts[label == TYPES].sum()) for label in ("T", "B", "NK", "")]


class TestBalance:
    @pytest.mark.parametrize("temperature", [0, 0.25, 0.5, 1, 2])
    def test_classes_by_temperature_and_rows_of_one_class_alike(self, temperature: float) -> None:
        counts = sampled(balance="cell_type", temperature=temperature)
        check_shares(by_type(counts), [40.0**temperature, 15.0**temperature, 3.0**temperature, 0])
        for label in ("T", "B", "NK"):
            check_shares(counts[label == TYPES], np.ones(np.count_nonzero(label == TYPES)))

    def test_a_temperature_may_be_any_number(self) -> None:
        assert by_type(sampled(balance="cell_type", temperature=1000)) == [DRAWN, 0, 0, 0]

    @pytest.mark.parametrize(
        "frequencies", [{"T": 1, "B": 1, "NK": 2}, {"NK": 0.1, "B": 0.9}, {"T": 7}, {"T": 0, "B": 3, "NK": 1}]
    )
    def test_frequencies_that_are_given(self, frequencies: dict[str, float]) -> None:
        counts = sampled(balance="cell_type", frequencies=frequencies)
        check_shares(by_type(counts), [frequencies.get(label, 0) for label in ("T", "B", "NK", "")])

    def test_combinations_of_columns_that_there_are(self) -> None:
        counts = sampled(balance=["cell_type", "donor", "batch"])
        kinds = pd.DataFrame({"type": TYPES, "donor": LABELLED.obs["donor"], "batch": LABELLED.obs["batch"]})
        labelled = (kinds["type"] != "") & kinds["batch"].notna()
        groups = kinds[labelled].astype(str).agg("/".join, axis=1)
        by_group = pd.Series(counts[labelled]).groupby(groups.to_numpy()).sum()
        assert len(by_group) == len(set(groups))
        check_shares(by_group, np.ones(len(by_group)))
        assert not counts[~labelled].any()

    def test_one_column_in_a_list_is_that_column(self) -> None:
        assert sampled(balance=["cell_type"]).tolist() == sampled(balance="cell_type").tolist()

    def test_classes_are_counted_among_the_rows_chosen(self) -> None:
        chosen = [*range(30, 60), 41, 42]  # 10 T, 17 B of which two stand twice, 3 NK, 2 without
        counts = sampled(rows=chosen, balance="cell_type", temperature=1)
        check_shares(by_type(counts), [10, 17, 3, 0])
        assert not counts[:30].any()
        check_shares(counts[40:55], np.bincount(chosen, minlength=60)[40:55])

    def test_numbers_as_labels(self) -> None:
        check_shares(sampled(balance="lane", frequencies={"10": 3, "2": 1}), np.where(np.arange(60) % 2, 1, 3))

    @pytest.mark.parametrize("column", ["quality", "good"])
    def test_a_column_of_weights(self, column: str) -> None:
        check_shares(sampled(weights=column), LABELLED.obs[column].to_numpy(float))

    @pytest.mark.parametrize(
        "kind", [list, pd.Series, partial(np.asarray, dtype="uint8"), partial(np.asarray, dtype=bool)]
    )
    def test_weights_of_any_kind(self, kind: Callable[[Any], Any]) -> None:
        weights = np.arange(60) % 3
        check_shares(sampled(weights=kind(weights)), np.asarray(kind(weights), float))

    def test_weights_are_of_all_rows_of_the_data(self) -> None:
        weights = np.arange(60.0)
        weights[0] = np.nan  # not chosen, so never looked at
        counts = sampled(rows=[5, 50], weights=weights)
        check_shares(counts[[5, 50]], [5, 50])
        assert counts.sum() == counts[[5, 50]].sum()

    def test_as_many_rows_as_there_are_or_as_asked_for(self) -> None:
        source = IndexSource(LABELLED, rows=range(10, 33))
        assert source.sample_rows(balance="donor").plan.n_rows == 23
        assert source.sample_rows(balance="donor", num_rows=1000).plan.n_rows == 1000
        assert len(all_rows(source.sample_rows(balance="donor", num_rows=77))) == 77


def mixed(shares: Any, n_rows: int = 3 * ROUND, children: Any = None) -> Mixed:
    """Sources of 100, 1,000 and 700 rows, and so on."""
    shares = np.asarray(shares) / np.sum(shares)
    sizes = [100, 1000, 700, 50, 333, 8][: len(shares)]
    plans = children or [BlockShuffled(InOrder(range(size), 8)) for size in sizes]
    return Mixed(plans, [10_000 * number for number in range(len(shares))], shares.tolist(), n_rows)


SHARES = [[1], [1, 1], [3, 1], [1, 2], [1, 1, 1], [0.7, 0.2, 0.1], [5, 4, 3, 2, 1], [1000, 1, 30], [1, 1, 1, 1, 1, 1]]


class TestMixed:
    @pytest.mark.parametrize("shares", SHARES, ids=str)
    def test_every_round_keeps_the_proportions_to_one_turn(self, shares: list[float]) -> None:
        plan = mixed(shares)
        assert plan.turns.sum() == ROUND
        for rows in drawn(plan).reshape(-1, ROUND):
            counts = np.bincount(rows // 10_000, minlength=len(shares))
            assert abs(counts / ROUND - np.array(shares) / np.sum(shares)).max() <= 1 / ROUND

    @pytest.mark.parametrize("shares", SHARES, ids=str)
    def test_each_source_comes_in_its_own_order_and_once_in_each_of_its_epochs(self, shares: list[float]) -> None:
        plan = mixed(shares, 2 * ROUND + 1000)
        rows = drawn(plan)
        for number, child in enumerate(plan.plans):
            mine = rows[rows // 10_000 == number] - 10_000 * number
            epochs = [mine[start : start + child.n_rows] for start in range(0, len(mine), child.n_rows)]
            for epoch in epochs[:-1]:
                assert sorted(epoch.tolist()) == list(range(child.n_rows))
            assert len(set(epochs[-1].tolist())) == len(epochs[-1])
            for epoch in epochs:
                changes = np.count_nonzero(np.diff(epoch) != 1)
                assert changes <= -(-len(epoch) // 8)  # blocks of 8 stay whole
            whole = [tuple(epoch.tolist()) for epoch in epochs if len(epoch) == child.n_rows >= 300]
            assert len(set(whole)) == len(whole)  # begun anew in another order

    def test_sources_do_not_share_an_order(self) -> None:
        source = BlockShuffled(InOrder(range(500), 1))
        rows = drawn(mixed([1, 1], 1000, [source, source]))
        one, two = rows[rows < 10_000], rows[rows >= 10_000] - 10_000
        assert one[:400].tolist() != two[:400].tolist()

    def test_epochs_differ(self) -> None:
        plan = mixed([1, 3], 500)
        assert len({tuple(drawn(plan, (seed, epoch)).tolist()) for seed in range(3) for epoch in range(3)}) == 9

    def test_sources_in_order_stay_in_order(self) -> None:
        rows = drawn(mixed([2, 1], 900, [InOrder(range(600), 4), InOrder(range(7), 4)]))
        first, second = rows[rows < 10_000], rows[rows >= 10_000] - 10_000
        assert first.tolist() == (np.arange(len(first)) % 600).tolist()
        assert second.tolist() == (np.arange(len(second)) % 7).tolist()

    def test_samplers_keep_their_weights(self) -> None:
        weights = np.array([1.0, 2, 0, 5])
        child = Weighted(InOrder(range(4), 1), weights, 50)
        rows = drawn(mixed([1, 1], DRAWN, [child, InOrder(range(9), 1)]))
        check_shares(np.bincount(rows[rows < 10_000], minlength=4), weights)

    @pytest.mark.parametrize("until", ["first", "longest"])
    @pytest.mark.parametrize("proportions", [(1, 1), (1, 2), (2, 1), (0.3, 0.7), (1, 9)])
    @pytest.mark.parametrize("sizes", [(60, 20), (20, 60), (3000, 500)])
    def test_an_epoch_ends_when_that_source_has_been_visited_once(
        self, until: str, proportions: tuple[float, float], sizes: tuple[int, int]
    ) -> None:
        sources = {
            name: IndexSource(tiny(size), block_size=4).shuffle_blocks() for name, size in zip("ab", sizes, strict=True)
        }
        mixer = SourceMixer(sources, dict(zip("ab", proportions, strict=True)), until=until)
        needed = [size * sum(proportions) / proportion for size, proportion in zip(sizes, proportions, strict=True)]
        lasting = 0 if until == "first" else int(np.argmax(needed))
        begin = [0, sizes[0]][lasting]
        for epoch in range(5):
            rows = drawn(mixer.plan, (0, epoch))
            assert set(range(begin, begin + sizes[lasting])) <= set(rows.tolist())
        one_turn = sum(proportions) / proportions[lasting]
        assert mixer.plan.n_rows == pytest.approx(needed[lasting], rel=0.01, abs=one_turn)

    def test_a_source_with_any_proportion_has_its_turns_or_is_refused(self) -> None:
        sources = {name: IndexSource(tiny(20)) for name in "ab"}
        try:
            plan = SourceMixer(sources, {"a": 100_000, "b": 1}).plan
        except ParameterError:
            return
        assert plan.turns.min() > 0


class TestPositions:
    """Any span of an epoch is a slice of the whole, wherever it begins and whatever was asked before."""

    @given(data=st.data(), key=keys)
    def test_of_weighted_rows_and_blocks(self, data: Any, key: tuple[int, ...]) -> None:
        n, n_rows = data.draw(st.integers(1, 50)), data.draw(st.integers(1, 200))
        plan = weighted(np.random.default_rng(n).random(n), n_rows, data.draw(st.integers(1, 20)))
        check_slices(plan, key, data)

    @given(data=st.data(), key=keys)
    def test_of_mixtures(self, data: Any, key: tuple[int, ...]) -> None:
        children = data.draw(
            st.lists(
                st.sampled_from(
                    [
                        InOrder(range(13), 4),
                        BlockShuffled(InOrder(range(70), 6)),
                        weighted([1, 2, 3], 9),
                        weighted(range(1, 30), 25, 4),
                        mixed([1, 2], 90),
                    ]
                ),
                min_size=1,
                max_size=4,
            )
        )
        shares = [data.draw(st.integers(1, 20)) for _ in children]
        check_slices(mixed(shares, data.draw(st.sampled_from([1, 500, ROUND, 10_000])), children), key, data)

    @pytest.mark.parametrize("block_size", [1, 16])
    def test_blocks_put_together_are_the_epoch(self, block_size: int) -> None:
        for plan in (weighted(range(1, 30), 777, block_size), mixed([1, 2, 3], 5000)):
            whole = plan.epoch((4, 2)).rows(0, plan.n_rows)
            assert np.concatenate(list(plan.blocks((4, 2)))).tolist() == whole.tolist()

    @pytest.mark.parametrize(
        "plan",
        [
            weighted([1, 2, 3], 10**9),
            weighted(range(1, 1000), 10**9, 64),
            mixed([1, 3], 10**9),
            mixed([1, 1], 10**9, [BlockShuffled(InOrder(range(3 * 10**8), 16)), weighted([1, 2], 10**9)]),
            mixed([2, 1], 10**9, [mixed([1, 1], 10**9), InOrder(range(10**9), 1)]),
        ],
        ids=["rows", "blocks", "mixture", "mixture of large ones", "mixture of mixtures"],
    )
    def test_half_a_billion_rows_in_cost_what_the_first_do(self, plan: Any) -> None:
        begun = time.perf_counter()
        epoch = plan.epoch((0, 0))
        middle = 5 * 10**8 + 17
        late = epoch.rows(middle, middle + 1000)
        assert time.perf_counter() - begun < 1
        assert len(late) == 1000
        assert epoch.rows(middle + 3, middle + 9).tolist() == late[3:9].tolist()
        assert len(epoch.rows(10**9 - 1, 10**9)) == 1


def check_slices(plan: Any, key: tuple[int, ...], data: Any) -> None:
    whole = drawn(plan, key)
    epoch = plan.epoch(key)
    assert len(whole) == plan.n_rows
    for _ in range(4):
        start = data.draw(st.integers(0, plan.n_rows))
        stop = data.draw(st.integers(start, plan.n_rows))
        span = epoch.rows(start, stop)
        assert span.dtype == np.int64
        assert span.tolist() == whole[start:stop].tolist()


class WithReplacement(StageContract):
    """A stage that draws rows with replacement: an epoch has its number of rows, not each of them once."""

    shuffled = True

    def n_rows(self, path: Path) -> int:
        return 29

    def complete(self, pipe: Any) -> Any:
        return pipe.sort_within_chunks(6)

    def test_every_row_once(self, h5ad: Path) -> None:
        rows = all_rows(self.chained(h5ad))
        assert len(rows) == self.n_rows(h5ad)
        assert len(set(rows)) < len(rows)

    def test_same_rows_for_0_and_2_workers(self, h5ad: Path) -> None:
        seen = []
        for workers in (0, 2):
            pipe, generator = self.complete(self.chained(h5ad)), torch.Generator().manual_seed(3)
            loader = DataLoader(pipe, batch_size=None, num_workers=workers, generator=generator)
            seen.append(sorted(all_rows(loader)))
        assert seen[0] == seen[1]
        assert len(seen[0]) == self.n_rows(h5ad)


class TestRowSampler(WithReplacement):
    def chained(self, path: Path) -> Any:
        return IndexSource(path, block_size=4).sample_rows(balance="cell_type", temperature=0.5)

    def constructed(self, path: Path) -> Any:
        return RowSampler(IndexSource(path, block_size=4), balance="cell_type", temperature=0.5)


class TestRowSamplerOfBlocks(WithReplacement):
    def n_rows(self, path: Path) -> int:
        return 50

    def chained(self, path: Path) -> Any:
        return IndexSource(path, block_size=4).sample_rows(weights="uint8", unit="blocks", num_rows=50)

    def constructed(self, path: Path) -> Any:
        return RowSampler(IndexSource(path, block_size=4), weights="uint8", unit="blocks", num_rows=50)


class TestSourceMixer(StageContract):
    """A mixture of one source visits every row once."""

    shuffled = True

    def chained(self, path: Path) -> Any:
        return SourceMixer({"all": IndexSource(path, block_size=4).shuffle_blocks()}, {"all": 2.0})

    constructed = chained

    def complete(self, pipe: Any) -> Any:
        return pipe.sort_within_chunks(5)


class TestSourceMixerOfTwo(WithReplacement):
    """The shorter source begins again, so that its rows come more than once."""

    def n_rows(self, path: Path) -> int:
        planned = self.chained(path).plan.n_rows
        assert 46 <= planned <= 50  # 24 rows of the first source in every other turn
        return int(planned)

    def chained(self, path: Path) -> Any:
        parts = IndexSource(path, rows=range(24), block_size=4), IndexSource(path, rows=range(24, 29), block_size=4)
        sources = {"a": parts[0].shuffle_blocks(), "b": parts[1].shuffle_blocks()}
        return SourceMixer(sources, {"a": 1, "b": 1}, until="first", missing="fill")

    constructed = chained

    def test_how_the_data_is_joined_is_in_the_repr(self, h5ad: Path) -> None:
        pipe = self.chained(h5ad)
        typed = eval(repr(pipe), dict(vars(annpipes)))  # noqa: S307 (our own repr)
        assert "until='first'" in repr(pipe)
        assert typed.store.missing == pipe.store.missing == "fill"


class TestRowSamplerErrors:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({}, ParameterError, "sample_rows needs either weights or balance"),
            ({"weights": np.ones(60), "balance": "donor"}, ParameterError, "needs either weights or balance"),
            ({"weights": np.ones(59)}, ParameterError, r"weights must be 60 numbers, .* of shape \(59,\)"),
            ({"weights": np.ones((60, 1))}, ParameterError, r"weights must be 60 numbers, .* of shape \(60, 1\)"),
            ({"weights": 1.0}, ParameterError, r"weights must be 60 numbers, .* of shape \(\)"),
            ({"weights": ["a"] * 60}, ParameterError, "weights must be 60 numbers, .* got <U1"),
            ({"weights": np.r_[np.ones(59), -1]}, ParameterError, r"not negative, got -1\.0 for row 59"),
            ({"weights": np.r_[1, np.nan, np.ones(58)]}, ParameterError, "must be finite .* got nan for row 1"),
            ({"weights": np.r_[np.inf, np.ones(59)]}, ParameterError, "must be finite .* got inf for row 0"),
            ({"weights": np.zeros(60)}, ParameterError, "weights are zero for all rows"),
            ({"weights": lambda epoch: np.ones(3)}, ParameterError, r"weights must be 60 numbers, .* of shape \(3,\)"),
            ({"weights": "donor"}, FieldError, "'donor' holds labels, not weights: balance='donor' may be meant"),
            ({"weights": "minus"}, ParameterError, r"not negative, got -1\.0 for row 0"),
            ({"weights": "absent"}, ParameterError, "must be finite .* got nan for row 7"),
            ({"weights": "celltype"}, FieldError, "no obs column 'celltype' in .*; columns: .*cell_type"),
            ({"balance": "celltype"}, FieldError, "no obs column 'celltype' in .*; columns: .*cell_type"),
            ({"balance": ["donor", "celltype"]}, FieldError, "no obs column 'celltype'"),
            ({"balance": "quality"}, FieldError, "obs column 'quality' holds numbers"),
            ({"balance": "nothing"}, ParameterError, "no row has a label in nothing"),
            ({"balance": "donor", "temperature": -1}, ParameterError, "temperature must not be negative, got -1"),
            ({"balance": "donor", "temperature": np.nan}, ParameterError, "temperature must .*, got nan"),
            (
                {"balance": "cell_type", "frequencies": {"never seen": 1}},
                ParameterError,
                "class 'never seen' of 'cell_type' has no rows; there are B, NK, T",
            ),
            (
                {"balance": "cell_type", "frequencies": {"T": 1, "Tcell": 1}},
                ParameterError,
                "class 'Tcell' of 'cell_type' has no rows; there are B, NK, T",
            ),
            ({"balance": "donor", "frequencies": {"d1": -1}}, ParameterError, "must not be negative, got -1 for 'd1'"),
            ({"balance": "donor", "frequencies": {"d1": np.nan}}, ParameterError, "got nan for 'd1'"),
            ({"balance": "donor", "frequencies": {"d1": 0}}, ParameterError, "frequencies are zero for all classes"),
            ({"balance": "donor", "frequencies": {}}, ParameterError, "frequencies are zero for all classes"),
            (
                {"balance": ["donor", "lane"], "frequencies": {"d1": 1}},
                ParameterError,
                "frequencies can be given for the classes of one column only",
            ),
            ({"balance": "donor", "num_rows": 0}, ParameterError, "num_rows must be at least 1, got 0"),
            ({"balance": "donor", "num_rows": 1.5}, TypeError, r"num_rows must be an integer, got 1\.5"),
            ({"balance": "donor", "unit": "cells"}, ParameterError, "unit must be one of rows, blocks, got 'cells'"),
            ({"weights": np.ones(60), "frequencies": {"d1": 1}}, ParameterError, "frequencies .* need balance="),
            ({"weights": np.ones(60), "temperature": 1}, ParameterError, "temperature .* need balance="),
            (
                {"balance": "donor", "temperature": 1, "frequencies": {"d1": 1}},
                ParameterError,
                "either temperature or freq",
            ),
            ({"balance": "donor", "temperature": "hot"}, TypeError, "temperature must be a number, got 'hot'"),
            (
                {"balance": "donor", "frequencies": {"d1": "often"}},
                TypeError,
                "frequencies.* must be a number, got 'often'",
            ),
            ({"balance": ()}, ParameterError, "balance must name an obs column"),
            ({"weights": np.full(60, 1e308)}, ParameterError, r"weights are too large .* 1e\+308"),
        ],
    )
    def test_a_wrong_argument_is_named(self, options: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message) as refusal:
            IndexSource(LABELLED).sample_rows(**options)
        assert isinstance(refusal.value, annpipes.AnnpipesError)

    @pytest.mark.parametrize("options", [{"weights": np.ones(60)}, {"balance": "donor"}])
    def test_a_source_without_rows(self, options: dict[str, Any]) -> None:
        with pytest.raises(ParameterError, match="there are no rows to draw from"):
            IndexSource(LABELLED, rows=[]).sample_rows(**options)

    def test_classes_outside_the_rows_chosen_have_no_rows(self) -> None:
        with pytest.raises(ParameterError, match="class 'B' of 'cell_type' has no rows; there are T"):
            IndexSource(LABELLED, rows=range(40)).sample_rows(balance="cell_type", frequencies={"B": 1})

    def test_it_follows_a_source_alone(self) -> None:
        with pytest.raises(PipelineError, match=r"sample_rows follows an IndexSource, got .*shuffle_blocks"):
            IndexSource(LABELLED).shuffle_blocks().sample_rows(balance="donor")


class TestSourceMixerErrors:
    @pytest.mark.parametrize(
        ("proportions", "message"),
        [
            ({"a": 1}, r"proportions must name the sources \(a, b\), got a"),
            ({"a": 1, "c": 1}, r"proportions must name the sources \(a, b\), got a, c"),
            ({"a": 1, "b": 1, "c": 1}, r"proportions must name the sources \(a, b\), got a, b, c"),
            ({}, r"proportions must name the sources \(a, b\), got none"),
            ({"a": 1, "b": 0}, "proportions must be above 0, got 0 for 'b'"),
            ({"a": 1, "b": -0.5}, r"proportions must be above 0, got -0\.5 for 'b'"),
            ({"a": np.nan, "b": 1}, "proportions must be above 0, got nan for 'a'"),
            ({"a": np.inf, "b": 1}, "proportions must be above 0, got inf for 'a'"),
        ],
    )
    def test_wrong_proportions(self, proportions: dict[str, float], message: str) -> None:
        with pytest.raises(ParameterError, match=message):
            SourceMixer({"a": IndexSource(tiny(5)), "b": IndexSource(tiny(5))}, proportions)

    def test_no_sources(self) -> None:
        with pytest.raises(ParameterError, match="proportions must name the sources"):
            SourceMixer({}, {})

    def test_a_source_without_rows(self) -> None:
        with pytest.raises(ParameterError, match="source 'b' has no rows"):
            SourceMixer({"a": IndexSource(tiny(5)), "b": IndexSource(tiny(5), rows=[])}, {"a": 1, "b": 1})

    @pytest.mark.parametrize("source", [tiny(5), "cells.h5ad", IndexSource(tiny(5)).sort_within_chunks(4).read_rows()])
    def test_what_has_no_plan(self, source: Any) -> None:
        with pytest.raises(PipelineError, match="source 'b' must be a stage with a plan, such as IndexSource, got"):
            SourceMixer({"a": IndexSource(tiny(5)), "b": source}, {"a": 1, "b": 1})

    def test_sets_are_not_cut_apart(self) -> None:
        sets = IndexSource(LABELLED).sample_groups("donor", 4)
        with pytest.raises(PipelineError, match="source 'b' draws sets, which a mixture of rows would cut apart"):
            SourceMixer({"a": IndexSource(tiny(5)), "b": sets}, {"a": 1, "b": 1})

    def test_another_end(self) -> None:
        with pytest.raises(ParameterError, match="until must be 'first' or 'longest', got 'shortest'"):
            SourceMixer({"a": IndexSource(tiny(5))}, {"a": 1}, until="shortest")  # type: ignore[arg-type]

    def test_chunks_have_no_rows_to_mix(self, tmp_path: Path) -> None:
        # A chunk sorter has a plan, too, but one of chunks.
        path = write(tiny(5), tmp_path / "cells.h5ad")
        with pytest.raises(PipelineError, match="source 'a' must be a stage with a plan"):
            SourceMixer({"a": IndexSource(path).sort_within_chunks(2)}, {"a": 1})  # type: ignore[dict-item]
