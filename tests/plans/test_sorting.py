"""Sorting and shuffling by compiled loops; the oracles are numpy and counting."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from annpipes.plans.sorting import shuffled, sorting_order

LEAST, MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
RARE = 1e-6


@given(
    st.integers(0, 3000),
    st.sampled_from([(0, 0), (0, 1), (0, 2**11 - 1), (0, 2**11), (5, 2**22), (0, 5 * 10**8), (-9, 9), (LEAST, MOST)]),
    st.integers(0, 99),
)
def test_the_order_is_that_of_numpys_stable_sort(n: int, bounds: tuple[int, int], seed: int) -> None:
    numbers = np.random.default_rng(seed).integers(*bounds, n, endpoint=True)
    assert np.array_equal(sorting_order(numbers), np.argsort(numbers, kind="stable"))


@pytest.mark.parametrize(
    "numbers", [np.array([MOST, LEAST] * 600), np.arange(2000, dtype=np.int32)[::-1], np.zeros(5000)]
)
def test_extremes_other_types_and_views_are_sorted(numbers: np.ndarray) -> None:
    assert np.array_equal(sorting_order(numbers), np.argsort(numbers, kind="stable"))


def test_every_permutation_is_equally_frequent() -> None:
    words = np.random.default_rng(0).integers(0, 2**64, (24_000, 4), np.uint64, endpoint=False)
    found = Counter(tuple(shuffled(row).tolist()) for row in words)
    assert len(found) == 24
    assert set(map(frozenset, found)) == {frozenset(range(4))}
    assert chisquare(list(found.values())).pvalue > RARE


@pytest.mark.parametrize("n", [0, 1, 2, 1000, 100_000])
def test_a_permutation_has_each_element_once(n: int) -> None:
    words = np.random.default_rng(n).integers(0, 2**64, n, np.uint64, endpoint=False)
    assert np.array_equal(np.sort(shuffled(words)), np.arange(n))


@pytest.mark.parametrize("on_edges", [False, True])
def test_the_swaps_are_those_of_the_upper_half_of_the_product(on_edges: bool) -> None:
    words = np.random.default_rng(1).integers(0, 2**64, 500, np.uint64, endpoint=False)
    if on_edges:  # the least words whose products reach a number: a carry from their lower halves decides
        words = np.array([-(-((k // 2) << 64) // k) for k in range(1, 501)], np.uint64)
    expected = list(range(500))
    for i in range(499, 0, -1):
        j = int(words[i]) * (i + 1) >> 64  # in Python's whole numbers
        expected[i], expected[j] = expected[j], expected[i]
    assert shuffled(words).tolist() == expected
