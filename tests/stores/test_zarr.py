"""AnnData in Zarr stores, of both versions and in every layout; the oracle is what anndata reads of them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from builders import adata_of
from contracts import StoreContract
from numcodecs import LZ4, Blosc, GZip, Shuffle, Zlib, Zstd
from storage_files import matrix_values, read_x, rows_of, same
from zarr_stores import codecs, csr_store, dense_store, expected, written, zipped

from annpipes import AnnDataset, stream
from annpipes.stores import Store, open_store

STORES = [
    ("csr", "float32", 2, "folder"),
    ("csr", "float32", 3, "folder"),
    ("csr", "float32", 3, "zip"),
    ("csr", "int64", 2, "zip"),
    ("csr_array", "float64", 3, "folder"),
    ("csr", "uint16", 3, "folder"),
    ("csr", "bool", 3, "folder"),
    ("dense", "float32", 2, "folder"),
    ("dense", "float64", 3, "folder"),
    ("dense", "int32", 3, "zip"),
    ("dense", "bool", 2, "folder"),
]


class TestZarr(StoreContract):
    @pytest.fixture(scope="class", params=STORES, ids=lambda kind: "-".join(map(str, kind)))
    @classmethod
    def path(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
        x, dtype, version, where = request.param
        folder = tmp_path_factory.mktemp("store")
        path = written(adata_of(x=x, dtype=dtype), folder / "cells.zarr", version)
        return path if where == "folder" else zipped(path, folder / "cells.zarr.zip")

    @pytest.fixture(scope="class")
    @classmethod
    def adata(cls, path: Path) -> anndata.AnnData:
        return expected(path)

    @pytest.fixture
    def store(self, path: Path) -> Store:
        return open_store(path)


DRAWN = [*range(22, 0, -2), 5, 5, 0, 21, 3, 7]

CODECS: dict[str, tuple[int, dict[str, Any]]] = {
    "uncompressed": (3, {"compressors": None}),
    "uncompressed, version 2": (2, {"compressors": None}),
    "zstd": (3, {"compressors": codecs.ZstdCodec(level=3)}),
    "zstd with checksum": (3, {"compressors": codecs.ZstdCodec(level=3, checksum=True)}),
    "gzip": (3, {"compressors": codecs.GzipCodec()}),
    "blosc lz4": (3, {"compressors": codecs.BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")}),
    "blosc zstd": (3, {"compressors": codecs.BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")}),
    "crc32c": (3, {"compressors": codecs.Crc32cCodec()}),
    "zstd, then crc32c": (3, {"compressors": [codecs.ZstdCodec(), codecs.Crc32cCodec()]}),
    "blosc, version 2": (2, {"compressors": Blosc(cname="lz4")}),
    "zstd, version 2": (2, {"compressors": Zstd(level=1)}),
    "lz4, version 2": (2, {"compressors": LZ4()}),
    "gzip, version 2": (2, {"compressors": GZip()}),
    "zlib, version 2": (2, {"compressors": Zlib()}),
    "shuffle + zlib, version 2": (2, {"filters": [Shuffle(4)], "compressors": Zlib()}),
    "keys of version 2": (3, {"chunk_key_encoding": {"name": "v2", "separator": "."}}),
    "keys with dots": (3, {"chunk_key_encoding": {"name": "default", "separator": "."}}),
    "nested keys, version 2": (2, {"chunk_key_encoding": {"name": "v2", "separator": "/"}}),
}
SHARDED = {name: how for name, (version, how) in CODECS.items() if version == 3 and "keys" not in name}


def check(path: Path, route: str = "direct") -> None:
    """Rows, genes of rows, and single items are what anndata reads."""
    x, store = expected(path).X, open_store(path)
    assert store.route("X").kind == route, store.route("X")
    assert same(read_x(path, DRAWN), x[DRAWN] if isinstance(x, np.ndarray) else rows_of(x, DRAWN))
    dense = x if isinstance(x, np.ndarray) else x.toarray()
    seen = [batch["X"].numpy() for batch in stream(path, 5, fields=["X"], shuffle=False, genes=[7, 0, 3])]
    assert np.array_equal(np.concatenate(seen), dense[:, [7, 0, 3]])
    assert np.array_equal(AnnDataset(path)[22]["X"].numpy(), dense[22])


@pytest.mark.parametrize("name", CODECS)
def test_every_codec(tmp_path: Path, name: str) -> None:
    version, how = CODECS[name]
    check(csr_store(tmp_path / "csr.zarr", version, **how))
    check(dense_store(tmp_path / "dense.zarr", version, **how))


@pytest.mark.parametrize("name", SHARDED)
def test_every_codec_in_shards(tmp_path: Path, name: str) -> None:
    check(csr_store(tmp_path / "csr.zarr", 3, shards=(21,), **SHARDED[name]))
    check(dense_store(tmp_path / "dense.zarr", 3, shards=(8, 10), **SHARDED[name]))


INDICES = {
    "at the start": {"index_location": "start"},
    "without a checksum": {"index_codecs": [codecs.BytesCodec()]},
}


@pytest.mark.parametrize("chunk", [1, 5, 64, 1000])
@pytest.mark.parametrize("per_shard", [1, 2, 7])
def test_storage_chunks_and_shards_of_any_size(tmp_path: Path, chunk: int, per_shard: int) -> None:
    check(csr_store(tmp_path / "csr.zarr", 3, chunk=chunk, shards=(chunk * per_shard,)))


@pytest.mark.parametrize("sides", list(itertools.product([1, 4, 23], [1, 5, 9])), ids=str)
def test_storage_chunks_of_dense_rows_of_any_shape(tmp_path: Path, sides: tuple[int, int]) -> None:
    check(dense_store(tmp_path / "dense.zarr", 3, chunks=sides, shards=(sides[0] * 2, sides[1] * 3)))
    check(dense_store(tmp_path / "alone.zarr", 2, chunks=sides))


def test_more_files_than_a_process_could_open(tmp_path: Path) -> None:
    values = matrix_values(2000, 9)
    path = csr_store(tmp_path / "cells.zarr", 3, values, chunk=3)
    check(path)
    assert len(list((path / "X" / "data" / "c").iterdir())) > 1024
    order = [batch["X"].numpy() for batch in stream(path, 64, fields=["X"], shuffle=False)]
    assert np.array_equal(np.concatenate(order), values)


LIBRARY = {
    "Fortran's order": (2, {"order": "F"}, "elements in Fortran order"),
    "transposed": (3, {"filters": codecs.TransposeCodec(order=(1, 0))}, "transpose is decoded only by zarr"),
    "most significant byte first": (3, {"serializer": codecs.BytesCodec(endian="big")}, "big-endian"),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_what_the_engine_does_not_decode_is_read_through_zarr(tmp_path: Path, name: str) -> None:
    version, how, reason = LIBRARY[name]
    path = dense_store(tmp_path / "cells.zarr", version, **how)
    check(path, "zarr")
    assert reason in open_store(path).route("X").reason
