"""Sets of rows that share a group, and controls that match it, as plans."""

from __future__ import annotations

import math
import time
from collections import Counter
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from draws import check_shares, check_slices, drawn
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare

from annpipes.plans.permutation import permuted_within
from annpipes.plans.sets import Pools, Sets

RARE = 1e-5
"""Keys are fixed, so a test passes always or never; a fair draw fails one in a hundred thousand such tests."""


keys = st.tuples(st.integers(0, 2**40), st.integers(0, 9))


sizes_of_groups = st.lists(st.integers(0, 23), min_size=1, max_size=8).filter(any)


def permuted(n: int, kinds: int, key: tuple[int, ...] = (0, 0)) -> NDArray[np.int64]:
    """So many permutations of n; shape ``(kinds, n)``."""
    positions = np.tile(np.arange(n), kinds)
    numbers = np.repeat(np.arange(kinds), n)
    return permuted_within(key, positions, np.full(n * kinds, n), numbers).reshape(kinds, n)


class TestPermutedWithin:
    @given(sizes=st.lists(st.integers(1, 200), min_size=1, max_size=6), key=keys)
    def test_every_element_once_whatever_the_size(self, sizes: list[int], key: tuple[int, ...]) -> None:
        positions = np.concatenate([np.arange(size) for size in sizes])
        kinds = np.repeat(np.arange(len(sizes)), sizes)
        elements = permuted_within(key, positions, np.repeat(sizes, sizes), kinds)
        assert elements.dtype == np.int64
        for kind, size in enumerate(sizes):
            assert sorted(elements[kinds == kind].tolist()) == list(range(size))

    @pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 9, 10, 16, 17, 255, 256, 257, 65_536, 65_537, 1_000_003])
    def test_every_element_once_around_squares(self, n: int) -> None:
        assert np.array_equal(np.sort(permuted(n, 1)[0]), np.arange(n))

    @given(n=st.integers(1, 10**12), kind=st.integers(0, 10**12), key=keys, data=st.data())
    def test_an_element_does_not_depend_on_which_others_are_asked_for(
        self, n: int, kind: int, key: tuple[int, ...], data: Any
    ) -> None:
        places = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=9, unique=True)))
        together = permuted_within(key, places, np.full(len(places), n), np.full(len(places), kind))
        alone = [permuted_within(key, places[[i]], np.array([n]), np.array([kind]))[0] for i in range(len(places))]
        assert together.tolist() == alone
        assert len(set(alone)) == len(alone)
        assert 0 <= min(alone) <= max(alone) < n

    @pytest.mark.parametrize("n", [2, 3, 5, 10])
    def test_every_element_stands_anywhere(self, n: int) -> None:
        made = permuted(n, 20_000)
        for position in range(n):
            assert chisquare(np.bincount(made[:, position], minlength=n)).pvalue > RARE

    @pytest.mark.parametrize("n", [2, 3, 5, 10])
    def test_any_two_elements_become_neighbours(self, n: int) -> None:
        made = permuted(n, 20_000, (7, 1))
        off_diagonal = ~np.eye(n, dtype=bool).ravel()
        for left in range(n - 1):
            pairs = np.bincount(made[:, left] * n + made[:, left + 1], minlength=n * n)[off_diagonal]
            assert chisquare(pairs).pvalue > RARE

    @pytest.mark.parametrize("n", [2, 3, 5])
    def test_every_permutation_is_as_likely(self, n: int) -> None:
        made = Counter(map(tuple, permuted(n, 4000).tolist()))
        assert chisquare([made[order] for order in permutations(range(n))]).pvalue > RARE

    def test_epochs_and_kinds_are_unrelated(self) -> None:
        one, other = permuted(10, 4000, (0, 0)), permuted(10, 4000, (0, 1))
        for pair in ((one, other), (one[:-1], one[1:])):
            cells = np.bincount(pair[0][:, 0] * 10 + pair[1][:, 0], minlength=100)
            assert chisquare(cells).pvalue > RARE


def pools_of(sizes: list[int]) -> tuple[Pools, NDArray[np.int64]]:
    """Groups of these sizes, their rows scattered, and the group of each row."""
    groups = np.random.default_rng(sum(sizes)).permutation(np.repeat(np.arange(len(sizes)), sizes))
    return Pools.of(np.arange(len(groups)), groups, len(sizes)), groups


