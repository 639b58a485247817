"""Sets of rows that share a group, and controls that match it."""

from __future__ import annotations

import math
import time
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from builders import adata_of, dense, tiny, write
from contracts import StageContract, all_rows
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare
from test_samples import WithReplacement, check_shares, check_slices, drawn

import annpipes
from annpipes import ControlPairer, GroupSampler, IndexSource, Loader
from annpipes.errors import FieldError, ParameterError, PipelineError
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


def perturbed() -> anndata.AnnData:
    """80 cells: perturbed A (20), B (9), C (3), unknown (4), control (44); lines x and y in turn, C in x alone."""
    adata = tiny(80)
    genes = np.array(["A"] * 20 + ["B"] * 9 + ["C"] * 3 + [None] * 4 + ["control"] * 44, object)
    lines = np.array(["x", "y"], object)[np.arange(80) % 2]
    lines[29:32] = "x"
    adata.obs["gene"] = pd.Categorical(genes, ["A", "B", "C", "never seen", "control"])
    adata.obs["line"] = pd.Categorical(lines)
    adata.obs["lane"] = pd.Categorical(np.where(np.arange(80) % 5 == 4, None, "l"), ["l"])
    return adata


SHARED = perturbed()
GENE, LINE = SHARED.obs["gene"].astype(object).to_numpy(), SHARED.obs["line"].astype(object).to_numpy()


def sampler(groupby: Any = "gene", set_size: int = 4, rows: Any = None, **options: Any) -> GroupSampler:
    return IndexSource(SHARED, rows=rows, block_size=8).sample_groups(groupby, set_size, **options)


def sets_of(stage: GroupSampler, epoch: int = 0) -> NDArray[np.int64]:
    return drawn(stage.plan, (0, epoch)).reshape(-1, stage.set_rows)


class TestGroups:
    def test_rows_of_a_set_share_the_column(self) -> None:
        sets = sets_of(sampler())
        assert Counter(GENE[sets[:, 0]].tolist()) == {"A": 5, "B": 2, "control": 11}
        assert (GENE[sets] == GENE[sets[:, :1]]).all()
        assert len(set(sets.ravel().tolist())) == sets.size

    def test_rows_of_a_set_share_all_columns(self) -> None:
        sets = sets_of(sampler(["gene", "line", "lane"], 2))
        kinds = SHARED.obs[["gene", "line", "lane"]].astype(object)
        counted = kinds.dropna().value_counts() // 2
        assert Counter(kinds.iloc[sets[:, 0]].itertuples(index=False, name=None)) == {
            kind: count for kind, count in counted.items() if count
        }
        for members in sets:
            assert len(kinds.iloc[members].drop_duplicates()) == 1

    @pytest.mark.parametrize("chunk_size", [1, 4, 10, 19])
    def test_no_chunk_cuts_a_set_apart(self, chunk_size: int) -> None:
        # A plain DataLoader deals whole chunks out to its workers, each of which makes batches of its own.
        chunks = list(sampler().sort_within_chunks(chunk_size))
        assert {len(chunk) % 4 for chunk in chunks} == {0}
        for chunk in chunks:
            members = GENE[chunk.drawn].reshape(-1, 4)
            assert (members == members[:, :1]).all()

    def test_short_groups_are_left_out_or_filled_up(self) -> None:
        assert "C" not in GENE[sets_of(sampler(short="drop"))]
        repeated = sets_of(sampler(short="repeat"))
        assert Counter(GENE[repeated[:, 0]].tolist()) == {"A": 5, "B": 3, "C": 1, "control": 11}
        assert set(repeated.ravel().tolist()) == set(np.flatnonzero(pd.notna(GENE)).tolist())

    def test_short_groups_are_an_error_if_that_is_asked_for(self) -> None:
        with pytest.raises(
            ParameterError, match="1 groups have fewer than set_size=4 rows, the smallest 3; short='drop'"
        ):
            sampler(short="error")
        assert Counter(GENE[sets_of(sampler(set_size=3, short="error"))[:, 0]].tolist())["C"] == 1

    def test_as_many_sets_with_replacement_as_without_or_as_asked_for(self) -> None:
        assert sampler(replace=True).plan.total == sampler().plan.total == 18
        assert len(sets_of(sampler(replace=True, num_sets=7))) == 7
        assert sampler(replace=True, set_size=100).plan.total == 1

    def test_groups_come_equally_often_with_replacement(self) -> None:
        genes = GENE[sets_of(sampler(replace=True, num_sets=10_000))[:, 0]]
        check_shares([np.count_nonzero(genes == gene) for gene in ("A", "B", "C", "control")], np.ones(4))

    def test_the_rows_chosen_make_the_groups(self) -> None:
        chosen = [0, 5, 5, 5, 70, 71, 72, 73, 30]
        sets = sets_of(sampler(rows=chosen))
        assert sorted(sets.ravel().tolist()) == [0, 5, 5, 5, 70, 71, 72, 73]


