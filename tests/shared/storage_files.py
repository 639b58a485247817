"""Small ``.h5ad`` files whose matrices are stored in every way HDF5 has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import anndata
import h5py
import hdf5plugin  # noqa: F401 (it registers its filters with HDF5)
import numpy as np
import pandas as pd
import pytest
from h5py import h5d, h5p, h5s, h5t
from numpy.typing import NDArray
from scipy import sparse

from annpipes import Chunk, SparseRows
from annpipes.errors import DamageError, FormatError
from annpipes.stores import Store, open_store
from annpipes.stores.containers import hdf5

__all__ = [
    "chunk_of",
    "compact",
    "create",
    "csr_file",
    "csr_of",
    "dense_file",
    "in_h5py_alone",
    "low_level",
    "matrix_values",
    "places_of",
    "read_both",
    "read_x",
    "refused",
    "relayout",
    "rows_of",
    "same",
    "stored_x",
    "text_of",
    "with_plain_names",
    "write",
]

Make = Callable[[h5py.Group, str, NDArray[Any]], Any]


def matrix_values(n_obs: int = 23, n_vars: int = 9, dtype: Any = "float32", seed: int = 0) -> NDArray[Any]:
    """Counts of which most are zero; every seventh row is empty."""
    values = np.random.default_rng(seed).poisson(0.6, (n_obs, n_vars)) * np.arange(1, n_vars + 1)
    values[::7] = 0
    return values.astype(dtype)


def csr_of(values: NDArray[Any]) -> sparse.csr_matrix:
    """The CSR matrix of a dense one."""
    return sparse.csr_matrix(values)


def write(path: Path, x: Any, **options: Any) -> Path:
    """The path of a file that anndata wrote, with ``x`` as X and nothing else."""
    obs, var = (pd.DataFrame(index=[f"{kind}{i}" for i in range(n)]) for kind, n in zip("cg", x.shape, strict=True))
    anndata.AnnData(x, obs=obs, var=var).write_h5ad(path, **options)
    return path


def create(**options: Any) -> Make:
    """Makes a dataset with these options of h5py; chunks are cut to what the shape allows."""

    def make(group: h5py.Group, name: str, values: NDArray[Any]) -> h5py.Dataset:
        fitted = dict(options)
        if isinstance(fitted.get("chunks"), tuple | int):
            sides = np.broadcast_to(np.asarray(fitted["chunks"]), values.ndim)
            fitted["chunks"] = tuple(max(1, int(side)) for side in sides)
            fitted["maxshape"] = (None,) * values.ndim  # lets a storage chunk be larger than the dataset
        return group.create_dataset(name, data=values, **fitted)

    return make


def csr_file(path: Path, n_vars: int = 9, **options: Any) -> Path:
    write(path, csr_of(matrix_values(n_vars=n_vars)))
    for name in ("data", "indices"):
        relayout(path, f"X/{name}", create(**options))
    return path


def dense_file(path: Path, **options: Any) -> Path:
    write(path, matrix_values())
    relayout(path, "X", create(**options))
    return path


def low_level(
    group: h5py.Group, name: str, values: NDArray[Any], created: Any, kind: Any = None, *, fill: bool = True
) -> h5py.Dataset:
    """A dataset made with a creation list, or a type of element, that h5py's own words do not reach."""
    kind = kind or h5t.py_create(values.dtype, logical=True)
    dataset = h5py.Dataset(h5d.create(group.id, name.encode(), kind, h5s.create_simple(values.shape), created))
    if fill and values.size:
        dataset[...] = values
    return dataset


def compact(group: h5py.Group, name: str, values: NDArray[Any]) -> h5py.Dataset:
    """A dataset inside its own header."""
    created = h5p.create(h5p.DATASET_CREATE)
    created.set_layout(h5d.COMPACT)
    return low_level(group, name, values, created)


def relayout(
    path: Path, field: str, make: Make, values: NDArray[Any] | None = None, *, libver: str = "earliest"
) -> None:
    """The dataset ``field`` of a file stored anew by ``make(group, name, values)``, with its attributes."""
    with h5py.File(path, "r+", libver=libver) as file:
        group, name = file[field].parent, file[field].name.rsplit("/", 1)[-1]
        attributes = dict(group[name].attrs)
        values = group[name][()] if values is None else values
        del group[name]
        made = make(group, name, values)
        (group[name] if made is None else made).attrs.update(attributes)


