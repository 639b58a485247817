"""Sets of rows that share their labels, each with matched controls."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from contracts import StageContract, all_rows
from draws import WithReplacement, check_shares, drawn
from numpy.typing import NDArray
from perturbations import GENE, LINE, SHARED, sampler

import annpipes
from annpipes import GroupSampler, IndexSource
from annpipes.errors import FieldError, ParameterError, PipelineError


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
    @pytest.mark.filterwarnings("ignore:.*chooses no row")
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"groupby": "genes"}, FieldError, "no obs column 'genes' in .*; columns: .*gene"),
            ({"groupby": ["gene", "lines"]}, FieldError, "no obs column 'lines'"),
            ({"groupby": "share"}, FieldError, "obs column 'share' holds numbers"),
            ({"groupby": ["gene", 3]}, TypeError, "columns must be names of obs columns, got 3"),
            ({"set_size": 0}, ParameterError, "set_size must be at least 1, got 0"),
            ({"set_size": 2.0}, TypeError, r"set_size must be an integer, got 2\.0"),
            ({"set_size": 45}, ParameterError, "no group has set_size=45 rows, the largest has 44"),
            ({"set_size": 45, "short": "error"}, ParameterError, "4 groups have fewer than set_size=45 rows"),
            ({"short": "fill"}, ParameterError, "short must be one of drop, repeat, error, got 'fill'"),
            ({"num_sets": 4}, ParameterError, "num_sets needs replace=True"),
            ({"num_sets": 0, "replace": True}, ParameterError, "num_sets must be at least 1, got 0"),
            ({"rows": []}, ParameterError, "no row that is not a control has labels in all of gene"),
            ({"rows": range(32, 36)}, ParameterError, "no row that is not a control has labels in all of gene"),
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
            ({"control": np.ones(80, bool)}, ParameterError, "no row that is not a control has labels"),
        ],
    )
    def test_a_wrong_argument_is_named(self, options: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message) as refusal:
            sampler(**options)
        assert isinstance(refusal.value, annpipes.AnnpipesError)

    def test_it_follows_a_source_alone(self) -> None:
        with pytest.raises(PipelineError, match="sample_groups must follow an IndexSource, got IndexSource"):
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


def test_a_plain_pass_over_the_sampler_hands_on_sets() -> None:
    stage = sampler("gene", 3, control="gene == 'control'")
    sets = list(stage.set_seed(5))
    assert all(len(members) == stage.set_rows == 6 for members in sets)
    assert all_rows(sets) == all_rows(stage.set_seed(5)) != all_rows(stage.set_seed(6))
