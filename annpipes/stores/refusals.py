"""What is no ``.h5ad`` file or no AnnData in memory, and what to do about it."""

from __future__ import annotations

import os
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData

from annpipes.errors import FormatError, SourceError
from annpipes.stores.columns import text_of

__all__ = [
    "HDF5_SIGNATURE",
    "at_home",
    "refuse_address",
    "refuse_beginning",
    "refuse_content",
    "refuse_known",
    "refuse_lazy",
    "refuse_numbers",
    "refuse_other_hdf5",
    "refuse_other_zarr",
    "refuse_path",
    "refuse_values",
]

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""What HDF5 itself begins with."""

_BEGINNINGS = {  # what a file begins with: https://en.wikipedia.org/wiki/List_of_file_signatures
    b"PK\x03\x04": "a zip archive: unpack it, and give the .h5ad file in it",
    b"\x1f\x8b": "compressed with gzip: unpack it (gunzip), or if it is an .rds file, write it as .h5ad with "
    "zellkonverter or anndataR in R",
    b"BZh": "compressed with bzip2: unpack it first",
    b"\xfd7zXZ": "compressed with xz: unpack it first",
    b"RDX": "an R file: write it as .h5ad with zellkonverter or anndataR in R",
    b"X\n\x00": "an R file (.rds): write it as .h5ad with zellkonverter or anndataR in R",
    b"%%MatrixMarket": "a Matrix Market file: scanpy.read_mtx(path).T.write_h5ad(…)",
    b"PAR1": "a Parquet file, which is not an AnnData file",
}


def refuse_path(path: str) -> None:
    """Refuse what is not the path of an HDF5 file: a `SourceError` if there is none, else a `FormatError`."""
    refuse_address(path)
    if not h5py.is_hdf5(path):
        raise FormatError(f"{path!r} is not an HDF5 file")


def at_home(path: str | os.PathLike[str]) -> str:
    """A path whose ``~`` is replaced by the home folder.

    Raises
    ------
    SourceError
        It begins with ``~``, and there is no such folder or file.
    """
    found = os.path.expanduser(path)
    if found != os.fspath(path) and not os.path.exists(found):
        raise SourceError(f"no file {os.fspath(path)!r}: the home folder is {os.path.expanduser('~')!r}")
    return found


def refuse_address(path: str) -> None:
    """Refuse what is missing, a folder, or known to be of another kind."""
    if not os.path.exists(path):
        raise _missing(path)
    if os.path.isdir(path):
        raise FormatError(_folder(path))
    with open(path, "rb") as file:
        refuse_beginning(file.read(16), path)


def refuse_beginning(begin: bytes, path: str) -> None:
    """Refuse what is known by its first bytes to be of another kind."""
    for sign, told in _BEGINNINGS.items():
        if begin.startswith(sign):
            raise FormatError(f"{path!r} is not an HDF5 file, but {told}")


def refuse_content(begin: bytes, path: str) -> None:
    """Refuse what is no HDF5 file by its first bytes; a user block may stand before what HDF5 itself begins with."""
    refuse_beginning(begin, path)
    if not any(begin.startswith(HDF5_SIGNATURE, place) for place in (0, 512, 1024, 2048)):
        raise FormatError(f"{path!r} is not an HDF5 file")


def _missing(path: str) -> SourceError | FormatError:
    whole, inside = os.path.dirname(path), os.path.basename(path)
    while whole and whole != os.path.dirname(whole):
        if os.path.isfile(whole):
            return FormatError(
                f"{path!r} names {inside!r} within the file {whole!r}, but parts of a file cannot be read: write it as "
                f"an .h5ad file of its own ({_modality(whole, inside.removeprefix('mod/'))} for a modality of MuData)"
            )
        whole, last = os.path.split(whole)
        inside = f"{last}/{inside}"
    return SourceError(f"no file {path!r}")


def _folder(path: str) -> str:
    if any(os.path.exists(os.path.join(path, name)) for name in (".zattrs", ".zmetadata")):
        return f"{path!r} has parts of a Zarr store, but not its root (.zgroup or zarr.json): copy the store as a whole"
    pattern = os.path.join(path, "*.h5ad")
    return f"{path!r} is a directory; for the .h5ad files in it, give the pattern {pattern!r}"


def _modality(path: str, name: str) -> str:
    return f"mudata.read_h5mu({path!r})[{name!r}].write_h5ad(…)"


def refuse_other_hdf5(file: h5py.File, path: str) -> None:
    """Refuse an HDF5 file that does not hold one AnnData."""
    refuse_known(file, path)
    if "obs" not in file or "var" not in file:
        raise FormatError(f"{_lacks(file, path)}; give a file that AnnData.write_h5ad wrote")
    for name in ("obs", "var"):
        table = file[name]
        if isinstance(table, h5py.Dataset) and (table.dtype.names is None or len(table.shape or ()) != 1):
            raise FormatError(
                f"{path} is not an AnnData file: {name!r} is an array of {table.dtype}, not a table; give a file that "
                f"AnnData.write_h5ad wrote"
            )


def refuse_known(file: h5py.File, path: str) -> None:
    """Refuse MuData, loom and 10x files."""
    members = set(file)
    inside = sorted(file["mod"]) if "mod" in file and isinstance(file["mod"], h5py.Group) else []
    encoding = text_of(file.attrs.get("encoding-type", ""))
    if encoding == "MuData" or (inside and encoding != "anndata"):
        raise FormatError(
            f"{path} is a MuData file with the modalities {', '.join(inside) or 'none'}, not one AnnData: write the "
            f"one you want as a file of its own, {_modality(path, inside[0] if inside else 'rna')}"
        )
    if {"obs", "var"} <= members:
        return
    if {"matrix", "row_attrs", "col_attrs"} <= members:
        raise FormatError(f"{_lacks(file, path)}. It is a loom file: anndata.io.read_loom({path!r}).write_h5ad(…)")
    matrix = file.get("matrix")
    tenx = isinstance(matrix, h5py.Group) and {"barcodes", "indptr"} <= set(matrix)
    if tenx or (members and all(_is_old_10x(file, name) for name in members)):
        raise FormatError(f"{_lacks(file, path)}. It is a 10x file: scanpy.read_10x_h5({path!r}).write_h5ad(…)")


def refuse_other_zarr(group: Any, path: str) -> None:
    """Refuse a Zarr group that does not hold one AnnData; ``group`` is as zarr has it."""
    members = sorted(group.keys())
    if {"obs", "var"} <= set(members):
        return
    has = ", ".join(members) or "nothing"
    lacks = f"{path} is a Zarr store, but not an AnnData: it has no group 'obs' or 'var' ({has})"
    if "mod" in members:
        inside = sorted(group["mod"].keys())
        raise FormatError(
            f"{path} is a MuData store with the modalities {', '.join(inside) or 'none'}, not one AnnData: give the "
            f"path of one, {os.path.join(path, 'mod', inside[0] if inside else 'rna')!r}"
        )
    if "tables" in members:
        inside = sorted(group["tables"].keys())
        raise FormatError(
            f"{lacks}. It is a SpatialData store: give the path of a table in it, "
            f"{os.path.join(path, 'tables', inside[0] if inside else 'table')!r}"
        )
    raise FormatError(f"{lacks}; give a store that AnnData.write_zarr wrote")


def _lacks(file: h5py.File, path: str) -> str:
    return f"{path} is not an AnnData file: it has no group 'obs' or 'var' ({', '.join(file)})"


def _is_old_10x(file: h5py.File, name: str) -> bool:
    """Whether a group is a genome of Cell Ranger before version 3."""
    group = file.get(name)
    return isinstance(group, h5py.Group) and {"barcodes", "genes", "indptr"} <= set(group)


def refuse_lazy(adata: AnnData) -> None:
    """Refuse an AnnData whose tables are not in memory, as `anndata.experimental.read_lazy` gives it."""
    if not isinstance(adata.obs, pd.DataFrame):
        raise FormatError(
            f"data is a lazy AnnData, whose obs is a {type(adata.obs).__name__}: give the path of its file, or "
            f"load it first, adata = adata.to_memory()"
        )


def refuse_values(values: Any, where: str) -> None:
    """Refuse masked, delayed and ragged arrays of an AnnData in memory."""
    if isinstance(values, np.ma.MaskedArray):
        raise FormatError(f"{where} is a masked array: fill the masked values first, with .filled(0), for example")
    package = type(values).__module__.partition(".")[0]
    if package == "dask":
        raise FormatError(f"{where} is a dask array: load it first, adata = adata.to_memory()")
    if package == "awkward":
        raise FormatError(f"{where} is an awkward array, whose rows differ in length: leave it out")
    if package in ("xarray", "zarr", "h5py") or type(values).__name__ == "Dataset2D":
        raise FormatError(f"{where} is a {type(values).__name__} outside of memory: load it, adata = adata.to_memory()")


def refuse_numbers(dtype: Any, where: str, *, dense: bool = False) -> None:
    """Refuse what is not booleans, integers or floats of at most 64 bits; of a ``dense`` matrix, of any width."""
    kind = dtype.kind if isinstance(dtype, np.dtype) else "O"
    if kind in "biuf" and (dtype.itemsize <= 8 or dense):  # a batch has float32 of a matrix
        return
    what = "complex numbers" if kind == "c" else "floats of more than 64 bits" if kind == "f" else "no numbers"
    raise FormatError(
        f"{where} holds {what} ({dtype}), which torch does not support: leave it out, or store it as "
        f"booleans, integers or floats of at most 64 bits"
    )
