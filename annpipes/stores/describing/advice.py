"""What is wrong with how fields are stored, or could be better, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from annpipes.messages.brevity import brief_bytes, brief_number
from annpipes.messages.reporting import Report
from annpipes.stores.codecs.registry import costs_of
from annpipes.stores.describing.fields import FieldReport
from annpipes.stores.surveying import is_column

__all__ = ["Finding", "findings_of"]

_ROWS_TOGETHER = 1024  # rows decoded for one: a block of as many is a sixteenth of a chunk of 16,384
_LARGE_CHUNK, _SMALL_CHUNK = 32 << 20, 4 << 10
_MANY_CHUNKS = 1000
_MOSTLY_ZEROS = 0.7  # at a half, CSR of float32 begins to be smaller
_EXACT = 2**24  # whole numbers up to it are the same in float32
_REPEATED = 0.1  # different strings among those looked at
_SHUFFLE = "`annpipes shuffle` rewrites the file so that it is read directly"


@dataclass(frozen=True)
class Finding(Report):
    """Something to know about a field.

    Parameters
    ----------
    level
        ``problem``: it is expensive, or something will fail. ``remark``: it is good to know.
    field
        The field, or all fields that the finding is about.
    what
        The finding.
    remedy
        What to do about it; "" if nothing needs to be done.
    """

    level: Literal["problem", "remark"]
    field: str
    what: str
    remedy: str = ""


def findings_of(reports: Sequence[FieldReport]) -> tuple[Finding, ...]:
    """Problems first, then remarks, each in the order of the fields."""
    same: dict[Finding, list[str]] = {}
    for report in reports:
        for finding in _of_field(report):
            same.setdefault(replace(finding, field=""), []).append(finding.field)
    found = [replace(finding, field=", ".join(fields)) for finding, fields in same.items()]
    return tuple(sorted(found, key=lambda finding: finding.level != "problem"))


def _of_field(report: FieldReport) -> Iterator[Finding]:
    if report.encoding == "csc":
        yield _by_columns(report)
    elif report.error:
        yield _unread(report)
    elif is_column(report.field):
        yield from _of_text(report)
    elif 0 not in report.shape and report.stored_values != 0:
        yield from _of_route(report)
        yield from _of_storage_chunks(report)
        yield from _of_types(report)
        yield from _of_values(report)


def _by_columns(report: FieldReport) -> Finding:
    rewritten = "`annpipes shuffle` writes it by rows, within the memory that you allow"
    remedy = f"{report.remedy}; or {rewritten}" if report.remedy else rewritten
    return Finding("problem", report.field, "stored by columns (CSC), so it cannot be read by rows", remedy)


def _unread(report: FieldReport) -> Finding:
    if report.refused and not report.remedy:
        return Finding("remark", report.field, report.error, "")
    remedy = report.remedy or "`annpipes inspect --check` reads everything and reports what is damaged"
    return Finding("problem", report.field, report.error, remedy)


def _of_route(report: FieldReport) -> Iterator[Finding]:
    if report.route is not None and report.route.kind == "h5py":
        what = f"read through h5py, one thread at a time: {report.route.reason}"
        yield Finding("problem", report.field, what, _SHUFFLE)
    elif (costs := costs_of(report.codec)) and not report.field.startswith("obsm"):
        yield Finding(
            "remark",
            report.field,
            f"{report.codec}: {costs}",
            "where speed matters, `cache=` decodes it once; `annpipes shuffle` writes it with lz4, or uncompressed",
        )


def _of_storage_chunks(report: FieldReport) -> Iterator[Finding]:
    rows, size = report.storage_chunk_rows, report.storage_chunk_bytes
    by_hdf5 = report.route is not None and report.route.kind == "h5py"
    if not report.storage_chunk or rows is None or size is None or (not report.codec and not by_hdf5):
        return  # of what is not encoded, any row can be read alone
    count = (report.decoded_bytes or 0) / max(1, size)
    if (rows > _ROWS_TOGETHER and count > 1) or size > _LARGE_CHUNK:
        yield Finding(
            "problem",
            report.field,
            f"large storage chunks: for one row, {brief_number(rows)} rows ({brief_bytes(size)}) are decoded",
            "use blocks of whole storage chunks (the default), or rewrite the file with `annpipes shuffle`",
        )
    elif size < _SMALL_CHUNK and count > _MANY_CHUNKS:
        yield Finding(
            "problem",
            report.field,
            f"small storage chunks: {brief_number(count)} of {brief_bytes(size)}, each decoded by itself",
            "rewrite the file with `annpipes shuffle`",
        )


def _of_types(report: FieldReport) -> Iterator[Finding]:
    if report.index_dtype in ("int64", "uint64") and report.shape[1] < 2**31:
        what = f"columns are stored as {report.index_dtype}, though int32 is enough for all {report.shape[1]:,}"
        yield Finding("remark", report.field, what, "X.indices = X.indices.astype('int32') makes them half as large")
    sample = report.sample
    fits = sample is not None and sample.whole and (sample.largest or 0) <= _EXACT
    if report.dtype in ("float64", "int64", "uint64") and fits and not report.field.startswith("obsm"):
        what = f"whole numbers stored as {report.dtype}: float32 holds all that were looked at exactly"
        yield Finding(
            "remark", report.field, what, "X.astype('float32') is half as large, and what a model gets anyway"
        )
    if report.encoding == "dense" and sample is not None and (sample.zeros or 0) > _MOSTLY_ZEROS:
        what = f"dense, though {sample.zeros:.0%} of the values are zero ({sample.rows:,} rows looked at)"
        if report.shape[1] > 1 and not report.field.startswith("obsm"):
            yield Finding("problem", report.field, what, "scipy.sparse.csr_matrix(X) is smaller and read faster")


def _of_values(report: FieldReport) -> Iterator[Finding]:
    sample = report.sample
    if sample is None:
        return
    seen = f"{sample.rows:,} rows looked at"
    if sample.unsorted_row is not None:
        what = f"columns do not ascend within rows, first in row {sample.unsorted_row:,} ({seen})"
        yield Finding("remark", report.field, what, "batches are right; X.sort_indices() lets other tools slice faster")
    if sample.twice_row is not None:
        what = f"a column is stored twice in one row, first in row {sample.twice_row:,} ({seen})"
        yield Finding("problem", report.field, what, "X.sum_duplicates() adds them, as annpipes does for dense batches")
    if report.field.startswith("obsm"):
        return
    if sample.nan_row is not None:
        what = f"NaN or infinite values, first in row {sample.nan_row:,} ({seen})"
        yield Finding(
            "problem", report.field, what, "`annpipes inspect --check` lists all such rows; a loss would be NaN"
        )
    if sample.negative_row is not None:
        what = f"negative values, first in row {sample.negative_row:,} ({seen}): scaled, not counts"
        yield Finding(
            "remark", report.field, what, "a layer or raw/X may hold the counts that NormalizeTotal and Log1p expect"
        )


def _of_text(report: FieldReport) -> Iterator[Finding]:
    sample = report.sample
    if sample is None or sample.different is None:
        return
    if report.field == "obs_names":
        if sample.different < sample.rows:
            what = (
                f"not unique ({sample.rows - sample.different:,} names repeat an earlier one): "
                f"rows cannot be chosen by name"
            )
            yield Finding("problem", report.field, what, "adata.obs_names_make_unique()")
    elif sample.different <= _REPEATED * sample.rows and sample.rows >= 10:
        column = report.field.removeprefix("obs/")
        what = (
            f"strings with few distinct values ({sample.different:,} in {sample.rows:,} rows looked at): about "
            f"{brief_number((sample.text_bytes or 0) + 16)} bytes a row, as categories 1 or 2"
        )
        yield Finding("remark", report.field, what, f"adata.obs[{column!r}] = adata.obs[{column!r}].astype('category')")
