"""Any rows of a matrix in any layout of HDF5, as anndata reads them and on both routes alike."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import anndata
import h5py
import hdf5plugin
import numpy as np
import pytest
from h5py import h5d, h5p
from hypothesis import given, settings
from hypothesis import strategies as st
from storage_files import (
    Make,
    compact,
    create,
    csr_file,
    csr_of,
    low_level,
    matrix_values,
    read_both,
    refused,
    relayout,
    rows_of,
    same,
    stored_x,
    write,
)

from annpipes.stores import open_store
from annpipes.stores.bytes import local

DTYPES = [
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
]
INDEX_DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]

FILTERS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "direct (uncompressed)"),
    "gzip": ({"compression": "gzip"}, "direct (gzip)"),
    "gzip at its hardest": ({"compression": "gzip", "compression_opts": 9}, "direct (gzip)"),
    "shuffle": ({"shuffle": True}, ""),
    "shuffle + gzip": ({"shuffle": True, "compression": "gzip"}, "direct (shuffle + gzip)"),
    "fletcher32": ({"fletcher32": True}, "direct (fletcher32)"),
    "gzip + fletcher32": ({"compression": "gzip", "fletcher32": True}, "direct (gzip + fletcher32)"),
    "all three": (
        {"shuffle": True, "compression": "gzip", "fletcher32": True},
        "direct (shuffle + gzip + fletcher32)",
    ),
    "lzf": ({"compression": "lzf"}, "h5py (filter lzf (32000) is decoded only by HDF5)"),
    "shuffle + lzf": (
        {"shuffle": True, "compression": "lzf"},
        "h5py (filter lzf (32000) is decoded only by HDF5)",
    ),
    "LZ4": (dict(hdf5plugin.LZ4()), "direct (lz4)"),
    "LZ4 in small blocks": (dict(hdf5plugin.LZ4(nbytes=16)), "direct (lz4)"),
    "shuffle + LZ4": ({"shuffle": True, **hdf5plugin.LZ4()}, "direct (shuffle + lz4)"),
    "LZ4 + fletcher32": ({"fletcher32": True, **hdf5plugin.LZ4()}, "direct (lz4 + fletcher32)"),
    "Zstd": (dict(hdf5plugin.Zstd()), "direct (zstd)"),
    "shuffle + Zstd": ({"shuffle": True, **hdf5plugin.Zstd(clevel=9)}, "direct (shuffle + zstd)"),
    **{
        f"Blosc {name} {shuffle}": (dict(hdf5plugin.Blosc(cname=name, shuffle=shuffle)), "direct (blosc)")
        for name in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
        for shuffle in range(3)
    },
    "Bitshuffle": (dict(hdf5plugin.Bitshuffle()), "h5py (filter "),
    "Blosc2": (dict(hdf5plugin.Blosc2()), "h5py (filter "),
}
if h5py.h5z.filter_avail(h5py.h5z.FILTER_SZIP):
    FILTERS["szip"] = ({"compression": "szip", "compression_opts": ("nn", 8)}, "h5py (filter ")


@st.composite
def layouts(draw: Any, sides: int) -> Make:
    """Contiguous, or storage chunks smaller and larger than a row, with any filters."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from([create(), compact]))
    chunks = tuple(draw(st.sampled_from([1, 2, 3, 5, 8, 13, 40, 300])) for _ in range(sides))
    options, _ = FILTERS[draw(st.sampled_from(sorted(FILTERS)))]
    if options.get("compression") == "szip":
        chunks = tuple(max(8, side) for side in chunks)  # szip wants a whole block of pixels
    return create(chunks=chunks, **options)


