"""Matrices that are stored by columns are rewritten by rows, within the memory that is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
from builders import adata_of, write
from hypothesis import given, settings
from hypothesis import strategies as st
from rewritten_files import same_cells
from scipy import sparse

from annpipes import IndexSource, inspect, stream
from annpipes.errors import DamageError
from annpipes.stores import TurnedRows, open_store, turn_columns
from annpipes.tools.rewriting import rewrite_shuffled


def by_columns(x: Any = "csc") -> anndata.AnnData:
    """An AnnData of which X, a layer, raw and an array beside X stand by columns."""
    adata = adata_of(x=x)
    adata.layers["counts"] = sparse.csc_matrix(adata.layers["counts"])
    adata.obsm["near"] = sparse.csc_matrix(adata.obsm["near"])
    adata.raw = anndata.AnnData(sparse.csc_matrix(adata.raw.X), obs=adata.obs[[]], var=adata.raw.var)
    return adata


def turned(path: Path, folder: Path) -> Any:
    """The rows of X once they are turned."""
    store: Any = open_store(path)
    (rows,) = turn_columns(store, str(folder), 0, lambda field: field != "X")
    return store, rows


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_all_that_stands_by_columns_comes_along_by_rows(tmp_path: Path, compression: Any) -> None:
    source = write(by_columns(), tmp_path / "in.h5ad", compression)
    done = rewrite_shuffled(source, tmp_path / "out.h5ad", codec="gzip", seed=1)
    assert done.left_out == ()
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    same_cells(found, anndata.read_h5ad(source))
    assert all(one.format == "csr" for one in (found.X, found.raw.X, found.layers["counts"], found.obsm["near"]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.h5ad", "out.h5ad"]
    assert inspect(tmp_path / "out.h5ad")["X"].encoding == "csr"
    assert not [one for one in inspect(tmp_path / "out.h5ad").findings if "ascend" in one.what]
    assert len(list(stream(tmp_path / "out.h5ad", 8))) == 4


def test_the_order_is_that_of_the_same_cells_by_rows(tmp_path: Path) -> None:
    files = {"csc": write(adata_of(x="csc"), tmp_path / "csc.h5ad"), "csr": write(adata_of(), tmp_path / "csr.h5ad")}
    names = []
    for kind, path in files.items():
        rewrite_shuffled(path, tmp_path / f"{kind}-out.h5ad", codec="gzip", seed=4, block_size=2)
        names.append(anndata.read_h5ad(tmp_path / f"{kind}-out.h5ad").obs_names.tolist())
    assert names[0] == names[1]


def test_files_by_columns_and_by_rows_are_joined(tmp_path: Path) -> None:
    paths = [write(adata_of(x=x), tmp_path / f"{x}.h5ad") for x in ("csc", "csr")]
    rewrite_shuffled(paths, tmp_path / "out.h5ad", codec="gzip")
    batches = stream(tmp_path / "out.h5ad", 8, shuffle=False)
    whole = np.concatenate([batch["X"].numpy() for batch in batches])
    assert sorted(map(tuple, whole)) == sorted(map(tuple, np.concatenate([adata_of().X.toarray()] * 2)))


@given(
    n_obs=st.integers(1, 40),
    n_vars=st.integers(1, 12),
    density=st.sampled_from([0.0, 0.1, 0.6, 1.0]),
    dtype=st.sampled_from(["float32", "float64", "int16", "bool", "uint8"]),
    memory=st.sampled_from([1, 40, 300, 10**6]),
)
@settings(max_examples=40)
def test_any_matrix_in_any_memory(
    tmp_path_factory: pytest.TempPathFactory, n_obs: int, n_vars: int, density: float, dtype: str, memory: int
) -> None:
    folder = tmp_path_factory.mktemp("turned")
    random = np.random.default_rng(n_obs * 100 + n_vars)
    dense = (random.integers(1, 9, (n_obs, n_vars)) * (random.random((n_obs, n_vars)) < density)).astype(dtype)
    path = write(anndata.AnnData(sparse.csc_matrix(dense)), folder / "in.h5ad")
    store, rows = turned(path, folder)
    assert rows.lengths(np.arange(n_obs)).tolist() == (dense != 0).sum(axis=1).tolist()
    rows.make(memory)
    drawn = next(iter(IndexSource(store).sort_within_chunks(n_obs)))
    found = store.read(drawn, ["X"])["X"]
    expected = sparse.csr_matrix(dense)
    assert np.array_equal(found.to_dense(), dense.astype(found.to_dense().dtype))
    assert found.data.dtype == expected.data.dtype
    assert found.indices.tolist() == expected.indices.tolist()


def test_it_goes_on_where_it_was_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(by_columns(), tmp_path / "in.h5ad")
    made: list[str] = []

    def interrupted(workshop: Any, attempt: str, *rest: Any) -> int:
        workshop.turned[0].make(10**6)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("annpipes.tools.rewriting.make", interrupted)
        with pytest.raises(KeyboardInterrupt):
            rewrite_shuffled(source, tmp_path / "out.h5ad", codec="gzip")
    (tmp_path / "out.h5ad.unfinished" / "by-rows-0-1.h5.new").write_bytes(b"half of a file")
    rows_of = TurnedRows._rows

    def noted(self: TurnedRows, *edges: int) -> Any:
        made.append(self.field)
        return rows_of(self, *edges)

    monkeypatch.setattr(TurnedRows, "_rows", noted)
    rewrite_shuffled(source, tmp_path / "out.h5ad", codec="gzip")
    assert "X" not in made
    assert "layers/counts" in made
    same_cells(anndata.read_h5ad(tmp_path / "out.h5ad"), anndata.read_h5ad(source))


def test_a_row_that_is_not_there_is_damage(tmp_path: Path) -> None:
    path = write(adata_of(x="csc"), tmp_path / "in.h5ad")
    with h5py.File(path, "r+") as file:
        file["X/indices"][5] = 99
    with pytest.raises(DamageError, match=r"X/indices of .*in.h5ad, rows \d+ … \d+: a column is not in 0 … 28"):
        rewrite_shuffled(path, tmp_path / "out.h5ad")
    assert [one.name for one in tmp_path.iterdir()] == ["in.h5ad"]
