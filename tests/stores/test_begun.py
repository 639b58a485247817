"""The first rows of a chunk before the others: right when they are handed on, and all of them in the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from storage_files import chunk_of, create, csr_file, csr_of, dense_file, matrix_values, relayout, rows_of, same, write
from zarr_stores import csr_store

from annpipes import Cache, Collection
from annpipes.stores import FieldStore, collection, matrices, open_store
from annpipes.stores.engine.pieces import Pieces

GZIP = {"chunks": 16, "compression": "gzip"}
ROWS = np.random.default_rng(5).permutation(23)
FIRST = 3


def _two_files(folder: Path) -> Collection:
    paths = [csr_file(folder / f"{name}.h5ad", **GZIP) for name in "ab"]
    return Collection(paths, max_open_files=2)


def _many_files(folder: Path) -> Collection:
    paths = [csr_file(folder / f"{name}.h5ad", **GZIP) for name in "ab"]
    return Collection(paths, max_open_files=1)


def _other_genes(folder: Path) -> Collection:
    paths = [csr_file(folder / "a.h5ad", **GZIP), folder / "b.h5ad"]
    turned = anndata.read_h5ad(paths[0])[:, ::-1].copy()
    turned.write_h5ad(paths[1], compression="gzip")
    return Collection(paths)


def _dense_files(folder: Path) -> Collection:
    return Collection([dense_file(folder / f"{name}.h5ad", chunks=(4, 5), compression="gzip") for name in "ab"])


SOURCES: dict[str, Callable[[Path], Any]] = {
    "gzip": lambda folder: csr_file(folder / "x.h5ad", **GZIP),
    "one part through h5py": lambda folder: _partly_lzf(folder / "x.h5ad"),
    "uncompressed": lambda folder: csr_file(folder / "x.h5ad"),
    "dense": lambda folder: dense_file(folder / "x.h5ad", chunks=(4, 5), compression="gzip"),
    "dense, uncompressed": lambda folder: dense_file(folder / "x.h5ad"),
    "zarr": lambda folder: csr_store(folder / "x.zarr", 3, matrix_values()),
    "in memory": lambda folder: anndata.AnnData(csr_of(matrix_values())),
    "a view": lambda folder: anndata.AnnData(csr_of(matrix_values()))[::-1],
    "two files": _two_files,
    "two files, one open": _many_files,
    "two files of other genes": _other_genes,
    "two dense files": _dense_files,
}
LATER = {"gzip", "one part through h5py", "dense", "zarr"}
"""Those of which the last rows are seen not to be there at first; of the others all are, or by chance."""


def _partly_lzf(path: Path) -> Path:
    csr_file(path, **GZIP)
    relayout(path, "X/data", create(chunks=16, compression="lzf"))
    return path


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that was used before holds what no file has."""

    def poison(shape: Any, dtype: Any) -> NDArray[Any]:
        return np.full(shape, 77, dtype)

    for module in (matrices, collection.joined):
        monkeypatch.setattr(module, "empty", poison)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("cached", [False, True], ids=["", "cached"])
def test_the_first_rows_are_there_then_all(tmp_path: Path, source: str, cached: bool) -> None:
    made = SOURCES[source](tmp_path)
    store = made if isinstance(made, Collection) else open_store(made, cache=Cache(tmp_path / "c") if cached else None)
    assert isinstance(store, FieldStore)
    drawn = ROWS if store.n_obs == len(ROWS) else np.concatenate([ROWS, ROWS + 23])
    expected = store.read(chunk_of(drawn), ["X", "obs_names"])
    for _ in range(2):  # out of a cache, the second time
        values, finish = store.begin(chunk_of(drawn), FIRST, ["X", "obs_names"])
        assert same(values["X"][:FIRST], expected["X"][:FIRST])
        assert values["obs_names"].tolist() == expected["obs_names"].tolist()
        if source in LATER and not cached:
            assert not same(values["X"][FIRST:], expected["X"][FIRST:])
        finish()
        assert same(values["X"], expected["X"])


def test_what_is_read_without_first_rows_is_all_there(tmp_path: Path) -> None:
    path = csr_file(tmp_path / "x.h5ad", **GZIP)
    values = open_store(path).begin(chunk_of(ROWS), 0, ["X"]).values["X"]
    assert same(values, rows_of(anndata.read_h5ad(path).X, ROWS))


def test_genes_are_chosen_all_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "x.h5ad", csr_of(matrix_values()), compression="gzip")
    store = open_store(path)
    genes = store.genes([7, 2])
    values, finish = store.begin(chunk_of(ROWS), FIRST, ["X"], genes)
    finish()
    np.testing.assert_array_equal(values["X"].to_dense(), matrix_values()[ROWS][:, [7, 2]])


@given(st.data())
def test_pieces_are_split_by_storage_chunk(data: st.DataObject) -> None:
    chunks = np.sort(np.array(data.draw(st.lists(st.integers(0, 5), max_size=12)), np.int64))
    tos = np.random.default_rng(data.draw(st.integers(0, 9))).permutation(len(chunks))
    before = data.draw(st.integers(0, 13))
    ones = np.ones_like(chunks)
    wanted = {int(chunk) for chunk, to in zip(chunks, tos, strict=True) if to < before}
    first = [to for chunk, to in zip(chunks, tos, strict=True) if int(chunk) in wanted]
    rest = [to for to in tos if to not in first]
    split = Pieces(chunks, chunks, tos, ones).split(before)
    if not first or not rest:
        assert split is None
    else:
        assert split is not None
        assert [part.tos.tolist() for part in split] == [first, rest]
        assert all((np.diff(part.chunks) >= 0).all() for part in split)