@st.composite
def matrices(draw: Any) -> tuple[Any, list[int]]:
    """Values and some of their rows, in any order and more than once."""
    n_obs, n_vars = draw(st.integers(0, 30)), draw(st.integers(1, 12))
    dtype = draw(st.sampled_from(DTYPES))
    values = matrix_values(n_obs, n_vars, dtype, seed=draw(st.integers(0, 9)))
    rows = st.lists(st.integers(0, n_obs - 1), max_size=40) if n_obs else st.just([])
    return values, draw(rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layouts")


@settings(max_examples=120)
@given(matrices(), layouts(1), layouts(1), layouts(1), st.sampled_from(INDEX_DTYPES), st.sampled_from(["i4", "i8"]))
def test_any_rows_of_any_csr_layout(
    folder: Path,
    matrix: tuple[Any, list[int]],
    data: Make,
    indices: Make,
    indptr: Make,
    index_dtype: str,
    indptr_dtype: str,
) -> None:
    values, drawn = matrix
    path = write(folder / "csr.h5ad", csr_of(values.astype("float64")))
    with h5py.File(path) as file:
        parts = {name: file["X"][name][()] for name in ("data", "indices", "indptr")}
    relayout(path, "X/data", data, parts["data"].astype(values.dtype))
    relayout(path, "X/indices", indices, parts["indices"].astype(index_dtype))
    relayout(path, "X/indptr", indptr, parts["indptr"].astype(indptr_dtype))
    found, _ = read_both(path, drawn)
    assert same(found, rows_of(stored_x(path), drawn))


@settings(max_examples=120)
@given(matrices(), layouts(2))
def test_any_rows_of_any_dense_layout(folder: Path, matrix: tuple[Any, list[int]], layout: Make) -> None:
    values, drawn = matrix
    path = write(folder / "dense.h5ad", values)
    relayout(path, "X", layout)
    found, _ = read_both(path, drawn)
    assert same(found, rows_of(anndata.read_h5ad(path).X, drawn))


@pytest.mark.parametrize(("options", "route"), FILTERS.values(), ids=FILTERS)
def test_the_route_names_the_filters(tmp_path: Path, options: dict[str, Any], route: str) -> None:
    dense, csr = write(tmp_path / "d.h5ad", matrix_values()), write(tmp_path / "c.h5ad", csr_of(matrix_values()))
    relayout(dense, "X", create(chunks=8, **options))
    relayout(csr, "X/data", create(chunks=8, **options))
    relayout(csr, "X/indices", create(chunks=8, **options))
    assert open_store(dense).route("X").startswith(route)
    assert open_store(csr).route("X").startswith(route)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"chunks": 5, "compression": "gzip"}], ids=["plain", "gzip"])
def test_every_type_of_number_is_kept(tmp_path: Path, dtype: str, options: dict[str, Any]) -> None:
    values = matrix_values(dtype=dtype)
    dense, csr = write(tmp_path / "d.h5ad", values), write(tmp_path / "c.h5ad", csr_of(matrix_values()))
    relayout(dense, "X", create(**options))
    with h5py.File(csr) as file:
        stored = file["X/data"][()].astype(dtype)
    relayout(csr, "X/data", create(**options), stored)
    assert read_both(dense, [4, 4, 1])[0].dtype == dtype
    assert same(read_both(dense, range(23))[0], values)
    assert same(read_both(csr, range(23))[0].data, stored)


@pytest.mark.parametrize("dtype", INDEX_DTYPES)
@pytest.mark.parametrize("indptr_dtype", ["i4", "u4", "i8", "u8"])
def test_columns_in_no_order_and_twice_stay_as_they_are(tmp_path: Path, dtype: str, indptr_dtype: str) -> None:
    path = write(tmp_path / "c.h5ad", csr_of(matrix_values(n_vars=120)))
    with h5py.File(path) as file:
        columns, pointers = file["X/indices"][()], file["X/indptr"][()]
    columns = np.random.default_rng(0).permutation(columns) // 2
    relayout(path, "X/indices", create(chunks=7, compression="gzip"), columns.astype(dtype))
    relayout(path, "X/indptr", create(), pointers.astype(indptr_dtype))
    drawn = [22, 0, 5, 5, 7]
    found, _ = read_both(path, drawn)
    assert found.indices.dtype == dtype
    assert same(found, rows_of(anndata.read_h5ad(path).X, drawn))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (1, 1), (6, 4)], ids=str)