def text_of(path: Path, column: str) -> str:
    """The dataset that holds the strings of a column: since anndata 0.13 with pandas 3, part of a group."""
    with h5py.File(path) as file:
        return f"{column}/values" if isinstance(file[column], h5py.Group) else column


def with_plain_names(path: Path) -> Path:
    """The file with names of rows and genes as strings, as anndata writes them before 0.13, or with pandas 2."""
    for table in ("obs", "var"):
        if text_of(path, f"{table}/_index") != f"{table}/_index":
            with h5py.File(path, "r+") as file:
                names = file[f"{table}/_index/values"].asstr()[()]
                del file[f"{table}/_index"]
                made = file[table].create_dataset("_index", data=names, dtype=h5py.string_dtype())
                made.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
    return path


def stored_x(path: Path) -> Any:
    """X as anndata reads it; as h5py does where scipy has no matrix of that type."""
    with h5py.File(path) as file:
        x = file["X"]
        if isinstance(x, h5py.Group) and (x["data"].dtype == np.float16 or not x["data"].dtype.isnative):
            arrays = {name: x[name][()] for name in ("data", "indices", "indptr")}
            return SimpleNamespace(**arrays, shape=tuple(x.attrs["shape"]))
    return anndata.read_h5ad(path).X


def places_of(path: Path, field: str) -> list[tuple[int, int]]:
    """Offset and size of each stretch of bytes that holds ``field``."""
    with h5py.File(path) as file:
        dataset = file[field]
        if dataset.chunks is None:
            return [(dataset.id.get_offset(), dataset.nbytes)]
        infos = [dataset.id.get_chunk_info(i) for i in range(dataset.id.get_num_chunks())]
        return [(info.byte_offset, info.size) for info in infos]


def chunk_of(drawn: Sequence[int] | NDArray[np.int64]) -> Chunk:
    """The chunk that hands on these rows in this order."""
    return Chunk.of(np.asarray(drawn, np.int64))


def read_x(source: Path | Store, drawn: Sequence[int]) -> Any:
    """X of these rows, in this order."""
    return open_store(source).read(chunk_of(drawn), ["X"])["X"]


@contextmanager
def in_h5py_alone() -> Iterator[None]:
    """Files opened in this block are read through h5py, whatever their layout."""
    with mock.patch.object(hdf5, "layout_of", return_value="a test wants it so"):
        yield


def read_both(path: Path, drawn: Sequence[int]) -> tuple[Any, str]:
    """X of these rows, equal on both routes, and the route taken without force."""
    store = open_store(path)
    by_choice = read_x(store, drawn)
    with in_h5py_alone():
        forced = open_store(path)
        by_force = read_x(forced, drawn)
    assert forced.route("X").startswith("h5py")
    assert same(by_choice, by_force), "the routes differ"
    return by_choice, store.route("X")


def rows_of(x: Any, drawn: Sequence[int]) -> Any:
    """Rows of a matrix that anndata read, values and columns exactly as it holds them."""
    if isinstance(x, np.ndarray):
        return _native(x[np.asarray(drawn, int)])
    parts = [slice(x.indptr[row], x.indptr[row + 1]) for row in drawn]
    data, indices = (np.concatenate([values[:0], *(values[p] for p in parts)]) for values in (x.data, x.indices))
    lengths = [part.stop - part.start for part in parts]
    return SparseRows(
        _native(data), _native(indices), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), x.shape[1]
    )


def _native(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(values.dtype.newbyteorder("="))


def same(one: Any, other: Any) -> bool:
    """Whether two answers agree in every bit."""
    if isinstance(one, SparseRows):
        pairs = [(getattr(one, name), getattr(other, name)) for name in ("data", "indices", "indptr")]
        return one.n_vars == other.n_vars and all(same(*pair) for pair in pairs)
    one, other = np.asarray(one), np.asarray(other)
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()


def refused(path: Path, field: str = "X", rows: Sequence[int] = range(23)) -> str:
    """What the error says about the rows of a damaged file; it must name file and field."""
    with pytest.raises((DamageError, FormatError)) as caught:
        read_x(path, rows)
    message = str(caught.value)
    assert path.name in message
    assert field in message
    return message
