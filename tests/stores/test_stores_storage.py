"""Rows do not depend on how HDF5 stores them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
from builders import adata_of, dense, tiny, write
from contracts import REQUESTS, chunk_of
from numpy.typing import NDArray
from scipy import sparse

from annpipes import SparseRows
from annpipes.stores import open_store


def values_of(path: Path) -> NDArray[Any]:
    """X as anndata reads it, to be asked for before the storage becomes too odd for scipy."""
    return dense(anndata.read_h5ad(path).X)


def assert_rows(path: Path, expected: NDArray[Any]) -> None:
    store = open_store(path)
    for asked, drawn in REQUESTS.items():
        rows = store.read(chunk_of(drawn), ["X"])["X"]
        if isinstance(rows, SparseRows):  # scipy has no arithmetic for float16 and foreign byte orders
            plain = (rows.data.astype("f8"), rows.indices.astype("i8"), rows.indptr)
            rows = sparse.csr_matrix(plain, rows.shape).toarray()
        np.testing.assert_array_equal(rows, expected[drawn], err_msg=asked)


def rewrite(path: Path, name: str, **how: Any) -> None:
    """Store a dataset anew, with other filters, chunks, types or fill values."""
    with h5py.File(path, "r+") as file:
        values, attributes = file[name][...], dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, data=values.astype(how.pop("dtype", values.dtype)), **how).attrs.update(attributes)


STORAGE = {
    "contiguous": {},
    "shuffle and gzip": {"chunks": True, "shuffle": True, "compression": "gzip"},
    "gzip at its hardest": {"chunks": True, "compression": "gzip", "compression_opts": 9},
    "checksums": {"chunks": True, "fletcher32": True, "compression": "gzip"},
    "checksums alone": {"chunks": True, "fletcher32": True},
    "shuffle and lzf": {"chunks": True, "shuffle": True, "compression": "lzf"},
    "scaled and offset": {"chunks": True, "scaleoffset": 0},
    "big-endian": {"dtype": ">i4"},
    "big-endian gzip": {"dtype": ">i8", "chunks": True, "compression": "gzip"},
    "narrow": {"dtype": "i2", "chunks": True, "shuffle": True},
    "wide": {"dtype": "u8", "chunks": True, "compression": "lzf"},
}


class TestStorage:
    @pytest.mark.parametrize("storage", STORAGE.values(), ids=STORAGE)
    @pytest.mark.parametrize("x", ["dense", "csr"])
    def test_any_storage_gives_the_same_rows(self, tmp_path: Path, x: str, storage: dict[str, Any]) -> None:
        path = write(adata_of(x=x, dtype="int32"), tmp_path / "cells.h5ad")
        expected = values_of(path)
        for name in ["X"] if x == "dense" else ["X/data", "X/indices", "X/indptr"]:
            rewrite(path, name, **storage)
        assert_rows(path, expected)

    @pytest.mark.parametrize("elements", [1, 3, 7, 64, 1000])
    @pytest.mark.parametrize("compression", [None, "gzip"])
    def test_rows_may_straddle_storage_chunks_of_any_size(
        self, tmp_path: Path, elements: int, compression: str | None
    ) -> None:
        path = write(adata_of(), tmp_path / "cells.h5ad")
        for name in ("X/data", "X/indices"):
            rewrite(path, name, chunks=(elements,), maxshape=(None,), compression=compression)
        assert_rows(path, values_of(path))

    @pytest.mark.parametrize("shape", [(1, 1), (1, 11), (29, 1), (4, 3), (64, 64)])
    @pytest.mark.parametrize("compression", [None, "gzip"])
    def test_dense_rows_may_be_stored_in_tiles(
        self, tmp_path: Path, shape: tuple[int, int], compression: str | None
    ) -> None:
        path = write(adata_of(x="dense"), tmp_path / "cells.h5ad")
        rewrite(path, "X", chunks=shape, maxshape=(None, None), compression=compression)
        assert_rows(path, values_of(path))

    @pytest.mark.parametrize("kind", ["float16", ">f4", ">f8", "float64"])
    @pytest.mark.parametrize("x", ["dense", "csr"])
    def test_fractions_of_any_width_are_exact(self, tmp_path: Path, x: str, kind: str) -> None:
        path = write(adata_of(x=x, dtype="float64"), tmp_path / "cells.h5ad")
        name = "X" if x == "dense" else "X/data"
        rewrite(path, name, dtype="float16" if kind == "float16" else "float32")  # so that nothing is lost later
        rewrite(path, name, dtype="float64")
        expected = values_of(path)
        rewrite(path, name, dtype=kind)
        assert_rows(path, expected)

    @pytest.mark.parametrize("kind", ["int32", "int64", "uint32", "uint16"])
    def test_column_numbers_of_any_width(self, tmp_path: Path, kind: str) -> None:
        path = write(adata_of(), tmp_path / "cells.h5ad")
        expected = values_of(path)
        rewrite(path, "X/indices", dtype=kind)
        rewrite(path, "X/indptr", dtype=kind)
        assert_rows(path, expected)

    def test_storage_chunks_that_were_never_written_hold_the_fill_value(self, tmp_path: Path) -> None:
        path = write(adata_of(x="dense"), tmp_path / "cells.h5ad")
        with h5py.File(path, "r+") as file:
            attributes = dict(file["X"].attrs)
            del file["X"]
            x = file.create_dataset("X", (29, 11), "f4", chunks=(4, 4), fillvalue=2.5)
            x[5:7, 2:9] = 1
            x.attrs.update(attributes)
        assert_rows(path, values_of(path))

    def test_values_may_lie_in_another_file(self, tmp_path: Path) -> None:
        path = write(adata_of(x="dense"), tmp_path / "cells.h5ad")
        with h5py.File(path, "r+") as file:
            values, attributes = file["X"][...], dict(file["X"].attrs)
            del file["X"]
            external = [(str(tmp_path / "raw.bin"), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("X", data=values, external=external).attrs.update(attributes)
        assert_rows(path, values_of(path))

    def test_a_virtual_dataset_reads_as_any_other(self, tmp_path: Path) -> None:
        path, parts = write(adata_of(x="dense"), tmp_path / "cells.h5ad"), write(tiny(29, 11), tmp_path / "parts.h5ad")
        with h5py.File(path, "r+") as file:
            attributes = dict(file["X"].attrs)
            del file["X"]
            layout = h5py.VirtualLayout((29, 11), "f4")
            layout[:] = h5py.VirtualSource(parts, "X", (29, 11))
            file.create_virtual_dataset("X", layout).attrs.update(attributes)
        assert_rows(path, values_of(path))

    def test_large_rows_stay_as_read_while_others_are_read(self, tmp_path: Path) -> None:
        # Above 1 MiB, arrays may lie in memory that is used again; not while anything looks at it.
        values = np.random.default_rng(0).random((2000, 300)).astype(np.float32)
        path = write(anndata.AnnData(sparse.csr_matrix(values), layers={"dense": values}), tmp_path / "large.h5ad")
        store, held = open_store(path), []
        for start in range(0, 2000, 100):
            drawn = [*range(start, 2000), *range(start)]
            read = store.read(chunk_of(drawn), ["X", "layers/dense"])
            held.append((drawn[:10], read["X"][:10], read["layers_dense"][:10].view()))
        for drawn, x, layer in held:
            np.testing.assert_array_equal(dense(x), values[drawn])
            np.testing.assert_array_equal(layer, values[drawn])
