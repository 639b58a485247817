"""Layouts of HDF5 that anndata never writes and others may."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5t
from numpy.typing import NDArray
from storage_files import (
    Make,
    compact,
    create,
    csr_of,
    low_level,
    matrix_values,
    read_both,
    relayout,
    rows_of,
    same,
    stored_x,
    write,
)

ALL_ROWS = [*range(23), 22, 3, 3, 0]
PLAIN = {"encoding-type": "array", "encoding-version": "0.2.0"}


def pipeline(*filters: Callable[[Any], None]) -> Make:
    def make(group: h5py.Group, name: str, values: NDArray[Any]) -> h5py.Dataset:
        created = h5p.create(h5p.DATASET_CREATE)
        created.set_chunk((5,) * values.ndim)
        for add in filters:
            add(created)
        return low_level(group, name, values, created)

    return make


def gzip(created: Any) -> None:
    created.set_deflate(4)


def shuffle(created: Any) -> None:
    created.set_shuffle()


def fletcher32(created: Any) -> None:
    created.set_fletcher32()


def lz4(created: Any) -> None:
    created.set_filter(32004, h5py.h5z.FLAG_MANDATORY, (0,))


def zstd(created: Any) -> None:
    created.set_filter(32015, h5py.h5z.FLAG_MANDATORY, (3,))


def edges_unfiltered(created: Any) -> None:
    """H5Pset_chunk_opts, which h5py does not wrap."""
    libraries = Path(h5py.__file__).parent.parent / "h5py.libs"
    found = list(libraries.glob("libhdf5-*"))
    if not found:
        pytest.skip("h5py is no wheel with its own HDF5")
    assert ctypes.CDLL(str(found[0])).H5Pset_chunk_opts(ctypes.c_int64(created.id), ctypes.c_uint(2)) >= 0


def allocated_early(created: Any) -> None:
    created.set_alloc_time(h5d.ALLOC_TIME_EARLY)


def virtual(group: h5py.Group, name: str, values: NDArray[Any]) -> h5py.Dataset:
    source = f"{group.file.filename}-{name}.h5"
    with h5py.File(source, "w") as other:
        other["values"] = values
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[...] = h5py.VirtualSource(source, "values", values.shape)
    return group.create_virtual_dataset(name, layout)


def external(group: h5py.Group, name: str, values: NDArray[Any]) -> h5py.Dataset:
    raw = f"{group.file.filename}-{name}.raw"
    return group.create_dataset(name, data=values, external=[(raw, 0, h5py.h5f.UNLIMITED)])


def linked(**options: Any) -> Make:
    """A link into another file, whose bytes lie elsewhere."""

    def make(group: h5py.Group, name: str, values: NDArray[Any]) -> None:
        source = f"{group.file.filename}-{name}.h5"
        with h5py.File(source, "w") as other:
            other["before"] = np.arange(3000)
            create(**options)(other, "values", values).attrs.update(PLAIN)
        group[name] = h5py.ExternalLink(source, "values")

    return make


def linked_softly(group: h5py.Group, name: str, values: NDArray[Any]) -> None:
    place = f"/uns/where {name} really lies"
    group.file.create_dataset(place, data=values).attrs.update(PLAIN)
    group[name] = h5py.SoftLink(place)


def foreign(**options: Any) -> Make:
    return lambda group, name, values: create(**options)(group, name, values.astype(values.dtype.newbyteorder(">")))


def a_tile_unfiltered(group: h5py.Group, name: str, values: NDArray[Any]) -> h5py.Dataset:
    """The second storage chunk went past both filters."""
    dataset = create(chunks=4, compression="gzip", shuffle=True)(group, name, values)
    tile = dataset[tuple(slice(4 if axis == 0 else 0, 8 if axis == 0 else 4) for axis in range(values.ndim))]
    dataset.id.write_direct_chunk((4,) + (0,) * (values.ndim - 1), tile.tobytes(), filter_mask=0b11)
    return dataset


def made_smaller(group: h5py.Group, name: str, values: NDArray[Any]) -> h5py.Dataset:
    dataset = create(chunks=4, compression="gzip")(group, name, np.concatenate([values, values, values]))
    dataset.resize(len(values), axis=0)
    return dataset


ODD: dict[str, tuple[Make, str]] = {
    "compact": (compact, "h5py (compact storage)"),
    "virtual": (virtual, "h5py (virtual dataset)"),
    "external storage": (external, "h5py (external storage)"),
    "linked from another file": (linked(), ""),
    "linked from another file, gzip": (linked(chunks=6, compression="gzip"), ""),
    "a soft link": (linked_softly, "direct (uncompressed)"),
    "big-endian": (foreign(), "h5py (elements of type >"),
    "big-endian gzip": (foreign(chunks=6, compression="gzip"), "h5py (elements of type >"),
    "one storage chunk unfiltered": (a_tile_unfiltered, "direct (shuffle + gzip)"),
    "edges unfiltered, gzip": (pipeline(gzip, edges_unfiltered), ""),
    "edges unfiltered, shuffle": (pipeline(shuffle, edges_unfiltered), ""),
    "edges unfiltered, checksum": (pipeline(fletcher32, edges_unfiltered), ""),
    "made smaller": (made_smaller, "direct (gzip)"),
    "allocated early": (pipeline(allocated_early), "direct (uncompressed)"),
    "gzip twice": (pipeline(gzip, gzip), ""),
    "checksum before gzip": (pipeline(fletcher32, gzip), "direct (fletcher32 + gzip)"),
    "checksum before LZ4": (pipeline(fletcher32, lz4), "direct (fletcher32 + lz4)"),
    "checksum before Zstd": (pipeline(fletcher32, zstd), "direct (fletcher32 + zstd)"),
    "checksum twice": (pipeline(fletcher32, shuffle, fletcher32), "direct (fletcher32 + shuffle + fletcher32)"),
    "Zstd of LZ4 of gzip": (pipeline(gzip, lz4, zstd), ""),
    "shuffle after gzip": (pipeline(gzip, shuffle), "direct (gzip + shuffle)"),
}


@pytest.mark.parametrize(("make", "route"), ODD.values(), ids=ODD)
@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("form", ["csr", "dense"])
def test_odd_storage_reads_as_with_anndata(tmp_path: Path, make: Make, route: str, libver: str, form: str) -> None:
    values = matrix_values(dtype="float64")
    path = write(tmp_path / "odd.h5ad", values if form == "dense" else csr_of(values))
    for field in ["X"] if form == "dense" else ["X/data", "X/indices"]:
        relayout(path, field, make, libver=libver)
    expected = rows_of(stored_x(path), ALL_ROWS)
    found, taken = read_both(path, ALL_ROWS)
    assert same(found, expected)
    assert route in taken


def half_written(**options: Any) -> Make:
    """The first half was written; the rest is to be the fill value."""

    def make(group: h5py.Group, name: str, values: NDArray[Any]) -> h5py.Dataset:
        dataset = group.create_dataset(name, values.shape, values.dtype, fillvalue=2, **options)
        if dataset.chunks:
            dataset[: len(values) // 2] = values[: len(values) // 2]
        return dataset

    return make


@pytest.mark.parametrize("form", ["csr", "dense"])
@pytest.mark.parametrize("options", [{}, {"chunks": True}, {"chunks": True, "compression": "gzip"}], ids=str)
def test_what_was_never_written_has_the_fill_value(tmp_path: Path, form: str, options: dict[str, Any]) -> None:
    values = matrix_values(dtype="float32")
    path = write(tmp_path / "fill.h5ad", values if form == "dense" else csr_of(values))
    sides = (4,) if form == "csr" else (4, 5)
    fitted = {**options, "chunks": sides} if options else {}
    for field in ["X"] if form == "dense" else ["X/data", "X/indices"]:
        relayout(path, field, half_written(**fitted))
    found, route = read_both(path, ALL_ROWS)
    assert same(found, rows_of(anndata.read_h5ad(path).X, ALL_ROWS))
    assert route.startswith("h5py (storage")
    assert route.endswith("never allocated)")


@pytest.mark.parametrize("form", ["csr", "dense"])
@pytest.mark.parametrize("size", [512, 4096])
def test_a_user_block_before_the_file(tmp_path: Path, form: str, size: int) -> None:
    values = matrix_values()
    source = write(tmp_path / "plain.h5ad", values if form == "dense" else csr_of(values), compression="gzip")
    path = tmp_path / "block.h5ad"
    with h5py.File(source) as old, h5py.File(path, "w", userblock_size=size) as new:
        for name in old:
            old.copy(name, new)
        new.attrs.update(old.attrs)
    with path.open("r+b") as file:
        file.write(os.urandom(size))
    found, route = read_both(path, ALL_ROWS)
    assert same(found, rows_of(anndata.read_h5ad(path).X, ALL_ROWS))
    assert route == "h5py (user block)"


def bfloat16() -> h5t.TypeFloatID:
    kind = h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


def twelve_bits() -> h5t.TypeIntegerID:
    """Numbers in the upper twelve of sixteen bits."""
    kind = h5t.STD_I16LE.copy()
    kind.set_precision(12)
    kind.set_offset(4)
    return kind


@pytest.mark.parametrize("kind", [bfloat16, twelve_bits, lambda: h5t.NATIVE_LDOUBLE], ids=["bfloat16", "12 bit", "80"])
@pytest.mark.parametrize("chunks", [None, 5])
def test_elements_that_numpy_has_no_type_for(tmp_path: Path, kind: Callable[[], Any], chunks: int | None) -> None:
    def make(group: h5py.Group, name: str, values: NDArray[Any]) -> h5py.Dataset:
        created = h5p.create(h5p.DATASET_CREATE)
        if chunks:
            created.set_chunk((chunks,) * values.ndim)
        return low_level(group, name, values, created, kind())

    path = write(tmp_path / "type.h5ad", matrix_values())
    relayout(path, "X", make)
    found, _ = read_both(path, ALL_ROWS)
    np.testing.assert_array_equal(found, anndata.read_h5ad(path).X[ALL_ROWS])
