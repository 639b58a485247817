"""Expressions that choose no row, or name labels that no row has: pandas' rows, and a warning that helps."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from builders import write

import annpipes as ap

OBS = pd.DataFrame(
    {
        "split": pd.Categorical(["train", "train", "val", "test"], ["train", "val", "test", "spare"]),
        "cell type": ["B", "T", "T", "NK"],
        "leiden": pd.Categorical(["1", "2", "2", "10"]),
        "cluster": pd.Categorical([1, 2, 2, 10]),
        "donor": [3, 7, 7, 12],
        "score": [0.5, 1.5, 2.5, 3.5],
    },
    index=list("abcd"),
)


@pytest.fixture(params=["memory", "file"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    adata = anndata.AnnData(np.ones((4, 2), np.float32), obs=OBS)
    return adata if request.param == "memory" else write(adata, tmp_path / "cells.h5ad")


NO_ROW = {
    "split == 'training'": r"it chooses no row of .*; no row of .* has 'training' in 'split': did you mean 'train'\?",
    "split == 'Val'": r"it chooses no row .* has 'Val' in 'split': did you mean 'val'\?",
    "split in ['fold 1', 'fold 2']": r"has 'fold 1' in 'split': it has 'train', 'val', 'test', 'spare'; .*'fold 2'",
    "`cell type` == 'Tcell'": r"no row of .* has 'Tcell' in 'cell type'",
    "leiden == 1": r"no row of .* has 1 in 'leiden': did you mean '1'\?",
    "cluster == '10'": r"no row of .* has '10' in 'cluster': did you mean 10\?",
    "donor == '12'": r"no row of .* has '12' in 'donor': did you mean 12\?",
    "split.isin(['training'])": r"did you mean 'train'\?",
    "'training' == split": r"did you mean 'train'\?",
    "split == 'spare'": r"it chooses no row of [^;]*$",
    "score > 100": r"it chooses no row of [^;]*$",
    "donor == 99": r"it chooses no row of [^;]*$",
}


@pytest.mark.parametrize("expression", NO_ROW)
def test_an_expression_that_chooses_no_row_says_so(data: Any, expression: str) -> None:
    with pytest.warns(UserWarning, match=NO_ROW[expression]):
        loader = ap.stream(data, rows=expression)
    assert list(loader) == []
    assert len(OBS.query(expression)) == 0


SOME_ROWS = {
    "split in ['train', 'validation']": "no row of .* has 'validation' in 'split'",
    "split != 'training'": "no row of .* has 'training' in 'split': did you mean 'train'",
    "split == 'train' or `cell type` == 'b'": "has 'b' in 'cell type': did you mean 'B'",
    "leiden != 2": "no row of .* has 2 in 'leiden': did you mean '2'",
}


@pytest.mark.parametrize("expression", SOME_ROWS)
def test_a_label_that_no_row_has_is_told_where_others_choose_rows(data: Any, expression: str) -> None:
    with pytest.warns(UserWarning, match=SOME_ROWS[expression]):
        dataset = ap.AnnDataset(data, obs_subset=expression, fields=["obs_names"])
    assert [item["obs_names"] for item in dataset] == OBS.query(expression).index.tolist()


@pytest.mark.parametrize(
    "expression",
    [
        "split == 'train'",
        "split in ['val', 'test']",
        "`cell type` != 'B'",
        "leiden == '10'",
        "cluster == 2",
        "donor != 99",
        "score == 1.5 or score == 77",
        "index == 'a' and split != 'spare'",
        "`cell type`.str.contains('K')",
    ],
)
def test_nothing_is_told_of_what_is_right(data: Any, expression: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ap.IndexSource(data, rows=expression).plan.n_rows == len(OBS.query(expression))


@pytest.mark.parametrize("rows", [[], np.zeros(4, bool), np.flatnonzero(OBS["split"] == "training"), OBS.index[:0]])
def test_other_choices_of_no_row_say_so_too(data: Any, rows: Any) -> None:
    with pytest.warns(UserWarning, match=r"rows chooses no row of .*, which has 4"):
        assert len(ap.stream(data, rows=rows)) == 0
    with pytest.warns(UserWarning, match=r"obs_subset chooses no row of .*, which has 4"):
        assert len(ap.AnnDataset(data, obs_subset=rows)) == 0


def test_data_without_rows_is_no_mistake() -> None:
    nothing = anndata.AnnData(np.ones((0, 2), np.float32))
    assert len(ap.stream(nothing, rows=[])) == 0


def test_the_warning_shows_the_line_that_chose() -> None:
    with pytest.warns(UserWarning, match="chooses no row") as told:
        ap.stream(anndata.AnnData(np.ones((4, 2), np.float32)), rows=[])
    assert told[0].filename == __file__


def test_one_equals_sign_is_told(data: Any) -> None:
    with pytest.raises(ap.errors.ParameterError, match=r"split = 'train'.* is a statement.*; did you mean ==\?"):
        ap.stream(data, rows="split = 'train'")
