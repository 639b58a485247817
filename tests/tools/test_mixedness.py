"""How mixed batches are, against scipy, simulation and counting by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from builders import tiny
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy
from scipy.stats import hypergeom

import annpipes as ap
from annpipes.plans.order import BlockShuffled, InOrder
from annpipes.plans.schedule import Schedule
from annpipes.tools.diversity import Mixing, PlannedBatches, Population, batch_entropies, file_parts, population_of

BATCHES = st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=6), min_size=1, max_size=6)
CODES = st.lists(st.integers(-1, 3), min_size=12, max_size=12)


@given(BATCHES, CODES)
def test_the_entropy_of_each_batch_is_scipys(batches: list[list[int]], codes: list[int]) -> None:
    found = batch_entropies([np.array(batch) for batch in batches], np.array(codes, np.int8))
    by_scipy = [scipy_entropy(pd.Series(codes)[batch].value_counts(), base=2) for batch in batches]
    np.testing.assert_allclose(found, by_scipy, atol=1e-12)


@given(BATCHES)
def test_neighbours_are_counted_as_by_hand(batches: list[list[int]]) -> None:
    by_hand = [row + 1 in batch for batch in batches for row in batch]
    assert Mixing.of(batches, np.zeros(12, np.int8)).neighbours == pytest.approx(np.mean(by_hand))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(1, 40))
def test_random_entropy_is_the_hypergeometric_expectation(sizes: list[int], batch_size: int) -> None:
    rows = sum(sizes)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    drawn = min(batch_size, rows)
    k = np.arange(1, drawn + 1)
    lost = sum((hypergeom.pmf(k, rows, size, drawn) * k * np.log2(k)).sum() for size in sizes)
    expected = np.log2(drawn) - lost / drawn if rows else 0.0
    assert Population.of(range(rows), codes).entropy(batch_size) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("repeats", [1, 3], ids=["each row once", "rows repeated"])
def test_random_expectations_are_what_many_random_batches_have(repeats: int) -> None:
    rng = np.random.default_rng(0)
    codes = rng.choice([-1, 0, 1, 2], 90, p=[0.1, 0.6, 0.25, 0.05])
    rows = rng.choice(np.repeat(np.arange(90), repeats), 60, replace=False)  # so that some successors are absent
    drawn = [rng.permutation(rows).reshape(-1, 12) for _ in range(2000)]
    random = Mixing.of(np.concatenate(drawn), codes, population=Population.of(rows, codes))
    assert random.entropy == pytest.approx(random.random_entropy, rel=0.003)
    assert random.neighbours == pytest.approx(random.random_neighbours, rel=0.03)


def test_a_short_last_batch_is_compared_with_random_ones_as_short() -> None:
    codes = np.arange(10)  # every row a class of its own: any batch of n has log2 n bits
    mixing = Mixing.of([range(8), range(8, 10)], codes)
    assert mixing.entropy == pytest.approx((3 + 1) / 2)
    assert mixing.ratio == pytest.approx(1)
    # Nine of ten rows have a successor, which is one of the 7, or of the 1, others of their batch.
    assert mixing.random_neighbours == pytest.approx(0.9 * (8 * 7 / 9 + 2 * 1 / 9) / 10)


def test_missing_labels_are_a_class_of_their_own() -> None:
    assert Mixing.of([[0, 1, 2, 3]], np.array([-1, -1, 0, 0])).entropy == pytest.approx(1)


@pytest.mark.parametrize("batches", [[], [[]], [[0]]], ids=["none", "an empty one", "one row"])
def test_nothing_to_mix_is_as_mixed_as_can_be(batches: list[list[int]]) -> None:
    mixing = Mixing.of(batches, np.array([0]))
    assert (mixing.entropy, mixing.ratio, mixing.neighbours, mixing.random_neighbours) == (0, 1, 0, 0)


def test_a_batch_larger_than_the_data_repeats_rows() -> None:
    mixing = Mixing.of([[0, 1, 0, 1]], np.array([0, 1]), population=Population.of(range(2), np.array([0, 1])))
    assert mixing.entropy == mixing.random_entropy == 1


def schedule_of(plan: InOrder | BlockShuffled, batch_size: int = 4, chunk_size: int = 16) -> Schedule:
    return Schedule(plan, batch_size, chunk_size)


def test_chunks_of_a_long_epoch_lie_all_over_it() -> None:
    epoch = schedule_of(InOrder(range(1000), 1)).epoch((0, 0))
    planned = PlannedBatches.of(epoch, most_rows=160)
    assert len(planned.rows) <= 44
    assert planned.of_batches == 250
    assert planned.places is not None
    every = [batch.tolist() for batch in PlannedBatches.of(epoch).rows]
    assert [batch.tolist() for batch in planned.rows] == [every[place] for place in planned.places]
    assert (planned.rows[0][0], planned.rows[-1][-1]) == (0, 999)
    assert np.diff(planned.places).max() < 250 / 8


def test_the_random_batches_of_a_long_epoch_are_of_all_its_rows() -> None:
    codes = np.arange(1000) // 500
    epoch = schedule_of(BlockShuffled(InOrder(range(1000), 8))).epoch((0, 0))
    some, every = PlannedBatches.of(epoch, most_rows=100), PlannedBatches.of(epoch)
    mixing = some.mixing(codes, population_of(epoch, codes))
    assert mixing.n_batches < 30
    assert mixing.random_entropy == every.mixing(codes).random_entropy
    assert mixing.random_neighbours == pytest.approx(0.999 * 3 / 999)


def test_the_population_is_that_of_the_rows_chosen() -> None:
    rows, codes = np.array([5, 6, 9, 2]), np.array([0, 0, 1, 0, 0, 0, 2, 0, 0, -1])
    population = population_of(schedule_of(InOrder(rows, 1)).epoch((0, 0)), codes)
    assert population is not None
    assert population.class_sizes.tolist() == [1, 1, 1, 1]  # missing, 0, 1, 2
    assert population.followed == {0: 0.75, 1: 0.25}


def test_many_rows_in_any_order_are_followed_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).permutation(5000)[:2500]
    exact = Population.of(rows, np.zeros(5000, np.int8)).followed
    monkeypatch.setattr("annpipes.tools.diversity.MOST_ROWS", 2499)
    assert Population.of(rows, np.zeros(5000, np.int8)).followed == pytest.approx(exact)


def test_half_a_billion_rows_are_judged_by_chunks_of_a_few_million() -> None:
    codes = np.zeros(500_000_000, np.int8)
    epoch = schedule_of(BlockShuffled(InOrder(range(len(codes)), 64)), 256, 16_384).epoch((0, 0))
    mixing = PlannedBatches.of(epoch).mixing(codes, Population(np.array([0, len(codes)]), {1: 1.0}))
    assert mixing.of_batches == 1_953_125
    assert mixing.n_batches < 8_000
    assert mixing.neighbours == pytest.approx(63 / 64 * 255 / 16_383, rel=0.05)


@pytest.mark.parametrize("n_obs", [0, 1, 63, 64, 1000])
def test_parts_of_a_file_are_equal_and_in_order(n_obs: int) -> None:
    parts = file_parts(n_obs)
    assert len(parts) == n_obs
    assert (np.diff(parts) >= 0).all()
    assert np.ptp(np.bincount(parts)[:64]) <= 1 if n_obs else True


def test_a_report_says_how_much_of_the_epoch_was_looked_at() -> None:
    epoch = schedule_of(InOrder(range(1000), 1)).epoch((0, 0))
    assert "(3 of 250 batches)" in str(PlannedBatches.of(epoch, most_rows=16).mixing(np.arange(1000) % 2))
    assert "of 250 batches" not in str(PlannedBatches.of(epoch).mixing(np.arange(1000) % 2))


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_together_have_the_batches_of_all(world_size: int) -> None:
    seen = []
    for rank in range(world_size):
        loader = ap.stream(tiny(50), 4, fields=["rows"], block_size=3, chunk_size=8, rank=rank, world_size=world_size)
        planned = PlannedBatches.of(loader.planned(0), rank, world_size)
        read = [batch["rows"].tolist() for batch in loader]
        assert [batch.tolist() for batch in planned.rows] == read
        seen += [row for batch in read for row in batch]
    assert set(seen) == set(range(50))