class TestMatchedControls:
    @pytest.mark.parametrize("control", ["gene == 'control'", GENE == "control", np.flatnonzero(GENE == "control")])
    @pytest.mark.parametrize("replace", [False, True])
    def test_they_are_controls_and_share_the_columns_of_match(self, control: Any, replace: bool) -> None:
        stage = sampler(["gene", "line"], 2, control=control, match="line", replace=replace)
        for epoch in range(4):
            sets = sets_of(stage, epoch).reshape(-1, 2, 2)
            targets, controls = sets[:, 0], sets[:, 1]
            assert (GENE[controls] == "control").all()
            assert not (GENE[targets] == "control").any()
            assert (LINE[controls] == LINE[targets]).all()
            assert (GENE[targets] == GENE[targets[:, :1]]).all()
            assert (controls[:, 0] != controls[:, 1]).all()

    def test_without_match_any_control_will_do(self) -> None:
        stage = sampler("gene", 3, control="gene == 'control'")
        met = {row for epoch in range(20) for row in sets_of(stage, epoch)[:, 3:].ravel().tolist()}
        assert met == set(np.flatnonzero(GENE == "control").tolist())

    def test_several_columns_match(self) -> None:
        stage = sampler(["gene", "line", "lane"], 1, control="gene == 'control'", match=["lane", "line"])
        sets = sets_of(stage)
        lanes = SHARED.obs["lane"].astype(object).to_numpy()
        assert (LINE[sets[:, 0]] == LINE[sets[:, 1]]).all()
        assert (lanes[sets] == "l").all()

    def test_a_pool_that_is_too_small_gives_controls_twice(self) -> None:
        sets = sets_of(sampler("gene", 4, rows=[*range(8), 40, 41, 42], control="gene == 'control'"))
        for members in sets:
            assert sorted(Counter(members[4:].tolist()).values()) == [1, 1, 2]

    def test_a_group_without_controls_is_named_or_left_out(self) -> None:
        rows = np.flatnonzero((GENE != "control") | (LINE == "y"))  # no control in line x
        options = {"rows": rows, "control": "gene == 'control'", "match": "line"}
        with pytest.raises(
            ParameterError, match=r"3 of 5 groups have no matching control, such as gene='A', line='x'; missing='drop'"
        ):
            sampler(["gene", "line"], 2, **options)
        sets = sets_of(sampler(["gene", "line"], 2, missing="drop", **options))
        assert set(LINE[sets].ravel().tolist()) == {"y"}
        assert set(GENE[sets[:, :2]].ravel().tolist()) == {"A", "B"}

    def test_no_group_with_controls_is_told_so(self) -> None:
        rows = [*range(0, 20, 2), 41, 43]  # A in line x, controls in line y
        options = {"rows": rows, "control": "gene == 'control'", "match": "line", "missing": "drop"}
        with pytest.raises(ParameterError, match="matching control"):
            sampler(["gene", "line"], 2, **options)


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"groupby": "genes"}, FieldError, "no obs column 'genes' in .*; columns: .*gene"),
            ({"groupby": ["gene", "lines"]}, FieldError, "no obs column 'lines'"),
            ({"groupby": "number"}, FieldError, "obs column 'number' holds numbers"),
            ({"groupby": ["gene", 3]}, TypeError, "columns must be names of obs columns, got 3"),
            ({"set_size": 0}, ParameterError, "set_size must be at least 1, got 0"),
            ({"set_size": 2.0}, TypeError, r"set_size must be an integer, got 2\.0"),
            ({"set_size": 45}, ParameterError, "no group has set_size=45 rows, the largest has 44"),
            ({"set_size": 45, "short": "error"}, ParameterError, "4 groups have fewer than set_size=45 rows"),
            ({"short": "fill"}, ParameterError, "short must be one of drop, repeat, error, got 'fill'"),
            ({"num_sets": 4}, ParameterError, "num_sets needs replace=True"),
            ({"num_sets": 0, "replace": True}, ParameterError, "num_sets must be at least 1, got 0"),
            ({"rows": []}, ParameterError, "no row has labels in all of gene"),
            ({"rows": range(32, 36)}, ParameterError, "no row has labels in all of gene"),
            ({"match": "gene"}, ParameterError, "match and missing say how controls are chosen, so they need control="),
            ({"control": "gene == 'none'"}, ParameterError, "control=.* is true for no row"),
            ({"missing": "drop"}, ParameterError, "match and missing say .* need control="),
            (
                {"control": "genes == 'control'"},
                ParameterError,
                "control=.* mentions no obs column of .*; columns: .*gene",
            ),
            ({"control": [80]}, IndexError, r"control must lie in 0 … 79 \(80 rows\), got 80"),
            ({"control": np.ones(3, bool)}, ParameterError, "control is a mask of length 3, but there are 80 rows"),
            (
                {"control": "gene == 'control'", "match": "line"},
                ParameterError,
                r"match has 'line', which is not in groupby \(gene\)",
            ),
            ({"control": "gene == 'control'", "match": "lines"}, ParameterError, "match has 'lines', which is not in"),
            ({"control": "gene == 'control'", "missing": "skip"}, ParameterError, "missing must be 'error' or 'drop'"),
            ({"control": np.ones(80, bool)}, ParameterError, "no row .* is no control"),
        ],
    )
    def test_a_wrong_argument_is_named(self, options: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message) as refusal:
            sampler(**options)
        assert isinstance(refusal.value, annpipes.AnnpipesError)

    def test_it_follows_a_source_alone(self) -> None:
        with pytest.raises(PipelineError, match="sample_groups follows an IndexSource, got IndexSource"):
            IndexSource(SHARED).shuffle_blocks().sample_groups("gene", 4)


