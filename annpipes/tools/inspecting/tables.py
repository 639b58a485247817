"""The tables that `inspect` shows: what is said of each matrix and column, a line each."""

from __future__ import annotations

from annpipes.messages.brevity import brief_bytes, brief_number
from annpipes.messages.showing import Table
from annpipes.stores import FieldReport

__all__ = ["column_table", "density_table", "matrix_table"]


def matrix_table(reports: list[FieldReport]) -> Table:
    header = ["matrix", "encoding", "dtype", "columns", "stored", "ratio", "codec", "storage chunk", "route"]
    rows = [
        [
            report.field,
            report.encoding,
            report.dtype + (f" + {report.index_dtype}" if report.index_dtype else ""),
            f"{report.shape[1]:,}" if len(report.shape) > 1 else "–",
            *_size(report),
            _storage_chunk(report),
            _route(report),
        ]
        for report in reports
    ]
    return Table(header, rows, numbers=[3, 4, 5])


def density_table(reports: list[FieldReport]) -> Table:
    rows = []
    for report in reports:
        counts = report.per_row
        numbers = (counts.least, counts.median, counts.mean, counts.most) if counts else ()
        density = f"{report.density:.3g}" if report.density is not None else "–"
        rows.append([report.field, *(map(brief_number, numbers) if counts else "––––"), density])
    return Table(["values per row", "least", "median", "mean", "most", "density"], rows, numbers=range(1, 6))


def column_table(reports: list[FieldReport]) -> Table:
    header = ["column", "encoding", "dtype", "stored", "ratio", "codec", "storage chunk"]
    rows = []
    for report in reports:
        count = f"{report.categories:,} " if report.categories is not None else ""
        rows.append([report.field, count + report.encoding, report.dtype, *_size(report), _storage_chunk(report)])
    return Table(header, rows, numbers=[3, 4])


def _size(report: FieldReport) -> list[str]:
    stored = brief_bytes(report.stored_bytes) if report.stored_bytes is not None else "–"
    ratio = brief_number(report.ratio) if report.ratio is not None and report.codec else "–"
    return [stored, ratio, report.codec or "–"]


def _storage_chunk(report: FieldReport) -> str:
    if report.storage_chunk is None:
        return "–"
    sides = " × ".join(f"{side:,}" for side in report.storage_chunk)
    if report.index_dtype is None or report.storage_chunk_rows is None:
        return sides
    return f"{sides} (about {brief_number(report.storage_chunk_rows)} rows)"


def _route(report: FieldReport) -> str:
    return "–" if report.route is None else report.route.kind
