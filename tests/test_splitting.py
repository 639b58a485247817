"""Disjoint sets of rows, counted by pandas."""

from __future__ import annotations

from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import annpipes as ap


def cells(n_obs: int, n_donors: int = 5) -> anndata.AnnData:
    rng = np.random.default_rng(n_obs)
    obs = pd.DataFrame(
        {
            "donor": pd.Categorical([f"d{i}" for i in rng.integers(0, n_donors, n_obs)]),
            "cell_type": pd.Categorical(rng.choice(["B", "T", "NK"], n_obs, p=[0.6, 0.3, 0.1])),
            "n": np.arange(n_obs),
            "share": np.arange(n_obs) / 7,
        },
        index=[f"c{i}" for i in range(n_obs)],
    )
    return anndata.AnnData(np.zeros((n_obs, 2), np.float32), obs)


@given(st.integers(0, 60), st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 3))
def test_every_row_is_in_exactly_one_set(n_obs: int, weights: list[int], seed: int) -> None:
    fractions = [weight / sum(weights) for weight in weights]
    parts = ap.split(cells(n_obs), fractions, seed=seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(n_obs))
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - fraction * n_obs) <= 1


def test_a_seed_gives_one_split_and_another_seed_another() -> None:
    adata = cells(100)
    first, again, other = (ap.split(adata, [0.5, 0.5], seed=seed)[0].tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_no_group_is_in_two_sets_and_shares_are_nearly_met() -> None:
    adata = cells(2000, n_donors=40)
    parts = ap.split(adata, {"train": 0.8, "val": 0.1, "test": 0.1}, groupby="donor")
    donors = [set(adata.obs["donor"].iloc[rows]) for rows in parts.values()]
    assert not donors[0] & donors[1] | donors[0] & donors[2] | donors[1] & donors[2]
    assert [len(rows) / 2000 for rows in parts.values()] == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


@pytest.mark.parametrize("by", [None, "donor"])
def test_labels_have_the_same_shares_in_every_set(by: str | None) -> None:
    adata = cells(3000, n_donors=100)
    whole = adata.obs["cell_type"].value_counts(normalize=True)
    for rows in ap.split(adata, [0.7, 0.3], groupby=by, stratify="cell_type"):
        shares = adata.obs["cell_type"].iloc[rows].value_counts(normalize=True)
        assert (shares - whole).abs().max() < (0.002 if by is None else 0.03)


@pytest.mark.parametrize("by", [None, "donor"])
def test_only_the_rows_that_were_asked_for_are_divided_and_their_labels_have_the_same_shares(by: str | None) -> None:
    adata = cells(3000, n_donors=100)
    adata.obs.loc[adata.obs["n"] % 7 == 3, "cell_type"] = None
    parts = ap.split(adata, [0.7, 0.3], groupby=by, stratify="cell_type", rows="cell_type.notna()")
    assert sorted(np.concatenate(parts).tolist()) == np.flatnonzero(adata.obs["cell_type"].notna()).tolist()
    whole = adata.obs["cell_type"].value_counts(normalize=True)
    for rows in parts:
        shares = adata.obs["cell_type"].iloc[rows].value_counts(normalize=True)
        assert (shares - whole).abs().max() < (0.002 if by is None else 0.03)


def test_a_row_that_is_named_twice_is_in_one_set() -> None:
    one, other = ap.split(cells(10), [0.5, 0.5], rows=[7, 3, 7, 3, 1, 0])
    assert sorted([*one, *other]) == [0, 1, 3, 7]


@pytest.mark.parametrize(
    ("fractions", "options", "error", "message"),
    [
        ([0.5, 0.4], {}, ap.errors.ParameterError, "add up to 1"),
        ([1.5, -0.5], {}, ap.errors.ParameterError, "positive"),
        ([], {}, ap.errors.ParameterError, "add up to 1"),
        ([0.5, 0.5], {"groupby": "patient"}, ap.errors.FieldError, "no obs column"),
        ([0.5, 0.5], {"stratify": "share"}, ap.errors.FieldError, "holds numbers"),
        ([0.2] * 5, {"groupby": "cell_type"}, ap.errors.ParameterError, "5 sets need at least as many groups"),
        ([20, 30], {"rows": range(40)}, ap.errors.ParameterError, "add up to the 40 rows"),
        ([0.5, 0.5], {"seed": -1}, ap.errors.ParameterError, "seed must be at least 0"),
    ],
)
def test_what_cannot_be_split_is_refused(fractions: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ap.split(cells(50), fractions, **options)


@pytest.mark.parametrize("expression", ["cell_type == 'B' and n > 10", "donor in ['d1', 'd2'] or n < 3", "n % 2 == 0"])
def test_rows_by_expression_are_those_of_pandas(expression: str) -> None:
    adata = cells(80)
    expected = np.flatnonzero(adata.obs.eval(expression, engine="python"))
    assert np.concatenate([*ap.IndexSource(adata, rows=expression)]).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("expression", "message"),
    [("age > 3", "mentions no obs column"), ("n + 1", "true or false for each row"), ("n >", "cannot be evaluated")],
)
def test_an_expression_that_chooses_nothing_is_refused(expression: str, message: str) -> None:
    with pytest.raises(ap.errors.ParameterError, match=message):
        ap.IndexSource(cells(10), rows=expression)


def test_a_column_whose_name_is_not_one_word_is_named_with_backticks() -> None:
    adata = cells(10)
    adata.obs["cell type"] = adata.obs["cell_type"]
    with pytest.raises(ap.errors.ParameterError, match=r"stand in backticks: `cell type`$"):
        ap.IndexSource(adata, rows="cell type == 'B'")
    expected = np.flatnonzero(adata.obs["cell_type"] == "B").tolist()
    assert list(ap.IndexSource(adata, rows="`cell type` == 'B'").plan.row_set) == expected
