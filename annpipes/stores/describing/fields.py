"""How the fields of an ``.h5ad`` file are stored, without reading more of a matrix than a few rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from annpipes.errors import AnnpipesError, DamageError, FormatError
from annpipes.reporting import Report
from annpipes.stores.codecs.registry import name_of
from annpipes.stores.columns import column_encoding, rows_of
from annpipes.stores.describing.looks import Sample, sample_of, sample_of_text
from annpipes.stores.engine.fallback import need_filters
from annpipes.stores.h5ad import H5adStore, raw_x
from annpipes.stores.matrices import CsrRows
from annpipes.stores.protocol import BlockAdvice, is_matrix
from annpipes.stores.routes import Route
from annpipes.stores.surveying import SPARSE, codes_of, datasets_in, encoding_of, is_column, sparse_shape, stored_bytes
from annpipes.stores.tables import index_key, is_frame

__all__ = ["Element", "FieldReport", "FileFacts", "PerRow", "describe_file"]


@dataclass(frozen=True)
class PerRow(Report):
    """How many values the rows of a sparse matrix store."""

    least: int
    median: float
    mean: float
    most: int


@dataclass(frozen=True)
class Element(Report):
    """A part of a file, and how many bytes it takes there (text not counted)."""

    name: str
    stored_bytes: int


@dataclass(frozen=True)
class FieldReport(Report):
    """How one field of a file is stored.

    Parameters
    ----------
    field
        Its name.
    encoding
        ``csr``, ``csc``, ``dense`` or ``table``; of columns ``numbers``, ``booleans``, ``strings``, ``categories``
        or ``nullable …``.
    shape, dtype
        Of all rows; of the values (of categories: the codes).
    index_dtype
        Of a sparse matrix's columns.
    categories
        How many there are.
    stored_values, per_row, density
        Of a sparse matrix: how many values it stores, how many of them in a row, and their share of the shape.
    storage_chunk, storage_chunk_rows, storage_chunk_bytes
        Shape of a storage chunk (of a sparse matrix: of ``data``), about how many rows it holds, its decoded size.
        None where storage is contiguous.
    codec
        The filters that bytes went through; "" where there are none.
    decoded_bytes, stored_bytes, ratio
        Size in memory and in the file, and one over the other; None for text, whose size HDF5 does not tell.
    route
        How it is read, and why so; None where it cannot be read.
    row_bytes
        Memory that an average row takes.
    sample
        What a look at a few rows showed; None where nothing was looked at.
    error
        Why it cannot be read by rows; "" where it can.
    remedy
        What to do about that, where it is known.
    refused
        Whether it is whole, and of a kind that has no rows to read.
    """

    field: str
    encoding: str
    shape: tuple[int, ...]
    dtype: str
    index_dtype: str | None = None
    categories: int | None = None
    stored_values: int | None = None
    per_row: PerRow | None = None
    density: float | None = None
    storage_chunk: tuple[int, ...] | None = None
    storage_chunk_rows: float | None = None
    storage_chunk_bytes: int | None = None
    codec: str = ""
    decoded_bytes: int | None = None
    stored_bytes: int | None = None
    ratio: float | None = None
    route: Route | None = None
    row_bytes: float = 0.0
    sample: Sample | None = None
    error: str = ""
    remedy: str = ""
    refused: bool = False


def _describe(store: H5adStore, opened: h5py.File, name: str) -> FieldReport:
    """How a field is stored; what cannot be read of it is told in its ``error``."""
    try:
        element, column = _element(store, opened, name)
        report = _stored(element, name, column, store.n_obs)
    except Exception as error:  # h5py raises whatever damage leads it to
        return FieldReport(name, "unknown", (), "", error=f"{name} of {store.name} cannot be opened: {error}")
    try:
        return _read(store, report, element)
    except AnnpipesError as error:
        return replace(report, error=str(error), remedy=error.remedy, refused=isinstance(error, FormatError))
    except Exception as error:
        return replace(report, error=str(error))


def _others(opened: h5py.File) -> tuple[Element, ...]:
    """What annpipes does not read, largest first."""
    known = {"X", "layers", "obs", "obsm", "var", "raw", "raw.X", "raw.var"}
    found = [Element(name, stored_bytes(opened[name])) for name in opened if name not in known]
    return tuple(sorted((one for one in found if one.stored_bytes), key=lambda one: -one.stored_bytes))


def _element(store: H5adStore, opened: h5py.File, name: str) -> tuple[h5py.Group | h5py.Dataset, str]:
    """The element that holds a field, and which column of it if it is an old table of many."""
    if name == "obs_names":
        key, frame = index_key(opened["obs"]), opened["obs"]
        return (frame, key) if isinstance(frame, h5py.Dataset) else (frame[key], "")
    group, _, key = name.partition("/")
    if group == "raw":
        return opened[raw_x(store.file)], ""
    if key and isinstance(opened[group], h5py.Dataset):
        return opened[group], key
    return opened[group][key] if key else opened[group], ""


def _stored(element: h5py.Group | h5py.Dataset, name: str, column: str, n_obs: int) -> FieldReport:
    """What the element's datasets tell by themselves."""
    if isinstance(element, h5py.Group) and encoding_of(element) in SPARSE:
        return _stored_sparse(element, name)
    main, encoding, categories = _main(element)
    text = main.dtype.kind in "OSU" or h5py.check_string_dtype(main.dtype) is not None
    dtype = main.dtype[column] if column else main.dtype
    matrix = name == "X" or name.split("/")[0] in ("layers", "raw", "obsm")
    if isinstance(element, h5py.Dataset):
        encoding = "table" if column else "dense" if matrix else _kind(main.dtype)
    report = FieldReport(name, encoding, main.shape or (), "text" if text else str(dtype), categories=categories)
    report = _with_storage(report, main, [] if text else datasets_in(element))
    return report if not main.chunks else replace(report, storage_chunk_rows=float(min(main.chunks[0], n_obs)))


