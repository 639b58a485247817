"""Rows come as often as their weights and classes say."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders import tiny
from contracts import all_rows
from draws import DRAWN, LABELLED, check_shares, drawn, weighted, with_labels
from numpy.typing import NDArray

from annpipes import IndexSource, Loader, SourceMixer
from annpipes.errors import ParameterError
from annpipes.plans.order import InOrder
from annpipes.plans.weighted import Weighted

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
