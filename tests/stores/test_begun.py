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
from storage_files import chunk_of, create, csr_file, csr_of, dense_file, matrix_values, relayout, rows_of, same
from zarr_stores import csr_store

from annpipes import Cache, Collection
from annpipes.meters import Meter, metering
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
"""Those of which some storage chunks are seen to be decoded later; of the others none are, or by chance."""


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
@pytest.mark.parametrize(
    "genes", [None, [7, 2], [*range(9)][::-1], [4], []], ids=["all", "two", "turned", "one", "none"]
)
@pytest.mark.parametrize("cached", [False, True], ids=["", "cached"])
def test_the_first_rows_are_there_then_the_others(
    tmp_path: Path, source: str, cached: bool, genes: list[int] | None
) -> None:
    made = SOURCES[source](tmp_path)
    store = made if isinstance(made, Collection) else open_store(made, cache=Cache(tmp_path / "c") if cached else None)
    assert isinstance(store, FieldStore)
    drawn = ROWS if store.n_obs == len(ROWS) else np.concatenate([ROWS, ROWS + 23])
    kept = None if genes is None else store.genes(genes)
    other = made if isinstance(made, Collection) else open_store(made)  # which keeps what it decodes to itself
    expected = other.read(chunk_of(drawn), ["X", "obs_names"], kept)
    for again in (False, True):  # out of a cache, the second time, or of the storage chunks decoded last
        with metering(meter := Meter()):
            begun = store.begin(chunk_of(drawn), FIRST, ["X", "obs_names"], kept)
            early = meter.totals["decode"]
            assert same(begun.first["X"], expected["X"][:FIRST])
            assert begun.first["obs_names"].tolist() == expected["obs_names"][:FIRST].tolist()
            rest = begun.rest()
        assert same(rest["X"], expected["X"][FIRST:])
        assert rest["obs_names"].tolist() == expected["obs_names"][FIRST:].tolist()
        if source in LATER and not again:
            assert 0 < early < meter.totals["decode"]


def test_what_is_read_without_first_rows_is_all_there(tmp_path: Path) -> None:
    path = csr_file(tmp_path / "x.h5ad", **GZIP)
    values = open_store(path).begin(chunk_of(ROWS), 0, ["X"]).first["X"]
    assert same(values, rows_of(anndata.read_h5ad(path).X, ROWS))


@given(st.data())
def test_pieces_are_put_in_turn_by_storage_chunk(data: st.DataObject) -> None:
    chunks = np.sort(np.array(data.draw(st.lists(st.integers(0, 5), max_size=12)), np.int64))
    tos = np.random.default_rng(data.draw(st.integers(0, 9))).permutation(len(chunks))
    before = data.draw(st.integers(0, 13))
    ones = np.ones_like(chunks)
    wanted = {int(chunk) for chunk, to in zip(chunks, tos, strict=True) if to < before}
    first = [to for chunk, to in zip(chunks, tos, strict=True) if int(chunk) in wanted]
    rest = [to for to in tos if to not in first]
    pieces, n_first = Pieces(chunks, chunks, tos, ones).in_turn(before)
    assert (pieces.tos.tolist(), n_first) == ([*first, *rest], len(first))
    assert all((np.diff(part) >= 0).all() for part in (pieces.chunks[:n_first], pieces.chunks[n_first:]))
