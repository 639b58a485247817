"""Files whose bytes contradict themselves: an error that names file, field and rows, and never a crash."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import anndata
import hdf5plugin
import pytest
from storage_files import csr_file, dense_file, in_h5py_alone, places_of, read_x, refused, rows_of, same
from storage_processes import run_alone

from annpipes.errors import DamageError, FormatError

GZIP = {"chunks": 16, "compression": "gzip"}
PLAIN = {"chunks": 16}
ALL_ROWS = range(23)


@pytest.fixture(params=["direct", "h5py"], autouse=True)
def route(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each test of this file reads on both routes."""
    with in_h5py_alone() if request.param == "h5py" else nullcontext():
        yield request.param


def patch(path: Path, old: bytes, new: bytes) -> None:
    """Replace the one place in a file that holds these bytes."""
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


FILTERS = {
    "gzip": GZIP,
    "shuffle + gzip": {"shuffle": True, **GZIP},
    "checksum": {"chunks": 16, "fletcher32": True},
    "gzip + checksum": {"fletcher32": True, **GZIP},
    "lz4 + checksum": {"chunks": 16, "fletcher32": True, **hdf5plugin.LZ4()},
    "lzf + checksum": {"chunks": 16, "fletcher32": True, "compression": "lzf"},
}


@pytest.mark.parametrize("options", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("field", ["X/data", "X/indices"])
def test_a_flipped_bit_names_rows_and_spares_the_others(tmp_path: Path, options: dict[str, Any], field: str) -> None:
    path = csr_file(tmp_path / "flip.h5ad", **options)
    x = anndata.read_h5ad(path).X
    places = places_of(path, field)
    whole = path.read_bytes()
    for number in (0, len(places) // 2, len(places) - 1):
        offset, size = places[number]
        hurt = {row for row in ALL_ROWS if x.indptr[row] < (number + 1) * 16 and x.indptr[row + 1] > number * 16}
        spared = [row for row in ALL_ROWS if row not in hurt]
        for place in (offset + size // 2, offset + size - 1):
            broken = bytearray(whole)
            broken[place] ^= 0x10
            path.write_bytes(broken)
            found = re.search(r"rows (\d+) … (\d+)", refused(path, field))
            assert found
            assert hurt <= set(range(int(found[1]), int(found[2]) + 1))
            assert same(read_x(path, spared), rows_of(x, spared))


@pytest.mark.parametrize("options", FILTERS.values(), ids=FILTERS)
def test_a_flipped_bit_in_a_dense_matrix_names_rows(tmp_path: Path, options: dict[str, Any]) -> None:
    path = dense_file(tmp_path / "flip.h5ad", **{**options, "chunks": (8, 16)})
    x = anndata.read_h5ad(path).X
    offset, size = places_of(path, "X")[1]
    broken = bytearray(path.read_bytes())
    broken[offset + size // 2] ^= 0x10
    path.write_bytes(broken)
    found = re.search(r"rows (\d+) … (\d+)", refused(path))
    assert found
    assert int(found[1]) <= 8 < 15 <= int(found[2])
    spared = [0, 7, 16, 22, 3]
    assert same(read_x(path, spared), rows_of(x, spared))


@pytest.mark.parametrize("options", [{}, GZIP], ids=["plain", "gzip"])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    path = csr_file(tmp_path / "cut.h5ad", **options)
    size = path.stat().st_size
    for left in (size - 1, size - 1000, size // 2, 2000, 513, 96, 8, 1, 0):
        os.truncate(path, left)
        with pytest.raises((DamageError, FormatError), match=r"cut\.h5ad"):
            read_x(path, ALL_ROWS)


OUTSIDE = [
    "size",  # the first byte after the file
    1 << 40,
    (1 << 63) - 8,  # a sum of offset and size would be negative
    (1 << 63) + 8,
    (1 << 64) - 2,
]


@pytest.mark.parametrize("offset", OUTSIDE)
@pytest.mark.parametrize("options", [GZIP, PLAIN], ids=["gzip", "plain"])
def test_a_table_that_points_outside_of_the_file_is_refused(tmp_path: Path, offset: Any, options: Any) -> None:
    path = csr_file(tmp_path / "table.h5ad", **options)
    place, size = places_of(path, "X/data")[1]
    offset = path.stat().st_size if offset == "size" else offset
    key = struct.pack("<IIQQ", size, 0, 16, 0)  # B-tree of storage chunks: size, mask, place in the dataset
    patch(path, key + struct.pack("<Q", place), key + struct.pack("<Q", offset))
    run_alone(refused, path, "X/data")


@pytest.mark.parametrize("wrong", [0, 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("options", [GZIP, PLAIN], ids=["gzip", "plain"])
def test_a_table_with_a_wrong_size_gives_no_wrong_rows(
    tmp_path: Path, wrong: int, options: dict[str, Any], route: str
) -> None:
    if route == "h5py" and options == PLAIN and wrong < 2:
        pytest.skip("HDF5 believes it, and fills up with whatever is in memory")
    path = csr_file(tmp_path / "table.h5ad", **options)
    x = anndata.read_h5ad(path).X
    place, size = places_of(path, "X/data")[1]
    key = struct.pack("<IQQQ", 0, 16, 0, place)
    patch(path, struct.pack("<I", size) + key, struct.pack("<I", wrong) + key)
    run_alone(refused_or_right, path, x)


@pytest.mark.parametrize("corner", [17, 16 * 1000, 2**40, 2**63, 32])
@pytest.mark.parametrize("options", [GZIP, PLAIN], ids=["gzip", "plain"])
def test_a_table_with_a_wrong_corner_gives_no_wrong_rows(tmp_path: Path, corner: int, options: dict[str, Any]) -> None:
    path = csr_file(tmp_path / "table.h5ad", **options)
    x = anndata.read_h5ad(path).X
    place, size = places_of(path, "X/data")[1]
    old, new = (struct.pack("<IIQQQ", size, 0, first, 0, place) for first in (16, corner))
    patch(path, old, new)
    run_alone(refused_or_right, path, x)


def refused_or_right(path: Path, x: Any) -> None:
    """Run alone: an error, or the rows as they were, or as HDF5 reads them since the damage."""
    try:
        found = read_x(path, ALL_ROWS)
    except (DamageError, FormatError):
        return
    if not same(found, rows_of(x, ALL_ROWS)):
        assert same(found, rows_of(anndata.read_h5ad(path).X, ALL_ROWS))


@pytest.mark.parametrize("offset", OUTSIDE)
@pytest.mark.parametrize("form", ["csr", "dense"])
def test_contiguous_bytes_outside_of_the_file_are_refused(tmp_path: Path, offset: Any, form: str) -> None:
    path = csr_file(tmp_path / "far.h5ad") if form == "csr" else dense_file(tmp_path / "far.h5ad")
    field = "X/data" if form == "csr" else "X"
    ((place, size),) = places_of(path, field)
    offset = path.stat().st_size - size + 1 if offset == "size" else offset
    patch(path, struct.pack("<QQ", place, size), struct.pack("<QQ", offset, size))
    run_alone(refused, path, field)
