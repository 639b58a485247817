"""A rewrite of files whose raw has other genes in each: raw is joined as X is, or left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from builders import dense
from click.testing import CliRunner
from raw_collections import IDS, both, with_raw
from rewritten_files import assert_equal
from small_collections import written

from annpipes import rewrite_shuffled
from annpipes.errors import ParameterError
from annpipes.tools.cli import annpipes


def same_rows(path: Path, adatas: list[anndata.AnnData], join: str) -> anndata.AnnData:
    """The rewritten file, whose X and raw are those of anndata's concatenation."""
    found, expected = anndata.read_h5ad(path), both(adatas, join)
    names = expected["X"].obs_names
    places = found.obs_names.get_indexer(names)
    assert sorted(places) == list(range(len(names)))
    assert found.obs_names.tolist() != names.tolist()
    for matrix, table, whole in ((found.X, found.var, expected["X"]), (found.raw.X, found.raw.var, expected["raw_X"])):
        np.testing.assert_array_equal(dense(matrix)[places], dense(whole.X))
        assert table.index.tolist() == whole.var_names.tolist()
        assert table["id"].tolist() == [IDS[name] for name in table.index]
    return found


@pytest.mark.parametrize("join", ["inner", "outer"])
@pytest.mark.parametrize("kind", ["csr float32", "dense float32, csr float64, csr float32"])
def test_raw_of_other_genes_is_joined_as_x_is(tmp_path: Path, kind: str, join: str) -> None:
    adatas = with_raw(kind)
    done = rewrite_shuffled(written(adatas, tmp_path), tmp_path / "out.h5ad", codec="gzip", join=join)
    found = same_rows(tmp_path / "out.h5ad", adatas, join)
    assert found.raw.var["length"].tolist() == [len(name) for name in found.raw.var_names]
    assert done.left_out == ()


def test_raw_of_zarr_stores_and_files_together(tmp_path: Path) -> None:
    zarr_stores = pytest.importorskip("zarr_stores", reason="Zarr stores need zarr 3 and anndata 0.12")
    adatas = with_raw()
    paths = [*written(adatas[:2], tmp_path, (None, None)), zarr_stores.written(adatas[2], tmp_path / "2.zarr")]
    ran = CliRunner().invoke(
        annpipes, ["shuffle", *map(str, paths), "-o", str(tmp_path / "out.h5ad"), "--codec", "gzip", "--join", "outer"]
    )
    assert ran.exit_code == 0, ran.output
    same_rows(tmp_path / "out.h5ad", adatas, "outer")


def test_raw_with_no_gene_in_common_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    adatas = with_raw()
    raw = adatas[1].raw.to_adata()
    raw.var_names = [f"other-{i}" for i in range(raw.n_vars)]
    adatas[1].raw = raw
    paths = written(adatas, tmp_path)
    there = sorted(path.name for path in tmp_path.iterdir())
    message = r"no gene is in all 3 files .* in raw of .*; or leave it out: without=\['raw/X'\] \(--without raw/X\)"
    with pytest.raises(ParameterError, match=message):
        rewrite_shuffled(paths, tmp_path / "out.h5ad", codec="gzip")
    assert sorted(path.name for path in tmp_path.iterdir()) == there
    done = rewrite_shuffled(paths, tmp_path / "out.h5ad", codec="gzip", without=["raw/X"])
    assert anndata.read_h5ad(tmp_path / "out.h5ad").raw is None
    assert done.left_out == ("raw/X",)
    rewrite_shuffled(paths, tmp_path / "outer.h5ad", codec="gzip", join="outer")
    assert anndata.read_h5ad(tmp_path / "outer.h5ad").raw.n_vars == len(both(adatas, "outer")["raw_X"].var_names)


def test_raw_that_a_file_lacks_is_left_out_and_named(tmp_path: Path) -> None:
    adatas = with_raw()
    adatas[2].raw = None
    done = rewrite_shuffled(written(adatas, tmp_path), tmp_path / "out.h5ad", codec="gzip")
    assert done.left_out == ("raw/X",)
    assert anndata.read_h5ad(tmp_path / "out.h5ad").raw is None


@pytest.mark.parametrize("n_files", [1, 2])
def test_the_table_of_raw_keeps_what_files_say_alike(tmp_path: Path, n_files: int) -> None:
    adatas: list[Any] = with_raw()[:n_files]
    for number, adata in enumerate(adatas):
        raw = adata.raw.to_adata()
        raw.var["kind"] = pd.Categorical(["coding", "other"] * 4)[: raw.n_vars]
        raw.var["note"] = pd.Categorical([None, *["text"] * (raw.n_vars - 1)])
        raw.var["mean"] = np.arange(raw.n_vars) + 10.0 * number
        raw.varm["loads"] = np.eye(raw.n_vars, 2)
        adata.raw = raw
    paths = written(adatas, tmp_path, (None,) * n_files)
    done = rewrite_shuffled(paths, tmp_path / "out.h5ad", codec="gzip")
    found = anndata.read_h5ad(tmp_path / "out.h5ad").raw
    if n_files == 1:
        assert_equal(found.var, anndata.read_h5ad(paths[0]).raw.var)
        np.testing.assert_array_equal(found.varm["loads"], np.eye(6, 2))
        assert done.left_out == ()
    else:
        assert list(found.var) == ["id", "length", "note"]  # the others contradict each other
        assert found.var["note"].tolist() == ["text"] * 3
        assert done.left_out == ("raw/varm/loads",)
