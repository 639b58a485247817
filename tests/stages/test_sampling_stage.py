"""The stage that samples: what every stage promises, any slice of an epoch, and what it refuses."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from draws import LABELLED, ROUND, WithReplacement, check_slices, mixed, weighted
from hypothesis import given
from hypothesis import strategies as st

import annpipes
from annpipes import IndexSource, RowSampler
from annpipes.errors import FieldError, ParameterError, PipelineError
from annpipes.plans.order import BlockShuffled, InOrder

keys = st.tuples(st.integers(0, 2**40), st.integers(0, 9))


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
            ({"weights": "donor"}, FieldError, "'donor' holds labels, not weights: did you mean balance='donor'"),
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

    @pytest.mark.filterwarnings("ignore:.*chooses no row")
    @pytest.mark.parametrize("options", [{"weights": np.ones(60)}, {"balance": "donor"}])
    def test_a_source_without_rows(self, options: dict[str, Any]) -> None:
        with pytest.raises(ParameterError, match="there are no rows to draw from"):
            IndexSource(LABELLED, rows=[]).sample_rows(**options)

    def test_classes_outside_the_rows_chosen_have_no_rows(self) -> None:
        with pytest.raises(ParameterError, match="class 'B' of 'cell_type' has no rows; there are T"):
            IndexSource(LABELLED, rows=range(40)).sample_rows(balance="cell_type", frequencies={"B": 1})

    def test_it_follows_a_source_alone(self) -> None:
        with pytest.raises(PipelineError, match=r"sample_rows must follow an IndexSource, got .*shuffle_blocks"):
            IndexSource(LABELLED).shuffle_blocks().sample_rows(balance="donor")
