"""How the fields of an ``.h5ad`` file are stored, without reading more of a matrix than a few rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import h5py
import numpy as np

from annpipes.stores.codecs.registry import name_of
from annpipes.stores.columns import column_encoding, rows_of
from annpipes.stores.containers.hdf5_tables import need_filters
from annpipes.stores.describing.fields import (
    Element,
    FieldReport,
    FileFacts,
    advice_of,
    check_length,
    of_sparse,
    told,
    with_names,
    with_reading,
    with_storage,
)
from annpipes.stores.describing.looks import sample_of_text
from annpipes.stores.h5ad import H5adStore, raw_x
from annpipes.stores.routes import Route
from annpipes.stores.surveying import SPARSE, codes_of, datasets_in, encoding_of, is_column, sparse_shape, stored_bytes
from annpipes.stores.tables import index_key, is_frame

__all__ = ["describe_h5ad"]


def describe_h5ad(store: H5adStore) -> FileFacts:
    """How a file is stored."""
    names = [name for name in store.fields if name != "rows"]
    with store.file.open() as opened:
        reports = tuple(_described(store, opened, name) for name in names)
        others = _others(opened)
    return FileFacts(store.file.path, store.stored_bytes, store.n_obs, store.n_vars, reports, others, advice_of(store))


def _described(store: H5adStore, opened: h5py.File, name: str) -> FieldReport:
    def stored() -> FieldReport:
        return _stored(*_element(store, opened, name), name, store.n_obs)

    def read(report: FieldReport) -> FieldReport:
        return _read(store, report, _element(store, opened, name)[0])

    return told(name, store.name, stored, read)


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


def _stored(element: h5py.Group | h5py.Dataset, column: str, name: str, n_obs: int) -> FieldReport:
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
    report = of_sparse(name, SPARSE[encoding_of(group)], sparse_shape(group) or (), data, indices)
    return _with_storage(report, data, [data, indices, group["indptr"]])


def _with_storage(report: FieldReport, main: h5py.Dataset, parts: list[h5py.Dataset]) -> FieldReport:
    parts = [part for part in parts if part.shape is not None]
    decoded, stored = sum(int(part.nbytes) for part in parts), sum(part.id.get_storage_size() for part in parts)
    sizes = (decoded, stored) if parts else (None, None)
    return with_storage(report, main.chunks, main.dtype, _codec(main), *sizes)


def _codec(dataset: h5py.Dataset) -> str:
    created = dataset.id.get_create_plist()
    filters = [created.get_filter(i) for i in range(created.get_nfilters())]
    return " + ".join(name_of(number, name) for number, _, _, name in filters)


def _read(store: H5adStore, report: FieldReport, element: h5py.Group | h5py.Dataset) -> FieldReport:
    """The report with what reading shows; obs columns are not read for it, of text a few rows are looked at."""
    if not is_column(report.field):
        return with_reading(store, report)
    for part in datasets_in(element):
        need_filters(part, f"{report.field} of {store.name}")
    check_length(store, report)
    report = replace(report, route=Route("memory"), row_bytes=8.0)
    if report.field == "obs_names":
        return with_names(store, report)
    text = element.get("values") if isinstance(element, h5py.Group) else element
    if report.dtype == "text" and report.encoding != "table" and text.dtype.kind == "O":
        strings = text.asstr()
        return replace(report, sample=sample_of_text(len(text), lambda first, end: strings[first:end].tolist()))
    return report
