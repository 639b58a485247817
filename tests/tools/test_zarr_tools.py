"""The tools with Zarr stores: what they tell of a store is what they tell of a file with the same content."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from builders import adata_of, matrix_of, write
from contracts import opened
from rewritten_files import same_cells
from storage_files import matrix_values
from zarr_stores import put, written, zipped

from annpipes import inspect
from annpipes.errors import DamageError, FieldError
from annpipes.stores import check_file
from annpipes.tools.benching import bench
from annpipes.tools.inspecting import check
from annpipes.tools.rewriting import rewrite_shuffled
from annpipes.tools.tuning import tune

VALUES = matrix_values(60, 9)


@pytest.fixture(scope="module")
def h5ad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(adata_of(), tmp_path_factory.mktemp("file") / "cells.h5ad")


@pytest.fixture(scope="module", params=["2", "3", "zip"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    store = written(adata_of(), folder / "cells.zarr", 2 if request.param == "2" else 3)
    return store if request.param != "zip" else zipped(store, folder / "cells.zarr.zip")


def test_inspect_tells_of_a_store_what_it_tells_of_a_file(path: Path, h5ad: Path) -> None:
    store, file = inspect(path), inspect(h5ad)
    assert (store.n_obs, store.n_vars) == (file.n_obs, file.n_vars)
    assert {one.field for one in store.fields} == {one.field for one in file.fields}
    for field in store.fields:
        other = file[field.field]
        for name in ("encoding", "shape", "index_dtype", "categories", "stored_values", "per_row", "density", "error"):
            assert getattr(field, name) == getattr(other, name), (field.field, name)
        assert field.dtype == other.dtype or field.dtype == "text", field.field
        assert field.sample == other.sample, field.field
    assert [one.what for one in store.findings] == [one.what for one in file.findings]


def test_inspect_tells_how_a_store_is_stored(tmp_path: Path) -> None:
    path = written(anndata.AnnData(matrix_of(VALUES, "csr", "float32")), tmp_path / "cells.zarr")
    for part in ("data", "indices"):
        put(path, f"X/{part}", chunks=(32,), shards=(128,))
    x = inspect(path)["X"]
    files = [file for part in ("data", "indices", "indptr") for file in (path / "X" / part / "c").rglob("*")]
    assert (x.storage_chunk, x.storage_chunk_bytes, x.codec, x.route) == ((32,), 128, "zstd", "direct (zstd)")
    assert 0 < (x.stored_bytes or 0) < sum(file.stat().st_size for file in files)  # which have the index of shards, too
    assert f"{path}: 60 rows × 9 genes" in " ".join(str(inspect(path)).split())  # a long path breaks its line


def test_a_healthy_store_is_healthy(path: Path) -> None:
    report = check(path)
    assert (report.healthy, report.damage, report.unchecked) == (True, (), ())
    assert report.read_bytes > 0


def test_all_damage_is_found_at_once(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[50, 3] = np.nan
    adata = anndata.AnnData(matrix_of(values, "csr", "float32"), obsm={"X_pca": VALUES[:, :3].copy()})
    adata.obs["kind"] = "a"
    adata.obs["kind"] = adata.obs["kind"].astype("category")
    path = written(adata, tmp_path / "cells.zarr")
    put(path, "X/data", chunks=(16,))
    put(path, "X/indices", chunks=(16,))
    put(path, "obsm/X_pca", chunks=(20, 3))
    put(path, "obs/kind/codes", np.full(60, 3, np.int8))
    for name in ("X/data/c/1", "X/indices/c/4", "obsm/X_pca/c/2/0"):
        file = path / name
        file.write_bytes(file.read_bytes()[:-2])
    damage = {str(one) for one in check_file(path, lambda done, total: None).damage}
    assert any(one.startswith("X/data, rows ") and "storage chunk" in one for one in damage)
    assert any(one.startswith("X/indices, rows ") for one in damage)
    assert "X, row 50: NaN" in damage
    assert any(one.startswith("obsm/X_pca, rows 40 … 59") for one in damage)
    assert any(one.startswith("obs/kind/codes, rows 0 … 59: a code without a category") for one in damage)


def test_a_store_is_measured(path: Path) -> None:
    found = bench(path, seconds=0.02, batch_size=8, chunk_size=16)
    assert found.file_bytes > 0
    assert found.route.kind == "direct"
    assert all(case.cells_per_second > 0 for case in found.cases)
    assert {limit.name for case in found.cases for limit in case.limits} >= {"decode", "copy"}


def test_a_store_is_tuned(path: Path) -> None:
    tuning = tune(path, "cell_type", blocks=[1, 4], chunks=[16], batch_size=4, seconds=0.1)
    assert f'ap.stream("{path}"' in tuning.code


@pytest.mark.parametrize("kind", ["csr", "dense"])
def test_a_store_is_rewritten_as_a_file_with_the_same_content_is(tmp_path: Path, kind: str) -> None:
    adata = adata_of(x=kind)
    adata.obsm["table"] = adata.obs[["int8", "stage"]]
    adata.obsm["cube"] = np.arange(29 * 6).reshape(29, 3, 2)
    adata.obsp["near"] = matrix_of(np.eye(29), "csr", "float32")
    adata.varm["PCs"] = np.arange(22.0).reshape(11, 2)
    adata.uns["colors"] = {"cell_type": np.array(["red", "blue"], object), "n": 3}
    path, file = written(adata, tmp_path / "cells.zarr"), write(adata, tmp_path / "cells.h5ad")
    how: dict[str, Any] = {"codec": "gzip", "seed": 3, "block_size": 2, "without": ["obs/int16"]}
    of_store = rewrite_shuffled(path, tmp_path / "of_store.h5ad", **how)
    of_file = rewrite_shuffled(file, tmp_path / "of_file.h5ad", **how)
    assert of_store.left_out == of_file.left_out
    assert of_store.input_bytes > 0
    found, expected = (anndata.read_h5ad(tmp_path / name) for name in ("of_store.h5ad", "of_file.h5ad"))
    assert found.obs_names.tolist() == expected.obs_names.tolist()
    same_cells(found, expected)
    assert np.array_equal(found.obsm["cube"], expected.obsm["cube"])
    assert found.obsm["table"].equals(expected.obsm["table"])
    assert np.array_equal(found.varm["PCs"], expected.varm["PCs"])
    assert found.uns["colors"]["cell_type"].tolist() == ["red", "blue"]
    assert (found.uns["colors"]["n"], list(found.obsp)) == (3, [])


@pytest.mark.filterwarnings("ignore:Observation names are not unique:UserWarning")  # anndata's, and meant here
def test_stores_and_files_are_rewritten_together(tmp_path: Path, path: Path, h5ad: Path) -> None:
    done = rewrite_shuffled([path, h5ad], tmp_path / "all.h5ad", codec="gzip")
    found = anndata.read_h5ad(tmp_path / "all.h5ad")
    assert done.n_obs == 58
    assert sorted(found.obs_names) == sorted([f"cell-{i}" for i in range(29)] * 2)
    one = adata_of()
    assert np.array_equal(
        found[found.obs_names == "cell-3"].X.toarray(), np.repeat(one["cell-3"].X.toarray(), 2, axis=0)
    )


def test_what_is_left_out_of_a_store_is_named_as_of_a_file(path: Path, h5ad: Path, tmp_path: Path) -> None:
    for data in (path, h5ad):
        with pytest.raises(FieldError, match=r"without: no 'layers/count' in .*; did you mean layers/counts"):
            rewrite_shuffled(data, tmp_path / "out.h5ad", without=["layers/count"])
        done = rewrite_shuffled(data, tmp_path / "out.h5ad", without=["layers", "raw"], codec="gzip", overwrite=True)
        assert set(anndata.read_h5ad(done.files[0]).layers) - {None} == set()


def test_a_rewrite_keeps_neither_inputs_nor_what_it_wrote_beside_them(
    path: Path, h5ad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rewrite_shuffled([path, h5ad], tmp_path / "all.h5ad", codec="gzip")
    gc.collect()
    assert not opened(h5ad)
    assert [one.name for one in tmp_path.iterdir()] == ["all.h5ad"]


def test_what_is_lost_of_a_matrix_by_columns_is_never_taken_for_zeros(tmp_path: Path) -> None:
    path = written(anndata.AnnData(matrix_of(VALUES, "csc", "float32")), tmp_path / "cells.zarr")
    put(path, "X/indices", chunks=(16,))
    (path / "X" / "indices" / "c" / "1").unlink()
    with pytest.raises(DamageError, match=r"X/indices of .*: storage chunk 1 is missing"):
        rewrite_shuffled(path, tmp_path / "out.h5ad")
