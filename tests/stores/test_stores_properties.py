"""Any small AnnData, any rows of it: a store gives what anndata gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from builders import dense, expected_column, write
from contracts import chunk_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import sparse

from annpipes.stores import Store, open_store

LABELS = st.one_of(st.none(), st.text("abü ", max_size=3))
KINDS = st.sampled_from(["float32", "float64", "int32", "int64", "uint16", "uint8", "bool"])


@st.composite
def columns(draw: Any, n_obs: int) -> Any:
    """An obs column of any kind."""
    numbers = draw(arrays.arrays(draw(KINDS), n_obs))
    choices = [
        numbers,
        pd.array([None if draw(st.booleans()) else int(i) for i in range(n_obs)], dtype="Int64"),
        pd.array([None if draw(st.booleans()) else i % 2 == 0 for i in range(n_obs)], dtype="boolean"),
        pd.Categorical(draw(st.lists(LABELS, min_size=n_obs, max_size=n_obs))),
        [f"{i} {label}" for i, label in enumerate(draw(st.lists(LABELS, min_size=n_obs, max_size=n_obs)))],
    ]
    return draw(st.sampled_from(choices))


@st.composite
def adatas(draw: Any) -> anndata.AnnData:
    """A small AnnData: any shape, any values, many zeros, X dense or CSR."""
    n_obs, n_vars = draw(st.integers(1, 9)), draw(st.integers(1, 6))
    kind = draw(KINDS)
    values = draw(arrays.arrays(kind, (n_obs, n_vars), fill=st.just(0)))
    obs = pd.DataFrame({f"c{i}": draw(columns(n_obs)) for i in range(2)}, index=[f"n{i}" for i in range(n_obs)])
    x = draw(st.sampled_from([np.asarray, sparse.csr_matrix]))(values)
    return anndata.AnnData(x, obs=obs, obsm={"e": values.astype(float)})


def compare(store: Store, adata: anndata.AnnData, drawn: list[int]) -> None:
    read = store.read(chunk_of(drawn), ["X", "obsm/e", "obs/c0", "obs/c1", "obs_names"])
    np.testing.assert_array_equal(dense(read["X"]), dense(adata.X)[drawn])
    np.testing.assert_array_equal(read["obsm_e"], adata.obsm["e"][drawn])
    assert read["obs_names"].tolist() == adata.obs_names[drawn].tolist()
    for column in ("c0", "c1"):
        np.testing.assert_array_equal(read[f"obs_{column}"], expected_column(adata.obs[column])[drawn])


@st.composite
def requests(draw: Any) -> tuple[anndata.AnnData, list[int]]:
    adata = draw(adatas())
    return adata, draw(st.lists(st.integers(0, adata.n_obs - 1), max_size=12))


@given(request=requests())
def test_any_rows_of_any_data_in_memory(request: tuple[anndata.AnnData, list[int]]) -> None:
    adata, drawn = request
    compare(open_store(adata), adata, drawn)


# A view of one row of strings, which pandas takes for objects; anndata says so when it copies.
@pytest.mark.filterwarnings("ignore::anndata.ImplicitModificationWarning")
@given(request=requests(), step=st.sampled_from([-1, 1, 2]))
def test_any_rows_of_any_view(request: tuple[anndata.AnnData, list[int]], step: int) -> None:
    adata, drawn = request
    view = adata[::step]
    kept = [row for row in drawn if row < view.n_obs]
    compare(open_store(view), view.copy(), kept)


@given(
    request=requests(),
    compression=st.sampled_from([None, "gzip", "lzf"]),
    chunk=st.one_of(st.none(), st.integers(1, 9)),
    shuffle=st.booleans(),
)
def test_any_rows_of_any_file(
    tmp_path_factory: pytest.TempPathFactory,
    request: tuple[anndata.AnnData, list[int]],
    compression: str | None,
    chunk: int | None,
    shuffle: bool,
) -> None:
    adata, drawn = request
    path = write(adata, tmp_path_factory.mktemp("any") / "any.h5ad", compression)
    if chunk is not None:
        store_anew(path, chunk, compression, shuffle)
    compare(open_store(path), anndata.read_h5ad(path), drawn)


def store_anew(path: Path, chunk: int, compression: str | None, shuffle: bool) -> None:
    """X in storage chunks of another size."""
    with h5py.File(path, "r+") as file:
        names = ["X"] if isinstance(file["X"], h5py.Dataset) else ["X/data", "X/indices"]
        for name in names:
            values, attributes = file[name][...], dict(file[name].attrs)
            del file[name]
            how = {"chunks": (chunk,) * values.ndim, "maxshape": (None,) * values.ndim, "shuffle": shuffle}
            file.create_dataset(name, data=values, compression=compression, **how).attrs.update(attributes)