class TestPools:
    @given(sizes=sizes_of_groups)
    def test_rows_by_group(self, sizes: list[int]) -> None:
        pools, groups = pools_of(sizes)
        assert pools.sizes.tolist() == sizes
        for group, size in enumerate(sizes):
            rows = pools.take(np.full(size, group), np.arange(size))
            assert rows.tolist() == np.flatnonzero(groups == group).tolist()

    def test_rows_without_a_group_are_left_out(self) -> None:
        pools = Pools.of(np.array([9, 8, 7, 6]), np.array([1, -1, 0, 1]), 3)
        assert pools.rows.tolist() == [7, 9, 6]
        assert pools.sizes.tolist() == [1, 2, 0]


class TestSetsWithoutReplacement:
    @given(sizes=sizes_of_groups, set_size=st.integers(1, 6), repeat=st.booleans(), key=keys)
    def test_each_set_is_of_one_group_and_each_row_in_one_set(
        self, sizes: list[int], set_size: int, repeat: bool, key: tuple[int, ...]
    ) -> None:
        pools, groups = pools_of(sizes)
        plan = Sets(pools, set_size, repeat=repeat)
        if plan.total == 0:
            return
        sets = drawn(plan, key).reshape(-1, set_size)
        assert (groups[sets] == groups[sets[:, :1]]).all()
        seen = np.bincount(groups[sets[:, 0]], minlength=len(sizes))
        visits = np.bincount(sets.ravel(), minlength=len(groups))
        for group, size in enumerate(sizes):
            wanted = math.ceil(size / set_size) if repeat else size // set_size
            assert seen[group] == wanted
            mine = visits[groups == group]
            assert mine.sum() == wanted * set_size
            if size >= set_size or not repeat:
                assert not len(mine) or mine.max() <= (2 if repeat else 1)
            if repeat:
                assert not len(mine) or mine.min() >= 1
        if all(size >= set_size for size in sizes if size):
            assert all(len(set(members)) == set_size for members in sets.tolist())

    def test_what_is_left_out_changes_with_the_epoch(self) -> None:
        plan = Sets(pools_of([5, 7])[0], 4)
        visits = sum(np.bincount(drawn(plan, (0, epoch)), minlength=12) for epoch in range(3000))
        groups = pools_of([5, 7])[1]
        for group, size in enumerate((5, 7)):
            check_shares(visits[groups == group], np.ones(size))

    def test_sets_of_a_group_are_not_together(self) -> None:
        pools, groups = pools_of([400, 400])
        of_set = groups[drawn(Sets(pools, 4))[::4]]
        neighbours = np.bincount(of_set[:-1] * 2 + of_set[1:], minlength=4)
        assert neighbours.min() > 30

    def test_any_two_rows_of_a_group_meet(self) -> None:
        plan = Sets(pools_of([6])[0], 2)
        met = Counter(
            tuple(sorted(pair)) for epoch in range(3000) for pair in drawn(plan, (0, epoch)).reshape(-1, 2).tolist()
        )
        assert len(met) == 15
        assert abs(np.array(list(met.values())) / 3000 - 1 / 5).max() < 0.04  # five standard deviations

    def test_epochs_differ(self) -> None:
        plan = Sets(pools_of([30, 20])[0], 4)
        assert len({tuple(drawn(plan, (seed, epoch)).tolist()) for seed in range(3) for epoch in range(3)}) == 9


class TestSetsWithReplacement:
    def test_groups_come_equally_often_and_so_do_the_rows_of_each(self) -> None:
        sizes = [1, 0, 2, 30, 7, 0]
        pools, groups = pools_of(sizes)
        sets = drawn(Sets(pools, 5, 20_000)).reshape(-1, 5)
        assert (groups[sets] == groups[sets[:, :1]]).all()
        check_shares(np.bincount(groups[sets[:, 0]], minlength=6), [1, 0, 1, 1, 1, 0])
        visits = np.bincount(sets.ravel(), minlength=len(groups))
        for group, size in enumerate(sizes):
            check_shares(visits[groups == group], np.ones(size))

    def test_rows_of_a_set_do_not_depend_on_each_other(self) -> None:
        sets = drawn(Sets(pools_of([6])[0], 2, 20_000)).reshape(-1, 2)
        check_shares(np.bincount(sets[:, 0] * 6 + sets[:, 1], minlength=36), np.ones(36))
        check_shares(np.bincount(sets[:-1:2, 0] * 6 + sets[1::2, 0], minlength=36), np.ones(36))