def _main(element: h5py.Group | h5py.Dataset) -> tuple[h5py.Dataset, str, int | None]:
    """The dataset that has the rows, the encoding in words, and how many categories there are."""
    encoding = column_encoding(element).replace("-", " ")
    if isinstance(element, h5py.Dataset):
        return element, encoding, None
    if encoding == "categorical":
        codes = codes_of(element)
        assert codes is not None
        return codes[0], "categories", codes[1]
    if is_frame(element):
        return rows_of(element[index_key(element)]), "table", None
    inside = datasets_in(element)
    return element["values"] if "values" in element else inside[0], encoding.removesuffix(" array"), None


def _kind(dtype: np.dtype[Any]) -> str:
    return {"b": "booleans", "O": "strings", "S": "strings"}.get(dtype.kind, "numbers")


def _stored_sparse(group: h5py.Group, name: str) -> FieldReport:
    data, indices = group["data"], group["indices"]
    shape = sparse_shape(group) or ()
    size = math.prod(shape)
    report = FieldReport(
        name,
        SPARSE[encoding_of(group)],
        shape,
        str(data.dtype),
        index_dtype=str(indices.dtype),
        stored_values=int(data.size),
        density=data.size / size if size else None,
    )
    return _with_storage(report, data, [data, indices, group["indptr"]])


def _with_storage(report: FieldReport, main: h5py.Dataset, parts: list[h5py.Dataset]) -> FieldReport:
    parts = [part for part in parts if part.shape is not None]
    decoded, stored = sum(int(part.nbytes) for part in parts), sum(part.id.get_storage_size() for part in parts)
    return replace(
        report,
        storage_chunk=main.chunks,
        storage_chunk_bytes=math.prod(main.chunks) * main.dtype.itemsize if main.chunks else None,
        codec=_codec(main),
        decoded_bytes=decoded if parts else None,
        stored_bytes=stored if parts else None,
        ratio=decoded / stored if stored else None,
    )


def _codec(dataset: h5py.Dataset) -> str:
    created = dataset.id.get_create_plist()
    filters = [created.get_filter(i) for i in range(created.get_nfilters())]
    return " + ".join(name_of(number, name) for number, _, _, name in filters)


def _read(store: H5adStore, report: FieldReport, element: h5py.Group | h5py.Dataset) -> FieldReport:
    """The report with what reading shows."""
    name = report.field
    if is_column(name):
        return _read_column(store, report, element)
    report = replace(report, route=store.route(name), row_bytes=store.row_bytes([name]))
    reader = store.reader(name)
    if isinstance(reader, CsrRows):
        lengths = np.diff(reader.indptr)
        report = replace(report, per_row=_per_row(lengths))
        if report.storage_chunk and report.stored_values:
            report = replace(report, storage_chunk_rows=report.storage_chunk[0] / max(1e-9, float(lengths.mean())))
    if is_matrix(reader):
        return replace(report, sample=sample_of(reader, report.storage_chunk_bytes or 0))
    return report


def _read_column(store: H5adStore, report: FieldReport, element: h5py.Group | h5py.Dataset) -> FieldReport:
    """The report of an obs column, which is not read for it: of text, a few rows are looked at."""
    for part in datasets_in(element):
        need_filters(part, f"{report.field} of {store.name}")
    length = report.shape[0] if report.shape else 1
    if length not in (1, store.n_obs):  # what stands there once is repeated
        raise DamageError(f"{report.field} of {store.name} has {length} values, but there are {store.n_obs} rows")
    report = replace(report, route=Route("memory"), row_bytes=8.0)
    if report.field == "obs_names":  # a sample could not tell whether all differ
        names = store.obs_names
        return replace(report, sample=Sample(rows=len(names), different=int(names.nunique())))
    text = element.get("values") if isinstance(element, h5py.Group) else element
    if report.dtype == "text" and report.encoding != "table" and text.dtype.kind == "O":
        return replace(report, sample=sample_of_text(text))
    return report


def _per_row(lengths: NDArray[np.int64]) -> PerRow | None:
    if not len(lengths):
        return None
    return PerRow(int(lengths.min()), float(np.median(lengths)), float(lengths.mean()), int(lengths.max()))


@dataclass(frozen=True)
class FileFacts:
    """What `describe_file` finds."""

    path: str
    file_bytes: int
    n_obs: int
    n_vars: int
    fields: tuple[FieldReport, ...]
    others: tuple[Element, ...]
    advice: BlockAdvice


def describe_file(path: str) -> FileFacts:
    """How a file is stored."""
    store = H5adStore(path)
    names = [name for name in store.fields if name != "rows"]
    with store.file.open() as opened:
        reports = tuple(_describe(store, opened, name) for name in names)
        others = _others(opened)
    try:
        advice = store.block_advice()
    except DamageError:
        advice = BlockAdvice(64, "X cannot be read")
    return FileFacts(path, store.file.source.size, store.n_obs, store.n_vars, reports, others, advice)
