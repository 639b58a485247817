"""Rewritten files hold what anndata reads from the inputs, whatever happens on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import h5py
import hdf5plugin  # noqa: F401 # registers the filters that plain anndata needs
import numpy as np
import pandas as pd
import pytest
from builders import adata_of, tiny, write
from rewritten_files import SMALL, assert_equal, cells, same_cells

import annpipes as ap
from annpipes import rewrite_shuffled
from annpipes.errors import DiskSpaceError, ParameterError


@pytest.mark.parametrize("codec", ["lz4", "zstd", "gzip", "none"])
@pytest.mark.parametrize("x", ["csr", "dense"])
def test_every_field_of_every_row_is_kept(tmp_path: Path, x: str, codec: str) -> None:
    source = write(adata_of(x=x), tmp_path / "in.h5ad", "gzip")
    rewrite_shuffled(source, tmp_path / "out.h5ad", codec=codec)
    found, expected = (anndata.read_h5ad(path) for path in (tmp_path / "out.h5ad", source))
    same_cells(found, expected)
    assert list(found.obs_names) != list(expected.obs_names)
    assert not (tmp_path / "out.h5ad.unfinished").exists()


def test_real_cells_keep_what_stands_beside_their_rows(pbmc_folder: Path, tmp_path: Path) -> None:
    done = rewrite_shuffled(pbmc_folder / "pbmc.h5ad", tmp_path / "out.h5ad", codec="gzip")
    found, expected = (anndata.read_h5ad(path) for path in (tmp_path / "out.h5ad", pbmc_folder / "pbmc.h5ad"))
    same_cells(found, expected)
    assert_equal(dict(found.uns), dict(expected.uns))
    assert_equal(dict(found.varm), dict(expected.varm))
    assert_equal(found.raw.var, expected.raw.var)
    assert set(done.left_out) == {"obsp/connectivities", "obsp/distances"}


def test_parts_and_files_together_hold_every_row_once(tmp_path: Path) -> None:
    source = cells(tmp_path / "in.h5ad")
    done = rewrite_shuffled(source, tmp_path / "out.h5ad", rows_per_file=2500, memory=SMALL, block_size=50)
    assert [Path(file).name for file in done.files] == ["out-0.h5ad", "out-1.h5ad", "out-2.h5ad"]
    assert done.parts > 3
    parts = [anndata.read_h5ad(file) for file in done.files]
    assert [len(part) for part in parts] == [2500, 2500, 1000]
    same_cells(anndata.concat(parts, merge="same"), anndata.read_h5ad(source))
    assert {"a", "b", "c"} == set(parts[2].obs["kind"])  # sorted in the input


def test_equal_seeds_give_equal_orders(tmp_path: Path) -> None:
    source = cells(tmp_path / "in.h5ad", 500)
    names = {}
    for name, seed in {"a": 0, "b": 0, "c": 1}.items():
        rewrite_shuffled(source, tmp_path / f"{name}.h5ad", seed=seed)
        names[name] = list(anndata.read_h5ad(tmp_path / f"{name}.h5ad").obs_names)
    assert names["a"] == names["b"] != names["c"]


def test_an_output_of_before_is_not_taken_for_this_one(tmp_path: Path) -> None:
    source = cells(tmp_path / "in.h5ad", 500)
    names = []
    for seed in (0, 1):
        rewrite_shuffled(source, tmp_path / "out.h5ad", seed=seed, overwrite=True)
        names.append(list(anndata.read_h5ad(tmp_path / "out.h5ad").obs_names))
    assert names[0] != names[1]


def test_rows_of_a_label_stand_together_and_are_shuffled(tmp_path: Path) -> None:
    source = cells(tmp_path / "in.h5ad", 5000)  # labels end within parts
    rewrite_shuffled(source, tmp_path / "out.h5ad", groupby="kind", memory=SMALL)
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    same_cells(found, anndata.read_h5ad(source))
    assert list(found.obs["kind"]) == sorted(found.obs["kind"])
    assert (np.diff(found.obs["number"]) == 1).mean() < 0.1


def test_files_with_other_genes_and_labels_are_joined_as_anndata_does(tmp_path: Path) -> None:
    first, second = (anndata.read_h5ad(cells(tmp_path / f"{i}.h5ad", 1500, seed=i)) for i in range(2))
    second = second[:, list(range(200, 40, -1))].copy()
    second.obs["kind"] = second.obs["kind"].cat.rename_categories({"a": "z"})
    write(second, tmp_path / "1.h5ad", "gzip")
    rewrite_shuffled([tmp_path / "0.h5ad", tmp_path / "1.h5ad"], tmp_path / "out.h5ad", memory=SMALL)
    expected = anndata.concat([first, second])
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert set(found.obs["kind"].cat.categories) == {"a", "b", "c", "z"}
    found.obs["kind"], expected.obs["kind"] = found.obs["kind"].astype(str), expected.obs["kind"].astype(str)
    same_cells(found[:, expected.var_names].copy(), expected)


def test_numbers_here_and_labels_there_become_strings(tmp_path: Path) -> None:
    for number, values in enumerate([pd.Categorical(["a", None, "b"]), [1.5, np.nan, 2.0]]):
        adata = tiny(3)
        adata.obs_names = [f"{number}-{i}" for i in range(3)]
        adata.obs["mixed"] = values
        write(adata, tmp_path / f"{number}.h5ad")
    rewrite_shuffled([tmp_path / "0.h5ad", tmp_path / "1.h5ad"], tmp_path / "out.h5ad")
    found = anndata.read_h5ad(tmp_path / "out.h5ad").obs["mixed"].sort_index()
    assert found.astype(str).tolist() == ["a", "", "b", "1.5", "", "2.0"]


@pytest.mark.parametrize("n_obs", [0, 1])
def test_no_rows_or_one(tmp_path: Path, n_obs: int) -> None:
    source = write(tiny(n_obs), tmp_path / "in.h5ad")
    rewrite_shuffled(source, tmp_path / "out.h5ad")
    assert anndata.read_h5ad(tmp_path / "out.h5ad").shape == (n_obs, 3)


def test_narrower_types_are_refused_where_a_value_would_change(tmp_path: Path) -> None:
    source = cells(tmp_path / "in.h5ad", 200)
    rewrite_shuffled(source, tmp_path / "out.h5ad", dtype="uint8")
    found, expected = anndata.read_h5ad(tmp_path / "out.h5ad"), anndata.read_h5ad(source)
    assert found.X.dtype == np.uint8
    assert (found[expected.obs_names].X != expected.X).nnz == 0
    with pytest.raises(ParameterError, match=r"int8 cannot hold .* of X, row \d+: choose a wider one"):
        rewrite_shuffled(source, tmp_path / "narrow.h5ad", dtype="int8")
    assert not (tmp_path / "narrow.h5ad").exists()


def test_what_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = cells(tmp_path / "in.h5ad", 200)
    (tmp_path / "there.h5ad").touch()
    for output, options, message in [
        ("there.h5ad", {}, "already exists"),
        ("in.h5ad", {}, "is an input"),
        ("out.h5", {}, "must end in .h5ad"),
        ("out.h5ad", {"memory": "100MB"}, "memory must be at least"),
        ("out.h5ad", {"codec": "rar"}, "codec must be one of"),
    ]:
        with pytest.raises(ParameterError, match=message):
            rewrite_shuffled(source, tmp_path / output, **options)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(DiskSpaceError, match="has 10 B free"):
        rewrite_shuffled(source, tmp_path / "out.h5ad")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.h5ad", "there.h5ad"]


def test_blocks_of_a_result_are_four_times_as_long_unless_labels_stand_together(tmp_path: Path) -> None:
    source = cells(tmp_path / "in.h5ad", 2000, 1500)
    rewrite_shuffled(source, tmp_path / "mixed.h5ad")
    rewrite_shuffled(source, tmp_path / "grouped.h5ad", groupby="kind")
    mixed, grouped = (ap.IndexSource(tmp_path / f"{name}.h5ad") for name in ("mixed", "grouped"))
    assert mixed.plan.block_size == 4096
    assert "4 times two storage chunks" in mixed.block_reason
    assert "shuffled already" in mixed.block_reason
    assert grouped.plan.block_size == 1024
    assert ap.IndexSource([tmp_path / "mixed.h5ad", tmp_path / "grouped.h5ad"]).plan.block_size == 4096
    loader = ap.stream(tmp_path / "mixed.h5ad", 64, fields=["X", "obs/number"])
    assert sorted(number for batch in loader for number in batch["obs_number"].tolist()) == [*range(2000)]


@pytest.mark.parametrize("mark", ["no JSON", "[1]", 7])
def test_a_strange_mark_is_no_mark(tmp_path: Path, mark: Any) -> None:
    source = cells(tmp_path / "in.h5ad", 50)
    advised = ap.IndexSource(source).block_reason
    with h5py.File(source, "r+") as file:
        file.attrs["annpipes-shuffled"] = mark
    assert ap.IndexSource(source).block_reason == advised


def test_parts_are_drawn_from_many_blocks(tmp_path: Path) -> None:
    """Blocks are longer than those to train with, unless a part would then be of few."""
    source = cells(tmp_path / "in.h5ad", 6000, compression=None)
    advised = ap.IndexSource(source).plan.block_size
    for name, memory in {"large": "2GB", "small": SMALL}.items():
        done = rewrite_shuffled(source, tmp_path / f"{name}.h5ad", memory=memory)
        with h5py.File(tmp_path / f"{name}.h5ad") as file:
            size = json.loads(file.attrs["annpipes-shuffled"])["block_size"]
        rows = 6000 / done.parts
        assert size == max(advised, min(4 * advised, rows // 64))
