"""How the fields of an AnnData in a Zarr store are stored, without reading more of a matrix than a few rows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from annpipes.stores.containers.layout import Layout
from annpipes.stores.containers.zarr import metadata_of
from annpipes.stores.containers.zarr_tables import codec_names
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
from annpipes.stores.describing.looks import Sample, sample_of_text
from annpipes.stores.routes import Route
from annpipes.stores.surveying import SPARSE, encoding_of, is_column, sparse_shape
from annpipes.stores.zarr import ZarrStore

__all__ = ["describe_zarr"]

_READ = {"X", "layers", "obs", "obsm", "var", "raw"}


def describe_zarr(store: ZarrStore) -> FileFacts:
    """How a store is stored."""
    reports = tuple(_described(store, name) for name in store.fields if name != "rows")
    names = {path.partition("/")[0] for path, _ in store.container.members()} - _READ
    found = [Element(name, size) for name in sorted(names) if (size := store.container.bytes_below(name))]
    others = tuple(sorted(found, key=lambda one: -one.stored_bytes))
    return FileFacts(store.path, store.stored_bytes, store.n_obs, store.n_vars, reports, others, advice_of(store))


def _stored_bytes(store: ZarrStore, path: str) -> int:
    """What an array takes, its metadata not counted."""
    layout = store.container.array(path).layout
    if isinstance(layout, Layout):
        return int(layout.sizes[layout.masks == 0].sum())
    return store.container.bytes_below(path)


def _described(store: ZarrStore, name: str) -> FieldReport:
    def stored() -> FieldReport:
        return _stored(store, name)

    def read(report: FieldReport) -> FieldReport:
        if not is_column(name):
            return with_reading(store, report)
        check_length(store, report)
        report = replace(report, route=Route("memory"), row_bytes=8.0)
        if name == "obs_names":
            return with_names(store, report)
        return replace(report, sample=_sample_of_text(store, name)) if report.dtype == "text" else report

    return told(name, store.name, stored, read)


def _stored(store: ZarrStore, name: str) -> FieldReport:
    """What the arrays of a field tell by themselves."""
    path = store.path_of(name)
    element, encoding = store.container.group[path], encoding_of(store.container.group[path])
    if encoding in SPARSE:
        shape = sparse_shape(element) or ()
        report = of_sparse(name, SPARSE[encoding], shape, element["data"], element["indices"])
        return _with_storage(store, report, path, "data", ("data", "indices", "indptr"))
    if not store.container.is_group(path):
        text = np.dtype(element.dtype).kind in "OSUT"
        words = "strings" if text else "booleans" if element.dtype == bool else "numbers"
        kind = words if is_column(name) else "dense"
        report = FieldReport(name, kind, tuple(element.shape), "text" if text else str(element.dtype))
        report = _with_storage(store, report, path, "", () if text else ("",))
        rows = float(min(element.chunks[0], store.n_obs)) if element.chunks else None
        return replace(report, storage_chunk_rows=rows)
    return _stored_group(store, name, path, encoding)


def _stored_group(store: ZarrStore, name: str, path: str, encoding: str) -> FieldReport:
    element = store.container.group[path]
    if encoding == "dataframe":
        return FieldReport(name, "table", (store.n_obs,), "table")
    main = "codes" if encoding == "categorical" else "values"
    dtype = np.dtype(element[main].dtype)
    text = dtype.kind in "OSUT"
    categories = store.container.length(f"{path}/categories") if main == "codes" else None
    words = "categories" if main == "codes" else encoding.replace("-", " ").removesuffix(" array")
    report = FieldReport(name, words, tuple(element[main].shape), "text" if text else str(dtype), categories=categories)
    return _with_storage(store, report, path, main, () if text else (main,))


def _with_storage(store: ZarrStore, report: FieldReport, path: str, main: str, parts: tuple[str, ...]) -> FieldReport:
    """The report with the storage of the part ``main``, "" for the element itself, and the bytes of all ``parts``."""
    group = store.container.group
    places, whole = [f"{path}/{part}".rstrip("/") for part in parts], group[f"{path}/{main}".rstrip("/")]
    decoded = sum(math.prod(group[place].shape) * np.dtype(group[place].dtype).itemsize for place in places)
    stored = sum(_stored_bytes(store, place) for place in places)
    codec, sizes = " + ".join(codec_names(metadata_of(whole))), (decoded, stored) if places else (None, None)
    return with_storage(report, tuple(whole.chunks) or None, whole.dtype, codec, *sizes)


def _sample_of_text(store: ZarrStore, name: str) -> Sample:
    """A look at a column of strings."""
    path = store.path_of(name)
    element = store.container.group[path]
    array = element["values"] if store.container.is_group(path) else element

    def read(first: int, end: int) -> list[str]:
        return [str(value) for value in np.asarray(array[first:end], object).tolist()]

    return sample_of_text(array.shape[0], read)
