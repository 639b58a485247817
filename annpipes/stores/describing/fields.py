"""How the fields of a file are stored, whatever the container."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import AnnpipesError, DamageError, FormatError
from annpipes.messages.reporting import Report
from annpipes.stores.base import FieldStore
from annpipes.stores.blocks import BlockAdvice
from annpipes.stores.describing.looks import Sample, sample_of
from annpipes.stores.matrices import CsrRows
from annpipes.stores.protocol import is_matrix
from annpipes.stores.routes import Route

__all__ = [
    "Element",
    "FieldReport",
    "FileFacts",
    "PerRow",
    "advice_of",
    "check_length",
    "of_sparse",
    "told",
    "with_names",
    "with_reading",
    "with_storage",
]


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
        ``csr``, ``csc``, ``dense`` or ``table``; for columns ``numbers``, ``booleans``, ``strings``, ``categories``
        or ``nullable …``.
    shape, dtype
        Shape with all rows; type of the values (for categories: of the codes).
    index_dtype
        Type of a sparse matrix's column numbers.
    categories
        How many categories there are.
    stored_values, per_row, density
        For a sparse matrix: how many values it stores, how many per row, and their share of all entries.
    storage_chunk, storage_chunk_rows, storage_chunk_bytes
        Shape of a storage chunk (for a sparse matrix: of ``data``), about how many rows it holds, its decoded size.
        None if storage is contiguous.
    codec
        The filters applied to the bytes; "" if there are none.
    decoded_bytes, stored_bytes, ratio
        Size in memory and in the file, and the ratio of the two; None for text, whose size HDF5 does not tell.
    route
        How it is read, and why; None if it cannot be read.
    row_bytes
        Memory that an average row takes.
    sample
        What a look at a few rows showed; None if none were looked at.
    error
        Why it cannot be read by rows; "" if it can.
    remedy
        What to do about the error, if known.
    refused
        Whether the field is intact, but of a kind that cannot be read by rows.
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


def told(
    name: str, where: str, stored: Callable[[], FieldReport], read: Callable[[FieldReport], FieldReport]
) -> FieldReport:
    """How a field is ``stored``, and what reading shows; ``error`` says what cannot be read."""
    try:
        report = stored()
    except Exception as error:  # h5py and zarr raise whatever damage leads them to
        return FieldReport(name, "unknown", (), "", error=f"{name} of {where} cannot be opened: {error}")
    try:
        return read(report)
    except AnnpipesError as error:
        return replace(report, error=str(error), remedy=error.remedy, refused=isinstance(error, FormatError))
    except Exception as error:
        return replace(report, error=str(error))


def of_sparse(field: str, encoding: str, shape: tuple[int, ...], data: Any, indices: Any) -> FieldReport:
    """What the parts of a sparse matrix tell by themselves; they are arrays as h5py or zarr has them."""
    size = math.prod(shape)
    return FieldReport(
        field,
        encoding,
        shape,
        str(data.dtype),
        index_dtype=str(indices.dtype),
        stored_values=int(data.size),
        density=data.size / size if size else None,
    )


def with_storage(
    report: FieldReport,
    chunks: tuple[int, ...] | None,
    dtype: Any,
    codec: str,
    decoded_bytes: int | None,
    stored_bytes: int | None,
) -> FieldReport:
    """The report with how its main array, of this type, is cut up and encoded, and what all of the field takes."""
    return replace(
        report,
        storage_chunk=chunks,
        storage_chunk_bytes=math.prod(chunks) * np.dtype(dtype).itemsize if chunks else None,
        codec=codec,
        decoded_bytes=decoded_bytes,
        stored_bytes=stored_bytes,
        ratio=(decoded_bytes or 0) / stored_bytes if stored_bytes else None,
    )


def with_reading(store: FieldStore, report: FieldReport) -> FieldReport:
    """The report of a matrix with what reading shows."""
    name = report.field
    report = replace(report, route=store.route(name), row_bytes=store.row_bytes([name]))
    reader = store.reader(name)
    if isinstance(reader, CsrRows):
        lengths = reader.indptr.all_lengths()
        report = replace(report, per_row=_per_row(lengths))
        if report.storage_chunk and report.stored_values:
            report = replace(report, storage_chunk_rows=report.storage_chunk[0] / max(1e-9, float(lengths.mean())))
    if is_matrix(reader):
        return replace(report, sample=sample_of(reader, report.storage_chunk_bytes or 0))
    return report


def with_names(store: FieldStore, report: FieldReport) -> FieldReport:
    """The report of the names of the rows, all of which were looked at: a sample could not tell whether all differ."""
    names = store.obs_names
    return replace(report, sample=Sample(rows=len(names), different=int(names.nunique())))


def check_length(store: FieldStore, report: FieldReport) -> None:
    """Refuse a column that has another length than obs; what stands there once is repeated."""
    length = report.shape[0] if report.shape else 1
    if length not in (1, store.n_obs):
        raise DamageError(f"{report.field} of {store.name} has {length} values, but there are {store.n_obs} rows")


def _per_row(lengths: NDArray[np.int64]) -> PerRow | None:
    if not len(lengths):
        return None
    return PerRow(int(lengths.min()), float(np.median(lengths)), float(lengths.mean()), int(lengths.max()))


@dataclass(frozen=True)
class FileFacts:
    """What is known of a file."""

    path: str
    file_bytes: int
    n_obs: int
    n_vars: int
    fields: tuple[FieldReport, ...]
    others: tuple[Element, ...]
    advice: BlockAdvice


def advice_of(store: FieldStore) -> BlockAdvice:
    """How many rows should stay together, also where X cannot be read."""
    try:
        return store.block_advice()
    except DamageError:
        return BlockAdvice(64, "X cannot be read")
