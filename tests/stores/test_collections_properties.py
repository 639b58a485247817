"""Any few files, joined in any way, any rows of them: what anndata.concat has."""

from __future__ import annotations

from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from builders import dense, expected_column, write
from contracts import chunk_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import sparse
from small_collections import concatenated

from annpipes import Collection
from annpipes.errors import ParameterError

GENES = list("abcde")
KINDS = st.sampled_from(["float32", "float64", "int32", "int64", "uint8"])
LABELS = st.one_of(st.none(), st.sampled_from(["x", "y", "é", "1"]))


@st.composite
def parts(draw: Any, number: int) -> anndata.AnnData:
    """A few rows, perhaps none, of some of the genes in any order."""
    n_obs = draw(st.integers(0, 4))
    genes = draw(st.lists(st.sampled_from(GENES), min_size=1, unique=True))
    numbers = arrays.arrays(draw(KINDS), (n_obs, len(genes)), elements=st.integers(0, 9), fill=st.just(0))
    values = draw(numbers)
    labels = draw(st.lists(LABELS, min_size=n_obs, max_size=n_obs))
    column = draw(
        st.sampled_from(
            [
                pd.Categorical(labels, draw(st.permutations(["x", "y", "é", "1"]))),
                np.array([str(label) for label in labels], object),
                np.arange(n_obs),
            ]
        )
    )
    obs = pd.DataFrame({"label": column}, index=[f"{number}-{i}" for i in range(n_obs)])
    x = draw(st.sampled_from([np.asarray, sparse.csr_matrix, sparse.csr_array]))(values)
    layers = {"l": draw(st.sampled_from([np.asarray, sparse.csr_matrix]))(values + 1)}
    return anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=genes), layers=layers)


@st.composite
def requests(draw: Any) -> tuple[list[anndata.AnnData], Any, list[int], list[int]]:
    """Parts, a join, rows, and genes of the join."""
    adatas = [draw(parts(number)) for number in range(draw(st.integers(1, 4)))]
    union = sorted({gene for adata in adatas for gene in adata.var_names})
    join = draw(
        st.one_of(st.sampled_from(["inner", "outer"]), st.lists(st.sampled_from(union), min_size=1, unique=True))
    )
    n_obs = sum(adata.n_obs for adata in adatas)
    drawn = draw(st.lists(st.integers(0, n_obs - 1), max_size=12)) if n_obs else []
    return adatas, join, drawn, draw(st.lists(st.integers(0, 4), unique=True))


def check(data: list[Any], adatas: list[anndata.AnnData], join: Any, drawn: list[int], chosen: list[int]) -> None:
    if join == "inner" and not set.intersection(*(set(adata.var_names) for adata in adatas)):
        with pytest.raises(ParameterError, match="no gene is in all"):
            Collection(data)
        return
    store, expected = Collection(data, join=join), concatenated(adatas, join)
    assert store.var_names.tolist() == store.var.index.tolist() == expected.var_names.tolist()
    assert store.n_obs == expected.n_obs
    genes = np.array([gene for gene in chosen if gene < store.n_vars], np.int64)
    read = store.read(chunk_of(drawn), ["X", "layers/l", "obs_names", "obs/label", "file"])
    some = store.read(chunk_of(drawn), ["X", "layers/l"], store.genes(genes))
    for key, values in {"X": expected.X, "layers_l": expected.layers["l"]}.items():
        np.testing.assert_array_equal(dense(read[key]), dense(values)[drawn])
        np.testing.assert_array_equal(dense(some[key]), dense(values)[drawn][:, genes])
    assert read["obs_names"].tolist() == expected.obs_names[drawn].tolist()
    assert [f"{number}" for number in read["file"]] == [name.split("-")[0] for name in read["obs_names"]]
    # Numbers here and labels there are strings with us; pandas decides by whether a file has rows.
    labels = [str(label) for label in expected_column(expected.obs["label"])[drawn]]
    assert [str(label) for label in read["obs_label"]] == labels
    if any(not pd.api.types.is_integer_dtype(adata.obs["label"].dtype) for adata in adatas):
        codes = store.read(chunk_of(drawn), ["obs/label:code"])["obs_label"]
        assert [(*store.categories("label"), "")[code] for code in codes] == labels


@given(request=requests())
def test_any_rows_of_any_objects_in_memory(request: tuple[list[anndata.AnnData], Any, list[int], list[int]]) -> None:
    adatas, *rest = request
    check(adatas, adatas, *rest)


@given(request=requests(), in_memory=st.integers(-1, 3), compression=st.sampled_from([None, "gzip"]))
def test_any_rows_of_any_files(
    tmp_path_factory: pytest.TempPathFactory,
    request: tuple[list[anndata.AnnData], Any, list[int], list[int]],
    in_memory: int,
    compression: str | None,
) -> None:
    adatas, *rest = request
    folder = tmp_path_factory.mktemp("any")
    data = [
        adata if number == in_memory else write(adata, folder / f"{number}.h5ad", compression)
        for number, adata in enumerate(adatas)
    ]
    check(data, adatas, *rest)