class TestGroupSampler(StageContract):
    """In sets of one every row of a column without missing labels comes once."""

    shuffled = True

    def chained(self, path: Path) -> Any:
        return IndexSource(path, block_size=4).sample_groups("donor", 1)

    def constructed(self, path: Path) -> Any:
        return GroupSampler(IndexSource(path, block_size=4), "donor", 1)

    def complete(self, pipe: Any) -> Any:
        return pipe.sort_within_chunks(5)


class TestGroupSamplerWithReplacement(WithReplacement):
    def n_rows(self, path: Path) -> int:
        return 30

    def chained(self, path: Path) -> Any:
        return IndexSource(path, block_size=4).sample_groups(["donor", "stage"], 3, replace=True, num_sets=10)

    def constructed(self, path: Path) -> Any:
        return GroupSampler(IndexSource(path, block_size=4), ["donor", "stage"], 3, replace=True, num_sets=10)


OPTIONS = {"replace": True, "num_sets": 12, "control": "stage == 'late'", "match": "donor"}


class TestControlPairer(WithReplacement):
    """Of an epoch's 48 rows half are controls, and in fields of their own."""

    def n_rows(self, path: Path) -> int:
        return 24

    def read(self, path: Path) -> Any:
        sets = IndexSource(path, block_size=4).sample_groups(["donor", "lane"], 2, **OPTIONS)
        return sets.sort_within_chunks(8).read_rows(["rows", "X"]).batch_rows(8)

    def chained(self, path: Path) -> Any:
        return self.read(path).pair_controls()

    def constructed(self, path: Path) -> Any:
        return ControlPairer(self.read(path))

    def complete(self, pipe: Any) -> Any:
        return pipe


@pytest.fixture(scope="module", params=["dense", "csr"])
def cells(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, anndata.AnnData]:
    """A file of 29 cells, and what anndata holds of it."""
    path = write(adata_of(x=request.param), tmp_path_factory.mktemp("pairs") / "cells.h5ad", "gzip")
    return path, anndata.read_h5ad(path)