def paired_sets(set_size: int, n_sets: int | None = None, repeat: bool = False) -> tuple[Sets, NDArray[np.int64]]:
    """Groups of 5, 7, 2 and 9 rows; controls are rows from 100: 20 for even groups, 3 for odd ones."""
    pools, groups = pools_of([5, 7, 2, 9])
    controls = Pools.of(np.arange(100, 123), np.repeat([0, 1], [20, 3]), 2)
    return Sets(pools, set_size, n_sets, repeat, controls, np.array([0, 1, 0, 1])), groups


class TestControls:
    @pytest.mark.parametrize("n_sets", [None, 400])
    @pytest.mark.parametrize("set_size", [1, 2, 5])
    def test_they_follow_their_set_and_come_from_its_pool(self, set_size: int, n_sets: int | None) -> None:
        plan, groups = paired_sets(set_size, n_sets)
        for epoch in range(5):
            for members in drawn(plan, (0, epoch)).reshape(-1, 2, set_size):
                (group,) = set(groups[members[0]].tolist())
                pool = range(100, 120) if group % 2 == 0 else range(120, 123)
                assert set(members[1].tolist()) <= set(pool)
                assert len(set(members[1].tolist())) == min(set_size, len(pool))  # distinct as long as it can be
                assert max(Counter(members[1].tolist()).values()) == math.ceil(set_size / len(pool))

    def test_every_control_of_a_pool_comes_as_often_at_every_place(self) -> None:
        plan, groups = paired_sets(2, 20_000)
        sets = drawn(plan).reshape(-1, 2, 2)
        for even, pool in ((0, range(100, 120)), (1, range(120, 123))):
            mine = sets[groups[sets[:, 0, 0]] % 2 == even]
            for place in (0, 1):
                check_shares(np.bincount(mine[:, 1, place], minlength=123)[pool], np.ones(len(pool)))

    def test_controls_do_not_depend_on_the_rows_beside_them(self) -> None:
        controls = Pools.of(np.arange(100, 104), np.zeros(4, int), 1)
        plan = Sets(pools_of([4])[0], 1, 20_000, controls=controls, pool_of=np.zeros(1, np.int64))
        pairs = drawn(plan).reshape(-1, 2)
        check_shares(np.bincount(pairs[:, 0] * 4 + pairs[:, 1] - 100, minlength=16), np.ones(16))


class TestPositions:
    @given(data=st.data(), key=keys, set_size=st.integers(1, 5), repeat=st.booleans())
    def test_any_span_is_a_slice_of_the_whole(
        self, data: Any, key: tuple[int, ...], set_size: int, repeat: bool
    ) -> None:
        n_sets = data.draw(st.sampled_from([None, 1, 30]))
        plan = (
            paired_sets(set_size, n_sets, repeat)[0]
            if data.draw(st.booleans())
            else Sets(pools_of([9, 1, 6])[0], set_size, n_sets, repeat)
        )
        check_slices(plan, key, data)

    def test_blocks_are_the_sets(self) -> None:
        for plan in (paired_sets(2)[0], Sets(pools_of([9, 8])[0], 3)):
            blocks = list(plan.blocks((0, 0)))
            assert {len(block) for block in blocks} == {plan.set_rows}
            assert np.concatenate(blocks).tolist() == drawn(plan, (0, 0)).tolist()

    def test_half_a_billion_rows_in_cost_what_the_first_do(self) -> None:
        plan = paired_sets(5, 10**8)[0]
        begun = time.perf_counter()
        late = plan.epoch((0, 0)).rows(5 * 10**8 + 3, 5 * 10**8 + 1003)
        assert time.perf_counter() - begun < 1
        assert plan.epoch((0, 0)).rows(5 * 10**8 + 8, 5 * 10**8 + 9).tolist() == late[5:6].tolist()
