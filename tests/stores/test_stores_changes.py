"""An AnnData in memory that changes after a source was made of it: what it is now, or an error; nothing stale."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from builders import write
from scipy import sparse

from annpipes import AnnDataset, Collection, IndexSource, Loader, stream
from annpipes.errors import ChangedError, FormatError
from annpipes.stores import open_store

FIELDS = ["X", "layers/counts", "obsm/pca", "obsm/table", "raw/X", "obs_names", "rows"]
COLUMNS = ["number", "kind", "text", "label", "flag"]


def made(form: str = "csr") -> anndata.AnnData:
    values = np.random.default_rng(0).poisson(1.0, (12, 5)).astype(np.float32)
    obs = pd.DataFrame(
        {
            "number": np.arange(12),
            "kind": pd.Categorical(list("abc") * 4),
            "text": np.array([f"t{i}" for i in range(12)], object),
            "label": pd.array([None if i == 5 else f"l{i % 3}" for i in range(12)], "string"),
            "flag": pd.array([None if i == 4 else i % 2 == 0 for i in range(12)], "boolean"),
        },
        index=[f"c{i}" for i in range(12)],
    )
    var = pd.DataFrame(index=list("vwxyz"))
    adata = anndata.AnnData(sparse.csr_matrix(values) if form == "csr" else values, obs=obs, var=var)
    adata.layers["counts"] = adata.X * 10
    adata.obsm["pca"] = values[:, :2] + 0.5
    adata.obsm["table"] = pd.DataFrame({"u": np.arange(12.0)}, index=adata.obs_names)
    adata.raw = adata
    return adata


def dense(values: Any) -> Any:
    return np.asarray(values.toarray() if sparse.issparse(values) else values)


def now(adata: anndata.AnnData, field: str) -> Any:
    """What the object itself says of a field."""
    group, _, key = field.partition("/")
    if group == "obs":
        values = adata.obs[key]
        if pd.api.types.is_bool_dtype(values.dtype) and values.isna().any():
            return values.to_numpy(float, na_value=np.nan).tolist()
        text = not pd.api.types.is_numeric_dtype(values.dtype)
        return ["" if pd.isna(value) else str(value) for value in values] if text else values.tolist()
    if field == "obs_names":
        return list(adata.obs_names)
    if field == "rows":
        return list(range(adata.n_obs))
    found = adata.X if group == "X" else adata.raw.X if group == "raw" else getattr(adata, group)[key]
    return dense(found).tolist()


def same(one: Any, other: Any) -> bool:
    return repr(one).replace("nan", "NaN") == repr(other).replace("nan", "NaN")


def replace_x(adata: anndata.AnnData) -> None:
    adata.X = adata.X * 2


def x_in_place(adata: anndata.AnnData) -> None:
    values = adata.X.data if sparse.issparse(adata.X) else adata.X
    values *= 3


def log_x(adata: anndata.AnnData) -> None:
    adata.X = adata.X.log1p() if sparse.issparse(adata.X) else np.log1p(adata.X)


def replace_layer(adata: anndata.AnnData) -> None:
    adata.layers["counts"] = adata.layers["counts"] + adata.layers["counts"]


def replace_obsm(adata: anndata.AnnData) -> None:
    adata.obsm["pca"] = adata.obsm["pca"][:, ::-1].copy()
    adata.obsm["table"] = adata.obsm["table"] * 2


def replace_raw(adata: anndata.AnnData) -> None:
    other = adata.copy()
    other.X = other.X * 7
    adata.raw = other


def set_columns(adata: anndata.AnnData) -> None:
    adata.obs["number"] = 7
    adata.obs["text"] = "other"
    adata.obs["kind"] = pd.Categorical(list("cba") * 4)
    adata.obs["flag"] = True


def set_within_columns(adata: anndata.AnnData) -> None:
    adata.obs.loc["c3", "number"] = 99
    adata.obs.loc["c3", "text"] = "other"
    adata.obs.loc["c3", "kind"] = "c"
    adata.obs.loc["c3", "label"] = "other"
    adata.obs.loc["c3", "flag"] = None


def set_obs(adata: anndata.AnnData) -> None:
    adata.obs = adata.obs[COLUMNS[::-1]].assign(number=3)


def rename_kinds(adata: anndata.AnnData) -> None:
    adata.obs["kind"] = adata.obs["kind"].cat.rename_categories({"a": "first"})


def filter_genes(adata: anndata.AnnData) -> None:
    adata.raw = None
    adata._inplace_subset_var(np.array([4, 0]))


def turn_genes(adata: anndata.AnnData) -> None:
    adata.raw = None
    adata._inplace_subset_var(np.array([4, 3, 2, 1, 0]))


def filter_rows(adata: anndata.AnnData) -> None:
    adata._inplace_subset_obs(np.arange(12) % 2 == 0)


def turn_rows(adata: anndata.AnnData) -> None:
    adata._inplace_subset_obs(np.arange(12)[::-1])


def rename_rows(adata: anndata.AnnData) -> None:
    adata.obs_names = [f"other{i}" for i in range(12)]


KEPT = [
    *(replace_x, x_in_place, log_x, replace_layer, replace_obsm, replace_raw),
    *(set_columns, set_within_columns, set_obs, rename_kinds),
]
"""Changes after which rows and genes are those that they were."""
ROWS = [filter_rows, turn_rows, rename_rows]
GENES = [filter_genes, turn_genes]


@pytest.mark.parametrize("change", [*KEPT, *GENES])
@pytest.mark.parametrize("form", ["csr", "dense"])
@pytest.mark.parametrize("used", [False, True])
@pytest.mark.filterwarnings("ignore")  # of pandas and anndata, about the changes
def test_what_is_read_is_what_the_object_holds_now(change: Callable[[Any], None], form: str, used: bool) -> None:
    adata = made(form)
    fields = [*(f for f in FIELDS if change not in GENES or f != "raw/X"), *(f"obs/{name}" for name in COLUMNS)]
    loader = stream(adata, 5, fields=fields, shuffle=False)
    dataset, collection = AnnDataset(adata, fields=fields), stream(Collection([adata]), 5, fields=fields, shuffle=False)
    assert isinstance(loader, Loader)
    loaders = [loader, *([collection] if change not in GENES else [])]
    if used:
        for one in loaders:
            list(one)
        assert dataset[3]
    change(adata)
    passes = [list(one) for one in loaders] + [[dataset.get_collate_fn()(dataset.__getitems__(range(12)))]]
    for field in fields:
        key, expected = field.replace("/", "_"), now(adata, field)
        for batches in passes:
            found = [value for batch in batches for value in list(batch[key])]
            found = [value.tolist() if hasattr(value, "tolist") else value for value in found]
            assert same(found, expected), field
    assert dataset.shape == adata.shape
    assert list(dataset.var.index) == list(adata.var_names)


@pytest.mark.parametrize("change", ROWS)
@pytest.mark.parametrize("used", [False, True])
def test_other_rows_are_refused(change: Callable[[Any], None], used: bool) -> None:
    adata = made()
    loader, dataset = stream(adata, 5, fields=["X"]), AnnDataset(adata, obs_subset=[1, 2])
    both = stream([adata, made()], 5, fields=["X"])
    if used:
        list(loader), dataset[0], list(both)
    change(adata)
    for read in (lambda: list(loader), lambda: dataset[0], lambda: list(both)):
        with pytest.raises(ChangedError, match=r"the AnnData had .* make the source again"):
            read()


@pytest.mark.parametrize("change", GENES)
def test_other_genes_are_refused_where_some_were_chosen_or_aligned(change: Callable[[Any], None]) -> None:
    adata = made()
    readers = [stream(adata, 5, fields=["X"], genes=["y", "v"]), stream([adata, made()], 5, fields=["X"])]
    change(adata)
    for reader in readers:
        with pytest.raises(ChangedError, match=r"the AnnData had .* make the source again"):
            list(reader)


@pytest.mark.filterwarnings("ignore")
def test_codes_must_mean_what_they_meant() -> None:
    adata = made()
    loader = stream(adata, 5, fields=["obs/kind:code"], shuffle=False)
    adata.obs["kind"] = pd.Categorical(list("cba") * 4)
    assert [code for batch in loader for code in batch["obs_kind"].tolist()] == [2, 1, 0] * 4
    rename_kinds(adata)
    with pytest.raises(ChangedError, match=r"the categories of obs/kind .* changed"):
        list(loader)


@pytest.mark.parametrize("gone", ["layers/counts", "obsm/pca", "obs/number", "raw/X"])
def test_a_field_that_is_gone_is_named(gone: str) -> None:
    adata = made()
    loader = stream(adata, 5, fields=[gone])
    group, _, key = gone.partition("/")
    if group == "raw":
        adata.raw = None
    else:
        del getattr(adata, group)[key]
    with pytest.raises(ChangedError, match=f"no longer has {gone}"):
        list(loader)


ROWS_SEEN = {"slice": slice(2, 9), "mask": np.arange(12) % 3 == 0, "order": [7, 1, 4], "names": ["c5", "c2"]}


@pytest.mark.parametrize("rows", ROWS_SEEN.values(), ids=ROWS_SEEN)
@pytest.mark.parametrize("genes", [slice(None), ["z", "w"], [1]], ids=["all", "names", "positions"])
@pytest.mark.parametrize("change", [replace_x, x_in_place, replace_layer])
def test_a_view_shows_what_it_looks_at(rows: Any, genes: Any, change: Callable[[Any], None]) -> None:
    adata = made()
    view = adata[rows, genes]
    fields = ["X", "layers/counts", "obsm/pca", "raw/X", "obs/kind", "obs_names"]
    loader = stream(view, 4, fields=fields, shuffle=False)
    for _ in range(2):
        batches = list(loader)
        for field in fields:
            found = [value for batch in batches for value in list(batch[field.replace("/", "_")])]
            found = [value.tolist() if hasattr(value, "tolist") else value for value in found]
            assert found == now(view, field), field
        change(adata)


@pytest.mark.parametrize("change", [*ROWS, *GENES])
def test_a_view_of_what_changed_is_refused(change: Callable[[Any], None]) -> None:
    adata = made()
    loader = stream(adata[2:6], 4, fields=["X"])
    change(adata)
    with pytest.raises(ChangedError, match="the AnnData had"):
        list(loader)


def test_a_view_with_names_that_are_not_unique_is_read(recwarn: pytest.WarningsRecorder) -> None:
    adata = made()
    adata.obs_names, adata.var_names = ["same"] * 12, ["twice", "twice", "x", "y", "z"]
    view = adata[3:8, [0, 2]]
    batches = list(stream(view, 4, fields=["X", "layers/counts"], shuffle=False))
    assert np.array_equal(np.concatenate([batch["X"] for batch in batches]), dense(view.X))
    assert np.array_equal(np.concatenate([batch["layers_counts"] for batch in batches]), dense(view.layers["counts"]))


def test_two_columns_of_one_name_are_refused() -> None:
    adata = made()
    adata.obs = pd.concat([adata.obs[["number"]], adata.obs[["number"]]], axis=1)
    with pytest.raises(FormatError, match="number"):
        IndexSource(adata).store.check(["obs/number"])


@pytest.mark.filterwarnings("ignore")
def test_a_store_that_was_sent_elsewhere_reads_on(tmp_path: Any) -> None:
    adata = made()
    write(adata, tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    for data in (adata, adata[2:9], backed):
        store = open_store(data)
        store.check(["X"])
        sent = pickle.loads(pickle.dumps(store))
        for field in ("X", "layers/counts", "obs/kind", "obs_names"):
            one, other = (list(stream(s, 4, fields=[field], shuffle=False)) for s in (store, sent))
            assert repr(one) == repr(other)
    backed.file.close()