class TestPairs:
    FIELDS = ("X", "layers/counts", "obsm/X_pca", "obs/donor", "obs/stage:code", "obs/int32", "rows", "obs_names")

    @pytest.mark.parametrize("x", ["dense", "csr"])
    @pytest.mark.parametrize("batch_size", [4, 8, 20])
    @pytest.mark.parametrize("workers", [0, 2])
    def test_every_field_of_a_control_is_anndatas_and_matches_its_row(
        self, cells: tuple[Path, anndata.AnnData], x: str, batch_size: int, workers: int
    ) -> None:
        path, adata = cells
        sets = IndexSource(path).sample_groups(["donor", "lane"], 2, **OPTIONS)
        read = sets.sort_within_chunks(16).read_rows(self.FIELDS).batch_rows(batch_size)
        loader = Loader(read.pair_controls().collate_rows(form=x), num_workers=workers)
        expected = dense(adata.X), dense(adata.layers["counts"]), adata.obsm["X_pca"]
        codes = pd.Categorical(adata.obs["stage"]).codes
        drawn_rows = drawn(sets.plan).reshape(-1, 2, 2)
        seen: list[int] = []
        for batch in loader:
            for prefix in ("", "control_"):
                rows = batch[f"{prefix}rows"].numpy()
                assert len(rows) <= batch_size // 2
                for key, values in zip(("X", "layers_counts", "obsm_X_pca"), expected, strict=True):
                    found = batch[f"{prefix}{key}"]
                    found = found.to_dense() if hasattr(found, "to_dense") else found
                    np.testing.assert_allclose(np.asarray(found), values[rows], rtol=1e-6)
                assert list(batch[f"{prefix}obs_donor"]) == adata.obs["donor"].iloc[rows].tolist()
                assert batch[f"{prefix}obs_stage"].tolist() == codes[rows].tolist()
                assert batch[f"{prefix}obs_int32"].tolist() == adata.obs["int32"].iloc[rows].tolist()
                assert list(batch[f"{prefix}obs_names"]) == adata.obs_names[rows].tolist()
            assert list(batch["obs_donor"]) == list(batch["control_obs_donor"])
            assert set(adata.obs["stage"].iloc[batch["control_rows"].numpy()]) == {"late"}
            assert set(adata.obs["stage"].iloc[batch["rows"].numpy()]) == {"early"}
            seen += (
                np.stack([batch["rows"], batch["control_rows"]], axis=1)
                .reshape(-1, 2, 2)
                .swapaxes(1, 2)
                .ravel()
                .tolist()
            )
        assert seen == drawn_rows.ravel().tolist()

    def test_a_plain_pass_gives_the_same_pairs(self, cells: tuple[Path, anndata.AnnData]) -> None:
        path, adata = cells
        sets = IndexSource(path).sample_groups(["donor", "lane"], 2, **OPTIONS)
        pipe = sets.sort_within_chunks(7).read_rows(["X", "rows", "obs/donor"]).batch_rows(8).pair_controls()
        for batch in pipe:  # chunks of 7 cut sets, which the batcher puts together again
            donors = adata.obs["donor"].to_numpy()
            assert donors[batch["rows"]].tolist() == donors[batch["control_rows"]].tolist()
            np.testing.assert_array_equal(dense(batch["control_X"]), dense(adata.X)[batch["control_rows"]])

    @pytest.mark.parametrize("tail", ["drop", "repeat", "fill"])
    def test_rows_that_fill_up_the_last_batch_are_pairs_too(self, tail: str) -> None:
        stage = sampler("gene", 3, control="gene == 'control'", short="repeat")
        read = stage.sort_within_chunks(48).read_rows(["rows"]).batch_rows(24).pair_controls()
        for batch in Loader(read.collate_rows(), tail=tail):
            assert len(batch["rows"]) == len(batch["control_rows"]) == 12
            assert "control" not in GENE[batch["rows"]]
            assert set(GENE[batch["control_rows"]]) == {"control"}

    @pytest.mark.parametrize("options", [{}, {"control": "gene == 'control'"}], ids=["sets", "with controls"])
    def test_batches_that_cut_sets_are_refused(self, options: dict[str, Any]) -> None:
        stage = sampler("gene", 3, **options)
        read = stage.sort_within_chunks(24).read_rows(["rows"])
        for batch_size in (1, 2, 4, stage.set_rows + 1, 3 * stage.set_rows - 1):
            with pytest.raises(
                PipelineError,
                match=f"batch_rows must take whole sets, a multiple of {stage.set_rows} rows, got {batch_size}, after",
            ):
                read.batch_rows(batch_size)
        assert {len(batch) for batch in read.batch_rows(stage.set_rows)} == {stage.set_rows}

    @pytest.mark.parametrize(
        "pipe",
        [
            IndexSource(SHARED).shuffle_blocks().sort_within_chunks(8).read_rows(["rows"]).batch_rows(4),
            sampler("gene", 2).sort_within_chunks(8).read_rows(["rows"]).batch_rows(4),
            sampler("gene", 2, control="gene == 'control'").sort_within_chunks(8).read_rows(["rows"]),
        ],
        ids=["no sets", "no controls", "no batches"],
    )
    def test_a_pipe_without_pairs_is_refused(self, pipe: Any) -> None:
        with pytest.raises(PipelineError, match=r"pair_controls needs a pipe with sample_groups\(…, control=…\)"):
            pipe.pair_controls()


def test_a_plain_pass_over_the_sampler_hands_on_sets() -> None:
    stage = sampler("gene", 3, control="gene == 'control'")
    sets = list(stage.set_seed(5))
    assert all(len(members) == stage.set_rows == 6 for members in sets)
    assert all_rows(sets) == all_rows(stage.set_seed(5)) != all_rows(stage.set_seed(6))
