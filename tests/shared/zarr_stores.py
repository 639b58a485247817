"""Small Zarr stores with an AnnData, whose arrays are stored in every way Zarr has."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import anndata
import numpy as np
import pytest
from builders import matrix_of
from numpy.typing import NDArray
from storage_files import matrix_values

zarr = pytest.importorskip("zarr", minversion="3")
if version("anndata").startswith("0.11"):
    pytest.skip("anndata 0.12 is the first that reads and writes with zarr 3", allow_module_level=True)
codecs = zarr.codecs

__all__ = [
    "VALUES",
    "codecs",
    "csr_store",
    "dense_store",
    "expected",
    "put",
    "stored",
    "unconsolidated",
    "written",
    "zarr",
    "zipped",
]

VALUES = matrix_values()


@contextmanager
def _settings(of_zarr: int) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what will be the default, and what no specification has yet
        with anndata.settings.override(allow_write_nullable_strings=True, zarr_write_format=of_zarr):
            yield


def written(adata: anndata.AnnData, path: Path, of_zarr: int = 3) -> Path:
    """The path of ``adata`` as a store that anndata wrote."""
    with _settings(of_zarr):
        adata.copy().write_zarr(path)
    return path


def put(path: Path, field: str, values: NDArray[Any] | None = None, **how: Any) -> Path:
    """An array of a store stored anew, as zarr's ``create_array`` takes it: ``chunks``, ``shards`` …"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.open_group(path, mode="r+", use_consolidated=False)
        attributes, values = dict(group[field].attrs), np.asarray(group[field][...]) if values is None else values
        del group[field]
        array = group.create_array(field, shape=values.shape, dtype=values.dtype, **{"chunks": values.shape, **how})
        array[...] = values
        array.attrs.update(attributes)
        zarr.consolidate_metadata(str(path))
    return path


def stored(path: Path, field: str) -> list[Path]:
    """The files that hold the storage chunks or shards of an array."""
    return sorted(
        one for one in (path / field).rglob("*") if one.is_file() and not one.name.startswith((".z", "zarr.json"))
    )


def unconsolidated(path: Path, to: Path) -> Path:
    """A copy of a store in which nothing says what all of it is."""
    shutil.copytree(path, to)
    for one in to.rglob(".zmetadata"):
        one.unlink()
    for one in to.rglob("zarr.json"):
        said = json.loads(one.read_text())
        said.pop("consolidated_metadata", None)
        one.write_text(json.dumps(said))
    return to


def zipped(path: Path, to: Path, *, compression: int = 0) -> Path:
    """A store as one zip archive."""
    with ZipFile(to, "w", compression) as archive:
        for one in sorted(path.rglob("*")):
            if one.is_file():
                archive.write(one, one.relative_to(path).as_posix())
    return to


def expected(path: Path) -> anndata.AnnData:
    """The whole as anndata reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.is_dir():
            return anndata.read_zarr(path)
        return anndata.read_zarr(zarr.storage.ZipStore(path, mode="r"))


def csr_store(path: Path, of_zarr: int, values: NDArray[Any] = VALUES, chunk: int = 7, **how: Any) -> Path:
    """A store with these values as CSR, of ``chunk`` in a storage chunk."""
    written(anndata.AnnData(matrix_of(values, "csr", "float32")), path, of_zarr)
    for part in ("data", "indices"):
        put(path, f"X/{part}", chunks=(chunk,), **how)
    return path


def dense_store(path: Path, of_zarr: int, values: NDArray[Any] = VALUES, **how: Any) -> Path:
    """A store with these values as they are."""
    written(anndata.AnnData(values), path, of_zarr)
    return put(path, "X", **{"chunks": (4, 5), **how})
