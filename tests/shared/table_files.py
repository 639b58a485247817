"""Tables as old versions of anndata and other languages write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from builders import tiny

DRAWN = [6, 0, 3, 3, 1]


def cells() -> anndata.AnnData:
    """Seven cells with what files of every age can hold."""
    obs = pd.DataFrame({"n": np.arange(5, 12, dtype=np.int32)}, index=[f"cell-{i}" for i in range(7)])
    obs["share"] = np.array([0.5, np.nan, 2, 3, 4, 5, 1 / 3])
    obs["flag"] = np.arange(7) % 3 == 0
    obs["barcode"] = [f"{base}{i}" for i, base in enumerate("TGCATGC")]
    obs["donor"] = pd.Categorical(list("xyxyyxx"))
    obs["cell_type"] = pd.Categorical(["T", None, "B", "T", "NK", "B", "T"], ["T", "never seen", "B", "NK"])
    obs["lane"] = pd.Categorical([10, 2, 10, 2, 2, 2, 10])
    obs["batch"] = pd.Categorical(["only"] * 7)
    var = pd.DataFrame({"n_cells": [3, 5, 7, 1], "kind": pd.Categorical(["coding", "lnc", "lnc", "coding"])})
    values = np.random.default_rng(0).poisson(1.0, (7, 4)).astype(np.float32)
    adata = anndata.AnnData(
        values,
        obs=obs,
        var=var.assign(variable=[True, False, True, True]).set_axis([f"gene-{i}" for i in range(4)]),
        obsm={"X_pca": np.arange(21, dtype=np.float32).reshape(7, 3), "X_umap": np.arange(14.0).reshape(7, 2)},
        layers={"counts": values * 2},
    )
    adata.raw = anndata.AnnData(np.hstack([values, values + 1]))
    return adata


def modern_obs() -> pd.DataFrame:
    """Seven rows of every encoding of a column; the first word of a name is what the file calls it."""
    absent = [False, True, False, False, True, False, False]
    obs = pd.DataFrame(index=[f"c{i}" for i in range(7)])
    for kind in ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"):
        obs[f"nullable-integer {kind}"] = pd.array(range(7), kind)
        obs[f"nullable-integer {kind} absent"] = pd.array(range(7), kind)
        obs.loc[absent, f"nullable-integer {kind} absent"] = pd.NA
    obs["nullable-boolean"] = pd.array([True, False] * 3 + [True], "boolean")
    obs["nullable-boolean absent"] = pd.array([True, None, False, True, None, False, True], "boolean")
    obs["nullable-string-array"] = pd.array(["b", None, "", "a", None, "Größe", "z"], "string")
    obs["string-array"] = list("gfedcba")
    obs["array bool"] = absent
    for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">f8", ">i4"):
        obs[f"array {kind}"] = np.arange(7).astype(kind)
    obs["array f2 nan"] = np.array([np.nan, 1, 2, np.inf, 4, 5, 6], np.float16)
    obs["categorical"] = pd.Categorical(["b", "a", None, "b", "b", "a", None])
    obs["categorical ordered"] = pd.Categorical(["b", "a", "b", "b", "b", "a", None], ["b", "a"], ordered=True)
    obs["categorical int"] = pd.Categorical([10, 2, 10, 2, 2, 10, 10])
    obs["categorical float"] = pd.Categorical([0.5, 2, None, 2, 2, 0.5, 0.5])
    obs["categorical bool"] = pd.Categorical([True, False, True, True, True, False, None])
    obs["categorical none"] = pd.Categorical([None] * 7, ["x"])
    return obs


@pytest.fixture(scope="module")
def modern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    adata = tiny(7)
    adata.obs = modern_obs()
    path = tmp_path_factory.mktemp("modern") / "cells.h5ad"
    with anndata.settings.override(allow_write_nullable_strings=True):
        adata.write_h5ad(path, convert_strings_to_categoricals=False)
    return path


def element(group: h5py.Group, name: str, data: Any, kind: str = "array", dtype: Any = None) -> None:
    """A dataset with the attributes that anndata gives it."""
    group.create_dataset(name, data=data, dtype=dtype)
    group[name].attrs.update({"encoding-type": kind, "encoding-version": "0.2.0"})


def categorical(group: h5py.Group, name: str, codes: Any, write_labels: Callable[[h5py.Group, str], None]) -> None:
    parts = group.create_group(name)
    parts.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False})
    element(parts, "codes", codes)
    write_labels(parts, "categories")
