"""What is no AnnData, or holds what no tensor does: one sentence that says what to do, and never damage."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from builders import tiny, write
from scipy import sparse

from annpipes import AnnDataset, IndexSource, check, inspect, stream
from annpipes.errors import DamageError, FieldError, FormatError, SourceError
from annpipes.stores import memory


def write_mudata(path: Path) -> None:
    """As muon lays it out: https://mudata.readthedocs.io/stable/io/mudata.html."""
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"] = "MuData"
        for place in ("", "mod/rna/", "mod/atac/"):
            for name, frame in {"obs": tiny(4).obs, "var": tiny(4).var}.items():
                anndata.io.write_elem(file.require_group(place or "/"), name, frame)


def write_nameless_mudata(path: Path) -> None:
    write_mudata(path)
    with h5py.File(path, "r+") as file:
        del file.attrs["encoding-type"]


def write_10x(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name in ("barcodes", "data", "indices", "indptr", "shape", "features/name"):
            file[f"matrix/{name}"] = np.arange(3)


def write_old_10x(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name in ("barcodes", "data", "gene_names", "genes", "indices", "indptr", "shape"):
            file[f"GRCh38/{name}"] = np.arange(3)


def write_loom(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["matrix"] = np.eye(3)
        file["row_attrs/Gene"], file["col_attrs/CellID"] = np.arange(3), np.arange(3)


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cells.h5ad", b"")


def write_rds(path: Path) -> None:
    path.write_bytes(b"\x1f\x8b\x08\x00" + bytes(60))


OTHERS = {
    write_mudata: r"MuData file with the modalities atac, rna.*mudata.read_h5mu\('.*'\)\['atac'\].write_h5ad",
    write_nameless_mudata: "MuData file with the modalities",
    write_10x: r"10x file: scanpy.read_10x_h5\(",
    write_old_10x: r"10x file: scanpy.read_10x_h5\(",
    write_loom: r"loom file: anndata.io.read_loom\(",
    write_zip: "zip archive: unpack it",
    write_rds: "zellkonverter",
}


@pytest.mark.parametrize("make", list(OTHERS), ids=lambda make: make.__name__)
def test_files_of_other_kinds_are_named_with_what_makes_a_file_of_them(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "other.h5ad")
    for open_it in (IndexSource, AnnDataset, check, inspect):
        with pytest.raises(FormatError, match=OTHERS[make]) as refusal:
            open_it(tmp_path / "other.h5ad")
        assert "damage" not in str(refusal.value)


def test_what_is_not_in_the_home_folder_is_told_with_where_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for data in ("~/none.h5ad", ["~/none.h5ad"], Path("~/none.h5ad")):
        with pytest.raises(SourceError, match=rf"no file '~/none.h5ad': the home folder is '{tmp_path}'"):
            stream(data)
    with pytest.raises(SourceError, match=r"no file matches '.*none/\*\.h5ad'"):
        stream("~/none/*.h5ad")


def test_a_folder_is_given_as_a_pattern(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"is a directory.*the pattern '.*\*\.h5ad'"):
        stream(tmp_path)
    (tmp_path / "cells.zarr").mkdir()
    (tmp_path / "cells.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    with pytest.raises(FormatError, match=r"is a Zarr store, (but not an AnnData|which needs anndata>=0\.12)"):
        stream(tmp_path / "cells.zarr")


@pytest.mark.parametrize("left", [".zattrs", ".zmetadata"])
def test_a_zarr_store_without_its_root_is_told(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("{}")
    with pytest.raises(FormatError, match=r"has parts of a Zarr store, but not its root \(.zgroup or zarr.json\)"):
        stream(tmp_path)


def test_a_path_into_a_file_is_told_from_a_file_that_is_not_there(tmp_path: Path) -> None:
    write_mudata(tmp_path / "cells.h5mu")
    with pytest.raises(FormatError, match=r"'mod/rna' within the file .*cells.h5mu'\)\['rna'\].write_h5ad"):
        stream(tmp_path / "cells.h5mu" / "mod" / "rna")
    with pytest.raises(SourceError, match="no file"):
        stream(tmp_path / "absent" / "cells.h5ad")


def test_obs_that_is_an_array_is_no_table(tmp_path: Path) -> None:
    write(tiny(4), tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "r+") as file:
        del file["obs"]
        file["obs"] = np.arange(4)
    with pytest.raises(FormatError, match="'obs' is an array of int64, not a table"):
        stream(tmp_path / "cells.h5ad")


def test_columns_of_one_name_are_refused_where_they_are_asked_for(tmp_path: Path) -> None:
    adata = tiny(4)
    write(adata, tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "r+") as file:
        order = file["obs"].attrs["column-order"]
        file["obs"].attrs["column-order"] = np.array([*order, order[0]], object)
    name = str(adata.obs.columns[0])
    adata.obs = pd.concat([adata.obs, adata.obs[[name]]], axis=1)
    for source in (adata, tmp_path / "cells.h5ad"):
        assert len(IndexSource(source).store.fields) == len(set(IndexSource(source).store.fields))
        with pytest.raises(FormatError, match=rf"2 columns named '{name}': give each a name of its own"):
            stream(source, fields=[f"obs/{name}"])
        assert len(list(stream(source, 4, fields=["X"]))) == 1


class Dask:
    """Stands for dask's arrays, which are no dependency."""

    shape, ndim = (4, 2), 2


Dask.__module__ = "dask.array.core"


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        (np.ma.masked_array(np.ones((4, 2)), np.eye(4, 2)), r"masked array.*filled\(0\)"),
        (Dask(), r"dask array.*to_memory\(\)"),
    ],
)
def test_arrays_that_are_not_plain_are_refused(values: Any, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    adata = tiny(4)
    adata.obsm["m"] = np.ones((4, 2))
    source = IndexSource(adata)
    monkeypatch.setattr(memory, "element_of", lambda adata, field: values)
    with pytest.raises(FormatError, match=remedy):
        source.store.check(["obsm/m"])


KINDS = ["complex64", "complex128", "longdouble"]


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_that_no_batch_holds_are_refused_where_they_are_asked_for(kind: str, tmp_path: Path) -> None:
    adata = tiny(4)
    adata.obs["c"] = np.arange(4).astype(kind)
    adata.obsm["dense"], adata.obsm["csr"] = np.ones((4, 2), kind), sparse.csr_matrix(np.eye(4, 2)).astype(kind)
    adata.obsm["table"] = pd.DataFrame({"c": np.arange(4).astype(kind)}, index=adata.obs_names)
    write(adata, tmp_path / "cells.h5ad")
    for source in (adata, tmp_path / "cells.h5ad"):
        for field in ("obs/c", "obsm/csr", *(("obsm/dense", "obsm/table") if kind != "longdouble" else ())):
            with pytest.raises(FormatError, match=f"{field.split('/')[-1]}.*(complex|float|longdouble)"):
                stream(source, fields=[field])
        assert len(list(stream(source, 4, fields=["X"]))) == 1
    assert check(tmp_path / "cells.h5ad").healthy


def test_long_doubles_of_a_dense_matrix_become_float32_as_all_do(tmp_path: Path) -> None:
    adata = tiny(4)
    adata.obsm["m"] = np.arange(8).reshape(4, 2).astype("longdouble") / 3
    for source in (adata, write(adata, tmp_path / "cells.h5ad"), [adata, adata]):
        (batch,) = stream(source, 8, fields=["obsm/m"], shuffle=False)
        np.testing.assert_array_equal(batch["obsm_m"][:4], adata.obsm["m"].astype(np.float32))
        assert batch["obsm_m"].dtype == torch.float32


def test_whole_numbers_beyond_what_floats_tell_apart_are_not_rounded() -> None:
    adata = tiny(4)
    adata.obs["n"] = pd.array([2**53 + 1, None, 3, 4], "Int64")
    with pytest.raises(FormatError, match=r"whole numbers beyond 2.*fillna"):
        stream(adata, fields=["obs/n"])
    adata.obs["n"] = pd.array([2**53 + 2, None, 3, 4], "Int64")
    (batch,) = stream(adata, 4, fields=["obs/n"], shuffle=False)
    assert int(batch["obs_n"][0]) == 2**53 + 2


@pytest.mark.parametrize("kind", ["float16", ">f4", ">f2"])
def test_sparse_values_that_scipy_does_not_compute_with(kind: str, tmp_path: Path) -> None:
    adata = tiny(5)
    values = np.arange(5 * adata.n_vars).reshape(5, adata.n_vars) % 4
    adata.layers["m"] = sparse.csr_matrix(values.astype(np.float32))
    path = write(adata, tmp_path / "cells.h5ad")
    with h5py.File(path, "r+") as file:
        data = file["layers/m/data"][:].astype(kind)
        del file["layers/m/data"]
        file["layers/m/data"] = data
    adata.layers["m"].data = adata.layers["m"].data.astype(kind)  # anndata reads no such file
    for source in (path, adata, [path, path]):
        for options in ({}, {"form": "csr"}, {"genes": [1, 0]}):
            batch = next(iter(stream(source, 5, fields=["layers/m"], shuffle=False, **options)))["layers_m"]
            found = batch if options.get("form") != "csr" else batch.to_dense()
            np.testing.assert_array_equal(found, values[:, options.get("genes", slice(None))])


def test_a_matrix_without_a_shape_is_told_what_it_lacks(tmp_path: Path) -> None:
    adata = tiny(4)
    adata.layers["m"] = sparse.csr_matrix(np.eye(4, adata.n_vars, dtype=np.float32))
    path = write(adata, tmp_path / "cells.h5ad")
    with h5py.File(path, "r+") as file:
        file["layers/m"].attrs["shape"] = np.array([4.0, adata.n_vars])
    (batch,) = stream(path, 4, fields=["layers/m"], shuffle=False)
    np.testing.assert_array_equal(batch["layers_m"], np.eye(4, adata.n_vars))
    assert check(path).healthy
    with h5py.File(path, "r+") as file:
        del file["layers/m"].attrs["shape"]
    with pytest.raises(FormatError, match=r"layers/m of .* lacks the attribute 'shape'"):
        stream(path, fields=["layers/m"])
    assert check(path).healthy


def test_columns_beyond_32_bits(tmp_path: Path) -> None:
    path, width, rng = write(tiny(5), tmp_path / "cells.h5ad"), 3_088_286_401, np.random.default_rng(0)
    columns = np.sort(rng.integers(0, width, (5, 3)), axis=1)
    with h5py.File(path, "r+") as file:
        group = file.create_group("obsm/insertion")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [5, width]})
        group["data"], group["indices"] = np.ones(15, "u1"), columns.ravel()
        group["indptr"] = np.arange(0, 16, 3)
    for source in (path, anndata.read_h5ad(path), [path], [path, anndata.read_h5ad(path)]):
        batch = next(iter(stream(source, 5, fields=["obsm/insertion"], form="csr", shuffle=False)))["obsm_insertion"]
        np.testing.assert_array_equal(batch.col_indices.reshape(5, 3), columns)
        assert batch.crow_indices.dtype == batch.col_indices.dtype
        assert batch.to_sparse_csr().shape == (5, width)
        with pytest.raises(FormatError, match=r"too wide to be made dense.*form='csr'"):
            next(iter(stream(source, 5, fields=["obsm/insertion"])))
    assert check(path).healthy
    assert "obsm/insertion" in str(inspect(path))


def test_codes_of_numbers_name_the_remedy() -> None:
    adata = tiny(4)
    adata.obs["score"] = np.arange(4) / 2
    with pytest.raises(FieldError, match=r"ask for 'obs/score', or .*obs\['score'\].astype\('category'\)"):
        stream(adata, fields=["obs/score:code"])


def test_none_of_these_is_damage() -> None:
    assert not issubclass(FormatError, DamageError)
