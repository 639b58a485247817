"""Files as anndata wrote them before version 0.8."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from table_files import (
    cells,
    modern,  # noqa: F401 (fixtures)
)


def write_matrix(file: h5py.File, path: str, values: NDArray[Any], form: str, modern: bool = False) -> None:
    """A matrix without encoding attributes, or a sparse one with those of h5sparse or (modern) of anndata 0.7."""
    if form == "dense":
        file[path] = values
        return
    matrix = sparse.csr_matrix(values) if form == "csr" else sparse.csc_matrix(values)
    group = file.create_group(path)
    if modern:
        group.attrs.update({"encoding-type": f"{form}_matrix", "encoding-version": "0.1.0", "shape": matrix.shape})
    else:
        group.attrs.update({"h5sparse_format": form, "h5sparse_shape": matrix.shape})
    for name in ("data", "indices", "indptr"):
        group[name] = getattr(matrix, name)


def strings_of(values: Iterable[Any], kind: str) -> NDArray[Any]:
    """Bytes of one length, as anndata wrote strings until 0.6.20, or of any length."""
    texts = [str(value) for value in values]
    return np.array([text.encode() for text in texts], "S") if kind == "S" else np.array(texts, h5py.string_dtype())


def write_records(file: h5py.File, path: str, frame: pd.DataFrame, kind: str, categories: str = "uns") -> None:
    """A table as ``df_to_records_fixed_width`` of anndata < 0.7 had it: records, and categories elsewhere."""
    columns = {"index": strings_of(frame.index, kind)}
    for name, values in frame.items():
        if isinstance(values.dtype, pd.CategoricalDtype):
            columns[name], labels = values.cat.codes.to_numpy(), values.cat.categories
            plain = labels.to_numpy() if pd.api.types.is_numeric_dtype(labels) else strings_of(labels, kind)
            file[f"{categories}/{name}_categories"] = plain
        else:
            columns[name] = values.to_numpy() if pd.api.types.is_numeric_dtype(values) else strings_of(values, kind)
    records = np.empty(len(frame), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        records[name] = values
    file[path] = records


def write_before_07(path: Path, adata: anndata.AnnData, form: str, kind: str) -> None:
    """``_to_dict_fixed_width_arrays`` of anndata 0.5 and 0.6, as a file."""
    with h5py.File(path, "w") as file:
        write_matrix(file, "X", adata.X, form)
        write_records(file, "obs", adata.obs, kind)
        write_records(file, "var", adata.var, kind)
        write_matrix(file, "raw.X", adata.raw.X, form)
        write_records(file, "raw.var", adata.raw.var, kind, "raw.cat")
        embeddings = np.empty(adata.n_obs, [(name, each.dtype, each.shape[1:]) for name, each in adata.obsm.items()])
        for name, values in adata.obsm.items():
            embeddings[name] = values
        file["obsm"] = embeddings  # BoundRecArr: one dataset of all
        for name, values in adata.layers.items():
            write_matrix(file, f"layers/{name}", values, form)
        file["uns/pca_variance"] = [0.5, 0.25]


def write_05(path: Path, form: str) -> None:
    adata = cells()
    del adata.layers["counts"]  # they came with 0.6
    write_before_07(path, adata, form, "S")


def write_06(path: Path, form: str) -> None:
    write_before_07(path, cells(), form, "any length")


def write_07(path: Path, form: str) -> None:
    """``write_dataframe`` and ``write_series`` of anndata 0.7: codes that refer to categories in a group aside."""
    adata = cells()
    adata.obs["stage"] = pd.Categorical(["late", "early"] * 3 + [None], ["early", "late"], ordered=True)
    adata.obs.index.name = "cell"
    with h5py.File(path, "w") as file:
        write_matrix(file, "X", adata.X, form, modern=True)
        file.create_group("raw").attrs.update({"encoding-type": "raw", "encoding-version": "0.1.0"})
        write_matrix(file, "raw/X", adata.raw.X, form, modern=True)
        frames = {"obs": adata.obs, "var": adata.var, "raw/var": adata.raw.var}
        for place, frame in {**frames, "obsm/scores": adata.obs[["n", "share"]]}.items():
            write_group(file, place, frame)
        for name, values in adata.obsm.items():
            file[f"obsm/{name}"] = values
        write_matrix(file, "layers/counts", adata.layers["counts"], form, modern=True)
        file.create_group("uns")


def write_group(file: h5py.File, path: str, frame: pd.DataFrame) -> None:
    group, index = file.create_group(path), frame.index.name or "_index"
    group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.1.0", "_index": index})
    group.attrs["column-order"] = np.array(list(frame), h5py.string_dtype())
    group[index] = strings_of(frame.index, "any length")
    for name, values in frame.items():
        if isinstance(values.dtype, pd.CategoricalDtype):
            labels = values.cat.categories.to_numpy()
            aside = f"__categories/{name}"
            group[aside] = strings_of(labels, "any length") if labels.dtype == object else labels
            group[aside].attrs["ordered"] = values.cat.ordered
            group[name] = values.cat.codes.to_numpy()
            group[name].attrs["categories"] = group[aside].ref
        else:
            group[name] = strings_of(values, "any length") if values.dtype == object else values.to_numpy()
