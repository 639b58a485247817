"""What is read through a cache of decoded storage chunks; the oracle is what anndata reads."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import anndata
import hdf5plugin
import numpy as np
import pytest
from builders import adata_of
from cached_files import ROWS, cached, files_of, gzip_file, present, read_all
from numcodecs import Blosc
from storage_files import create, dense_file, read_x, relayout, rows_of, same, stored_x
from zarr_stores import expected, put, stored, written

import annpipes as ap
from annpipes.errors import ChangedError, ParameterError, ParameterTypeError, SourceError
from annpipes.meters import Meter, metering
from annpipes.stores import densify, open_store
from annpipes.stores.bytes import files
from annpipes.stores.caching import loops
from annpipes.stores.codecs.pipelines import Pipeline
from annpipes.stores.containers import zarr_places

CODECS: dict[str, dict[str, Any]] = {
    "gzip": {},
    "shuffle + gzip": {"shuffle": True},
    "gzip + fletcher32": {"fletcher32": True},  # which no compiled loop decodes
    "lz4": {"compression": None, **hdf5plugin.LZ4()},
    "zstd": {"compression": None, **hdf5plugin.Zstd()},
    "blosc": {"compression": None, **hdf5plugin.Blosc()},
}
SINGLE = [7, 150, 7, 299]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def check_twice(path: Path, folder: Path, x: Any) -> None:
    """Two epochs, then a process that finds them, and single rows: all as anndata has it, and all is kept."""
    store = cached(path, folder)
    for seed in range(2):
        found, drawn = read_all(store, seed)
        assert same(found, rows_of(x, drawn))
    del store
    again = cached(path, folder)
    singles = [row % len(found) for row in SINGLE]
    for row in singles:
        assert same(read_x(again, [row]), rows_of(x, [row]))
    found, drawn = read_all(again, 3)
    assert same(found, rows_of(x, drawn))
    assert present(folder)[0] == present(folder)[1] > 0


@pytest.mark.parametrize("codec", CODECS)
def test_rows_are_those_of_the_file_in_every_epoch(tmp_path: Path, folder: Path, codec: str) -> None:
    path = gzip_file(tmp_path / "a.h5ad", **CODECS[codec])
    check_twice(path, folder, stored_x(path))


def test_dense_rows_too(tmp_path: Path, folder: Path) -> None:
    path = dense_file(tmp_path / "a.h5ad", chunks=(4, 5), compression="gzip")
    check_twice(path, folder, stored_x(path))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("x", ["csr", "dense"])
def test_zarr_stores_too(tmp_path: Path, folder: Path, x: str, version: int) -> None:
    path = written(adata_of(x=x), tmp_path / "a.zarr", version)
    fields = ["X"] if x == "dense" else ["X/data", "X/indices"]
    for field in fields:
        side = (4, 3) if x == "dense" else (10,)
        how = {"compressors": Blosc()} if version == 2 else {"shards": tuple(2 * one for one in side)}
        put(path, field, chunks=side, **how)
    check_twice(path, folder, expected(path).X)


@pytest.mark.parametrize("genes", [None, [3, 1]])
@pytest.mark.parametrize("becomes", ["other", "gone"])
def test_a_zarr_store_that_changes_is_noticed_though_nothing_of_it_is_read(
    tmp_path: Path, folder: Path, becomes: str, genes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(adata_of(), tmp_path / "a.zarr", 3)
    monkeypatch.setattr(zarr_places, "_OPEN_FILES", 0)  # more than may be open
    read_all(store := cached(path, folder))
    chunk = stored(path, "X/data")[0]
    if becomes == "gone":
        chunk.unlink()
    else:
        chunk.write_bytes(chunk.read_bytes()[::-1])
    monkeypatch.setattr(files, "_LOOK_SECONDS", -1.0)  # looked at a moment ago
    with pytest.raises(ChangedError if becomes == "other" else SourceError, match="since it was first opened"):
        store.read(ap.Chunk.of(np.array([3, 1])), ["X"], None if genes is None else store.genes(genes))


def test_some_genes_are_taken_from_the_cache(tmp_path: Path, folder: Path) -> None:
    path = gzip_file(tmp_path / "a.h5ad")
    expected_rows = anndata.read_h5ad(path)[:, ["g5", "g1"]].X.toarray()
    store = cached(path, folder)
    for seed in range(3):
        drawn = np.random.default_rng(seed).permutation(ROWS)
        for part in (drawn, drawn[:2]):
            found = store.read(ap.Chunk.of(part), ["X"], store.genes(["g5", "g1"]))["X"]
            assert isinstance(found, ap.SparseRows)
            assert np.array_equal(densify(found), expected_rows[part])
    assert present(folder) == (present(folder)[1],) * 2


def test_a_later_epoch_decodes_nothing(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = gzip_file(tmp_path / "a.h5ad")
    store = cached(path, folder)
    read_all(store)
    monkeypatch.setattr(Pipeline, "decode", lambda *args: pytest.fail("decoded"))
    meter = Meter()
    with metering(meter):
        found, drawn = read_all(store, 1)
        single = read_x(store, [5])
    assert same(found, rows_of(x := stored_x(path), drawn))
    assert same(single, rows_of(x, [5]))
    assert "decode" not in meter.totals
    assert meter.totals["cached"] == meter.totals["copied"] == meter.totals["decoded"]


def test_what_is_read_is_what_the_cache_has(tmp_path: Path, folder: Path) -> None:
    path = gzip_file(tmp_path / "a.h5ad")
    read_all(cached(path, folder))
    data, table = (
        next(file for file in files_of(folder, name) if _array(file) == "X/data") for name in ("data", "table")
    )
    octets = np.fromfile(data, np.uint8)
    octets.view(np.float32)[:40] += 100  # one storage chunk, and its entry
    octets.tofile(data)
    entries = np.fromfile(table, np.int64)
    entries[0] = loops.entry_of(octets[:160])
    entries.tofile(table)
    assert read_x(cached(path, folder), [1]).data[0] == stored_x(path)[1].data[0] + 100


def _array(file: Path) -> str:
    array: str = json.loads((file.parent / "about.json").read_text())["array"]
    return array


@pytest.mark.parametrize("compiled", [True, False])
def test_a_flipped_byte_is_noticed_and_mended(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *, compiled: bool
) -> None:
    if not compiled:
        monkeypatch.setattr("annpipes.stores.caching.cached.checksum_address", lambda: 0)
    path = gzip_file(tmp_path / "a.h5ad")
    x = stored_x(path)
    read_all(cached(path, folder))
    for file in files_of(folder, "data"):
        octets = np.fromfile(file, np.uint8)
        octets[::97] ^= 64
        octets.tofile(file)
    for drawn in ([5], np.random.default_rng(1).permutation(ROWS).tolist()):
        store = cached(path, folder)
        for _ in range(2):
            assert same(read_x(store, drawn), rows_of(x, drawn))
    again = cached(path, folder)
    _, drawn = read_all(again)
    assert same(read_x(again, drawn), rows_of(x, drawn))
    for file in files_of(folder, "data"):
        entries, octets = np.fromfile(file.with_name("table"), np.int64), np.fromfile(file, np.uint8)
        assert [loops.entry_of(part) for part in octets.reshape(len(entries), -1)] == entries.tolist()


@pytest.mark.parametrize("name", ["data", "table", "about.json"])
@pytest.mark.parametrize("what", ["cut", "gone", "longer"])
def test_files_that_somebody_spoilt_are_made_anew(tmp_path: Path, folder: Path, name: str, what: str) -> None:
    path = gzip_file(tmp_path / "a.h5ad")
    read_all(cached(path, folder))
    for file in files_of(folder, name):
        content = file.read_bytes()
        file.unlink()
        if what != "gone":
            file.write_bytes(content[:-3] if what == "cut" else content + b"x")
    check_twice(path, folder, stored_x(path))


def test_a_file_that_changed_has_a_cache_of_its_own(tmp_path: Path, folder: Path) -> None:
    path = gzip_file(tmp_path / "a.h5ad")
    store = cached(path, folder)
    read_all(store)
    before = {file.parent for file in files_of(folder, "data")}
    gzip_file(path, rows=ROWS + 10)
    with pytest.raises(ChangedError):
        read_all(store)
    check_twice(path, folder, stored_x(path))
    after = {file.parent for file in files_of(folder, "data")}
    assert len(after) == len(before) == 2
    assert not after & before  # the old one is gone


def test_what_a_change_may_have_spoilt_is_forgotten(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = gzip_file(tmp_path / "a.h5ad")
    other = gzip_file(tmp_path / "b.h5ad").read_bytes()
    store = cached(path, folder)
    read_x(store, [0])
    decode = Pipeline.decode

    def change(*args: Any) -> Any:
        path.write_bytes(other + b"x")
        return decode(*args)

    monkeypatch.setattr(Pipeline, "decode", change)
    with pytest.raises(ChangedError):
        read_x(store, [200])
    assert files_of(folder, "data") == []


def test_batches_are_the_same_with_and_without(tmp_path: Path, folder: Path) -> None:
    path, kept = gzip_file(tmp_path / "a.h5ad"), ap.Cache(str(folder), "1GB")
    for workers in (0, 2):
        streams = [ap.stream(path, 32, cache=cache, num_workers=workers) for cache in (None, kept)]
        for _ in range(2):
            for one, other in zip(*streams, strict=True):
                assert one["X"].equal(other["X"])
    dataset, plain = ap.AnnDataset(path, cache=kept), ap.AnnDataset(path)
    assert dataset[17]["X"].equal(plain[17]["X"])
    both, alone = ap.IndexSource([path, path], cache=kept), ap.IndexSource([path, path])
    assert both.block_size == alone.block_size
    drawn = ap.Chunk.of(np.array([400, 3, 599]))
    assert same(both.store.read(drawn, ["X"])["X"], alone.store.read(drawn, ["X"])["X"])


def typed(value: Any) -> Any:
    return eval(repr(value), {name: getattr(ap, name) for name in ap.__all__})  # noqa: S307 (our own repr)


def test_it_has_a_repr_and_pickles(tmp_path: Path, folder: Path) -> None:
    path, cache = gzip_file(tmp_path / "a.h5ad"), ap.Cache(str(folder), size="1GB")
    assert repr(cache) == f"Cache({str(folder)!r}, size='1GB')"
    assert pickle.loads(pickle.dumps(cache)) == cache == typed(cache)
    source = ap.IndexSource(str(path), cache=cache, block_size=4)
    assert repr(typed(source)) == repr(source)
    several = ap.IndexSource([str(path)], cache=cache, block_size=4)
    assert repr(typed(several)) == repr(several)
    read_all(source.store)
    copied = pickle.loads(pickle.dumps(source.store))
    assert same(read_x(copied, [3]), rows_of(stored_x(path), [3]))
    assert source.route() == "direct (gzip, cached)"


def test_an_uncompressed_file_needs_no_cache(tmp_path: Path, folder: Path) -> None:
    path = gzip_file(tmp_path / "a.h5ad")
    for part in ("data", "indices"):
        relayout(path, f"X/{part}", create())
    store = cached(path, folder)
    read_all(store)
    assert store.route("X") == "direct (uncompressed)"
    assert files_of(folder, "data") == []


def test_in_memory_nothing_is_kept_and_backed_it_is(tmp_path: Path, folder: Path) -> None:
    path = gzip_file(tmp_path / "a.h5ad")
    read_all(open_store(anndata.read_h5ad(path), ap.Cache(str(folder), "1GB")))
    assert files_of(folder, "data") == []
    adata = anndata.read_h5ad(path, backed="r")
    read_all(open_store(adata, ap.Cache(str(folder), "1GB")))
    adata.file.close()
    assert present(folder) == (present(folder)[1],) * 2


def test_a_folder_removed_in_between_is_done_without(tmp_path: Path, folder: Path) -> None:
    path = gzip_file(tmp_path / "a.h5ad")
    store = cached(path, folder)
    read_x(store, [0])
    shutil.rmtree(folder)
    found, drawn = read_all(store)
    assert same(found, rows_of(stored_x(path), drawn))
    check_twice(path, folder, stored_x(path))


def test_what_can_be_no_cache_is_refused(tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ParameterError, match=r"cache must be a folder, but '.*file' is a file"):
        ap.Cache(str(file))
    with pytest.raises(ParameterError, match="can be written to"):
        ap.Cache(str(file / "below"))
    with pytest.raises(ParameterError, match="can be written to"):
        ap.Cache("/proc/annpipes")
    with pytest.raises(ParameterTypeError, match="cache must be a path or a Cache, got int"):
        ap.IndexSource(tmp_path / "a.h5ad", cache=3)
    with pytest.raises(ParameterError, match="size must be bytes"):
        ap.Cache(str(folder), size="much")
    collection = ap.Collection([gzip_file(tmp_path / "a.h5ad")])
    with pytest.raises(ParameterError, match="give cache where that is made"):
        ap.IndexSource(collection, cache=folder)
