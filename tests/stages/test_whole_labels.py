"""Whole numbers and booleans as labels: what they group is what the same column as strings groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

import annpipes as ap
from annpipes.errors import ParameterError


def cells(n_obs: int = 240) -> anndata.AnnData:
    rng = np.random.default_rng(2)
    donor = rng.choice([3, 7, 12], n_obs, p=[0.7, 0.2, 0.1])
    flag = rng.random(n_obs) < 0.2
    nullable = pd.array(donor, dtype="Int64")
    nullable[::10] = pd.NA
    obs = {"donor": donor, "flag": flag, "nullable": nullable}
    # The same labels as strings, which sort as the numbers do.
    obs |= {
        "donor_name": [f"{value:02d}" for value in donor],
        "flag_name": flag.astype(str),
        "nullable_name": pd.Categorical([None if pd.isna(value) else f"{value:02d}" for value in nullable]),
    }
    return anndata.AnnData(np.zeros((n_obs, 2), np.float32), pd.DataFrame(obs, index=[f"c{i}" for i in range(n_obs)]))


@pytest.fixture(params=["memory", "file", "files"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    adata = cells()
    if request.param == "memory":
        return adata
    with anndata.settings.override(allow_write_nullable_strings=True):
        adata[:100].copy().write_h5ad(tmp_path / "a.h5ad")
        adata[100:].copy().write_h5ad(tmp_path / "b.h5ad")
        adata.write_h5ad(tmp_path / "all.h5ad")
    return tmp_path / "all.h5ad" if request.param == "file" else [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]


COLUMNS = ["donor", "flag", "nullable"]


@pytest.mark.parametrize("column", COLUMNS)
class TestTheSameAsOfStrings:
    def test_codes(self, source: Any, column: str) -> None:
        fields = [f"obs/{column}:code", f"obs/{column}_name:code"]
        for batch in ap.stream(source, fields=fields):
            assert batch[f"obs_{column}"].tolist() == batch[f"obs_{column}_name"].tolist()

    def test_splits(self, source: Any, column: str) -> None:
        for option in ("stratify", "groupby"):
            parts, named = (ap.split(source, [0.6, 0.4], **{option: name}) for name in (column, f"{column}_name"))
            assert [part.tolist() for part in parts] == [part.tolist() for part in named]

    def test_balance(self, source: Any, column: str) -> None:
        rows = [
            [batch["rows"].tolist() for batch in ap.stream(source, fields=["rows"], balance=name)]
            for name in (column, f"{column}_name")
        ]
        assert rows[0] == rows[1]

    def test_sets(self, source: Any, column: str) -> None:
        pipes = [ap.IndexSource(source).sample_groups(name, 4) for name in (column, f"{column}_name")]
        one, other = ([block.tolist() for block in pipe.set_seed(0)] for pipe in pipes)
        assert one == other


def test_frequencies_are_given_by_the_values_themselves(source: Any) -> None:
    sampler = ap.IndexSource(source).sample_rows(balance="donor", frequencies={7: 1, 12: 3}, num_rows=4000)
    drawn = cells().obs["donor"].iloc[np.concatenate(list(sampler.set_seed(0)))].value_counts(normalize=True)
    assert set(drawn.index) == {7, 12}
    assert abs(drawn[12] - 0.75) < 0.03
    with pytest.raises(ParameterError, match="class '7' of 'donor' has no rows; there are 3, 7, 12"):
        ap.IndexSource(source).sample_rows(balance="donor", frequencies={"7": 1})


def test_a_table_that_was_kept_says_what_codes_are(source: Any) -> None:
    table = ap.IndexSource(source).categories("donor")
    assert table == (3, 7, 12)
    loader = ap.stream(source, fields=["obs/donor:code", "rows"], categories={"donor": [*table, 99][::-1]})
    donors = cells().obs["donor"].to_numpy()
    for batch in loader:
        assert loader.decode("donor", batch["obs_donor"]) == donors[batch["rows"]].tolist()
        assert batch["obs_donor"].tolist() == [(99, 12, 7, 3).index(value) for value in donors[batch["rows"]]]
    with pytest.raises(ParameterError, match=r"'donor' has 1 label that the given categories lack \(12\)"):
        ap.stream(source, fields=["obs/donor:code"], categories={"donor": np.array([3, 7])})
