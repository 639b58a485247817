"""What an HDF5 file holds, element by element, as far as it can be opened."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np
from h5py import h5o

from annpipes.stores.columns import column_encoding, column_length, rows_of, text_of

__all__ = [
    "SPARSE",
    "codes_of",
    "datasets_in",
    "encoding_of",
    "is_column",
    "is_expression",
    "is_known",
    "is_sparse",
    "report_order",
    "sparse_shape",
    "stored_bytes",
    "survey",
    "unit_of",
    "unwritten_bytes",
]

SPARSE = {"csr_matrix": "csr", "csr": "csr", "csc_matrix": "csc", "csc": "csc"}
"""Encodings of sparse matrices; anndata < 0.7 wrote the short ones."""

_GROUPS = {
    "anndata": {"0.1.0"},
    "awkward-array": {"0.1.0"},
    "categorical": {"0.2.0"},
    "csc_matrix": {"0.1.0"},
    "csr_matrix": {"0.1.0"},
    "dataframe": {"0.1.0", "0.2.0"},
    "dict": {"0.1.0"},
    "nullable-boolean": {"0.1.0"},
    "nullable-integer": {"0.1.0"},
    "nullable-string-array": {"0.1.0"},
    "raw": {"0.1.0"},
}
_DATASETS = {
    "array": {"0.2.0"},
    "bytes": {"0.2.0"},
    "null": {"0.1.0"},
    "numeric-scalar": {"0.2.0"},
    "rec-array": {"0.2.0"},
    "string": {"0.2.0"},
    "string-array": {"0.2.0"},
}

Tell = Callable[[str, str], None]
"""Called with the path of what cannot be opened, and why."""


def survey(group: h5py.Group, tell: Tell) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Path and element of all that a file holds, groups before their members, each element once."""
    seen: set[Any] = set()
    waiting: list[tuple[str, h5py.Group | h5py.Dataset]] = [("", group)]
    while waiting:
        path, element = waiting.pop()
        try:
            info = h5o.get_info(element.id)
            if (address := (info.fileno, info.addr)) in seen:  # a second hard link, or a circle
                continue
            seen.add(address)
            names = list(element) if isinstance(element, h5py.Group) else []
        except Exception as error:  # h5py raises whatever damage leads it to
            tell(path, f"cannot be opened ({error})")
            continue
        if path:
            yield path, element
        for name in reversed(names):
            place = f"{path}/{name}".lstrip("/")
            try:
                member = element[name]
            except Exception as error:
                tell(place, f"cannot be opened ({error})")
            else:
                if isinstance(member, h5py.Group | h5py.Dataset):  # a named type holds no values
                    waiting.append((place, member))


def datasets_in(element: h5py.Group | h5py.Dataset) -> list[h5py.Dataset]:
    """The datasets of an element, as far as they can be opened."""
    found = [element] if isinstance(element, h5py.Dataset) else []
    return found + [part for _, part in survey(element, lambda path, why: None) if isinstance(part, h5py.Dataset)]


def stored_bytes(element: h5py.Group | h5py.Dataset) -> int:
    """What an element takes in the file, without text (HDF5 keeps that elsewhere, for all elements together)."""
    return sum(part.id.get_storage_size() for part in {part.id: part for part in datasets_in(element)}.values())


def unwritten_bytes(element: h5py.Group | h5py.Dataset) -> int:
    """How much of a dataset, decoded, was never written, so that HDF5 gives its fill value."""
    if not isinstance(element, h5py.Dataset) or element.shape is None or element.is_virtual or element.external:
        return 0
    if element.chunks is None:
        return int(element.nbytes) if element.id.get_storage_size() == 0 else 0
    written: int = element.id.get_num_chunks() * math.prod(element.chunks) * element.dtype.itemsize
    return max(0, int(element.nbytes) - written)


def encoding_of(element: h5py.Group | h5py.Dataset) -> str:
    """How anndata says an element is encoded; "" if it does not say."""
    said = element.attrs.get("encoding-type", element.attrs.get("h5sparse_format", ""))
    return str(text_of(said))


def is_known(group: bool, encoding: Any, version: Any) -> bool:
    """Whether anndata's format has this encoding for a group, or for an array.

    https://anndata.readthedocs.io/en/stable/fileformat-prose.html
    """
    kind, number = (
        part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in (encoding, version)
    )
    return number in (_GROUPS if group else _DATASETS).get(kind, ())


def is_sparse(element: h5py.Group | h5py.Dataset) -> bool:
    """Whether an element is a sparse matrix."""
    return isinstance(element, h5py.Group) and encoding_of(element) in SPARSE


def codes_of(element: h5py.Group | h5py.Dataset) -> tuple[h5py.Dataset, int] | None:
    """Codes and the number of categories, if an element is a column of categories."""
    if isinstance(element, h5py.Group):
        if column_encoding(element) != "categorical":
            return None
        return rows_of(element["codes"]), _length(element["categories"])
    reference = element.attrs.get("categories")  # anndata 0.7 kept them aside
    return (element, _length(element.file[reference])) if isinstance(reference, h5py.Reference) else None


def _length(labels: h5py.Group | h5py.Dataset) -> int:
    """How many categories there are; one alone may be no array, and none no dataspace."""
    shape = rows_of(labels).shape
    return 0 if shape is None else column_length(labels) if shape else 1


def sparse_shape(group: h5py.Group) -> tuple[int, int] | None:
    """Rows and columns that a sparse matrix says it has, in whole numbers of any type; None if it does not say so."""
    said = group.attrs.get("shape", group.attrs.get("h5sparse_shape"))  # the second before anndata 0.7
    if said is None or isinstance(said, h5py.Empty):
        return None
    sides = np.atleast_1d(said).ravel()
    if sides.shape != (2,) or sides.dtype.kind not in "iuf" or not np.isfinite(sides).all():
        return None
    rows, columns = (int(side) for side in sides)
    return (rows, columns) if (sides == np.floor(sides)).all() and min(rows, columns) >= 0 else None


def is_expression(path: str) -> bool:
    """Whether an element is X, a layer or raw's X, or a part of one."""
    pieces = path.split("/")
    return pieces[0] in ("X", "layers", "raw.X") or pieces[:2] == ["raw", "X"]


def is_column(field: str) -> bool:
    """Whether a field is a column of obs, or the names of its rows."""
    return field == "obs_names" or field.startswith("obs/")


def unit_of(path: str) -> str:
    """What the first dimension of an element counts: ``rows`` along obs, ``genes`` along var, or ``entries``."""
    pieces = path.split("/")
    if "__categories" in pieces or "categories" in pieces[2:]:
        return "entries"
    if is_expression(path) or pieces[0] in ("obs", "obsm", "obsp"):
        return "rows"
    of_genes = pieces[0] in ("var", "varm", "varp", "raw.var", "raw.varm") or pieces[:2] in _RAW_GENES
    return "genes" if of_genes else "entries"


_RAW_GENES = (["raw", "var"], ["raw", "varm"])
_ORDER = ("X", "layers", "raw", "obsm", "obs", "var")


def report_order(path: str) -> tuple[int, str]:
    """A key to sort elements by: X, layers, raw, obs …, and what is no field last."""
    group = path.split("/")[0].split(".")[0]
    return _ORDER.index(group) if group in _ORDER else len(_ORDER), path