@pytest.mark.parametrize("form", ["csr", "dense"])
@pytest.mark.parametrize("options", [{}, {"chunks": 3}, {"chunks": 3, "compression": "gzip"}], ids=str)
def test_nothing_at_all_has_the_right_shape(
    tmp_path: Path, shape: tuple[int, int], form: str, options: dict[str, Any]
) -> None:
    values = np.zeros(shape, np.float32)
    path = write(tmp_path / "none.h5ad", values if form == "dense" else csr_of(values))
    for field in ["X"] if form == "dense" else ["X/data", "X/indices"]:
        relayout(path, field, create(**options))
    for drawn in ([], list(range(shape[0])) * 2):
        found, _ = read_both(path, drawn)
        assert found.shape == (len(drawn), shape[1])
        assert same(found, rows_of(anndata.read_h5ad(path).X, drawn))


FAR = 2**31 + 1000  # more values than 32 bits with a sign can count
PLACES = [0, 1, 2, FAR, FAR + 1, FAR + 2, FAR + 3, FAR + 4]


def holes(group: h5py.Group, name: str, numbers: Any) -> None:
    """Contiguous: HDF5 makes the file long, and the file system stores what is written."""
    created = h5p.create(h5p.DATASET_CREATE)
    created.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    created.set_fill_time(h5d.FILL_TIME_NEVER)
    low_level(group, name, np.broadcast_to(np.int8(0), FAR + 5), created, fill=False)[PLACES] = numbers


def mostly_zeros(group: h5py.Group, name: str, numbers: Any) -> None:
    """In large storage chunks, nearly all of which have the same few bytes."""
    dataset = group.create_dataset(name, (FAR + 5,), "i1", chunks=(2**24,), compression="gzip")
    zeros = zlib.compress(bytes(2**24))
    for first in range(0, FAR + 5, 2**24):
        dataset.id.write_direct_chunk((first,), zeros)
    dataset[PLACES] = numbers


def mostly_absent(group: h5py.Group, name: str, numbers: Any) -> None:
    group.create_dataset(name, (FAR + 5,), "i1", chunks=(2**20,), compression="gzip")[PLACES] = numbers


@pytest.mark.parametrize(
    ("make", "route"),
    [
        (holes, "direct (uncompressed)"),
        (mostly_zeros, "direct (gzip)"),
        (mostly_absent, "h5py (storage chunks that were never allocated)"),
    ],
    ids=["contiguous", "gzip", "never written"],
)
def test_more_values_than_32_bits_count(tmp_path: Path, make: Make, route: str) -> None:
    path = write(tmp_path / "large.h5ad", csr_of(np.zeros((5, 9), np.int8)))
    relayout(path, "X/indptr", create(), np.array([0, 3, 3, FAR, FAR + 2, FAR + 5]))
    relayout(path, "X/data", make, np.arange(1, 9))
    relayout(path, "X/indices", make, np.array([8, 0, 3, 1, 2, 5, 6, 7]))
    assert path.stat().st_blocks * 512 < 10_000_000
    found, taken = read_both(path, [4, 0, 1, 3, 4])
    assert found.indptr.tolist() == [0, 3, 6, 6, 8, 11]
    assert found.data.tolist() == [6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8]
    assert found.indices.tolist() == [5, 6, 7, 8, 0, 3, 1, 2, 5, 6, 7]
    assert taken == route


@pytest.mark.parametrize(("mapped", "cached"), [(2**31, True), (0, True), (2**31, False), (0, False)])
@pytest.mark.parametrize("chunks", [None, 16])
def test_uncompressed_bytes_are_the_same_by_map_by_reading_and_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: int, cached: bool, chunks: int | None
) -> None:
    monkeypatch.setattr(local, "_MAPPED_BYTES", mapped)
    monkeypatch.setattr(local.FileBytes, "cached", lambda *_: cached)
    values, drawn = matrix_values(), [*range(22, 0, -2), 5, 5, 0]
    dense, csr = write(tmp_path / "d.h5ad", values), csr_file(tmp_path / "c.h5ad", chunks=chunks)
    relayout(dense, "X", create(chunks=chunks and 6))
    assert same(read_both(dense, drawn)[0], values[drawn])
    assert same(read_both(csr, drawn)[0], rows_of(anndata.read_h5ad(csr).X, drawn))
    with h5py.File(csr, "r+") as file:
        file["X/indices"][-1] = 9
    refused(csr, "X/indices", [22, 21])
