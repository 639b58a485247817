"""What a file holds, how it is stored, and whether it is intact.

`tables`     what is said of each matrix and column, a line each
`isolation`  a check done in a process of its own
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from annpipes.errors import FieldError, ParameterTypeError
from annpipes.messages.brevity import brief_bytes
from annpipes.messages.progress import Progress, no_progress
from annpipes.messages.reporting import Report
from annpipes.messages.showing import PAGE, Labelled, Page, Part, Shown, Title, text_of
from annpipes.plans.rows import as_count
from annpipes.stores import (
    Damage,
    Element,
    FieldReport,
    Finding,
    Remote,
    check_file,
    describe_file,
    findings_of,
    name_of,
)
from annpipes.tools.inspecting.isolation import check_apart
from annpipes.tools.inspecting.tables import column_table, density_table, matrix_table

__all__ = ["CheckReport", "Damage", "FieldReport", "Finding", "Inspection", "check", "inspect"]

_COLUMNS = ("obs", "obs_names")


@dataclass(frozen=True)
class Inspection(Report, Shown):
    """What `inspect` reports about a file; its ``str`` is what ``annpipes inspect`` prints.

    Parameters
    ----------
    file, file_bytes
        Its path and size.
    n_obs, n_vars
        Rows and genes.
    fields
        How each field is stored.
    others
        Elements that annpipes does not read.
    chunk_rows, chunk_bytes, loader_bytes
        Rows of a chunk, the memory it takes with X alone, and the memory a `Loader` takes: the chunk in use and
        the one being read.
    block_size, block_reason
        The block size that `IndexSource` chooses, and why.
    findings
        Problems and remarks, and what to do about them.
    """

    file: str
    file_bytes: int
    n_obs: int
    n_vars: int
    fields: tuple[FieldReport, ...]
    others: tuple[Element, ...]
    chunk_rows: int
    chunk_bytes: float
    loader_bytes: float
    block_size: int
    block_reason: str
    findings: tuple[Finding, ...]

    def __getitem__(self, field: str) -> FieldReport:
        found = {report.field: report for report in self.fields}
        if field not in found:
            raise FieldError(f"no field {field!r} in {self.file}; fields: {', '.join(found)}")
        return found[field]

    def __str__(self) -> str:
        return self.on(PAGE)

    def _shown(self) -> Sequence[Part]:
        matrices = [report for report in self.fields if report.field.partition("/")[0] not in _COLUMNS]
        columns = [report for report in self.fields if report.field.partition("/")[0] in _COLUMNS]
        return [
            Title(f"{self.file}: {self.n_obs:,} rows × {self.n_vars:,} genes, {brief_bytes(self.file_bytes)}"),
            matrix_table(matrices),
            density_table([report for report in matrices if report.stored_values is not None]),
            column_table(columns),
            self._advice(),
            Labelled([entry for found in self.findings for entry in _told(found)] or [("problems", "none found")]),
        ]

    def _advice(self) -> Labelled:
        entries = [("blocks", f"{self.block_size:,} rows: {self.block_reason}")]
        if self.chunk_bytes:
            memory = (
                f"{brief_bytes(self.chunk_bytes)} for a chunk of {self.chunk_rows:,} rows of X, "
                f"{brief_bytes(self.loader_bytes)} for a Loader (one in use, one being read)"
            )
            entries.append(("memory", memory))
        if self.others:
            names = ", ".join(f"{other.name} {brief_bytes(other.stored_bytes)}" for other in self.others)
            entries.append(("not read", names))
        return Labelled(entries)


@dataclass(frozen=True)
class CheckReport(Report, Shown):
    """What `check` found; its ``str`` is what ``annpipes inspect --check`` prints.

    Parameters
    ----------
    file
        Its path.
    healthy
        Whether everything could be read and nothing is damaged.
    read_bytes
        How many bytes were read, after decoding.
    damage
        What is damaged, with rows.
    remarks
        What is unusual, but valid.
    unchecked
        What could not be checked, because HDF5 lacks a filter.
    """

    file: str
    healthy: bool
    read_bytes: int
    damage: tuple[Damage, ...]
    remarks: tuple[Damage, ...]
    unchecked: tuple[Damage, ...]

    def __str__(self) -> str:
        return self.on(PAGE)

    def on(self, page: Page) -> str:
        return text_of(self._shown(), page, between="\n")

    def _shown(self) -> Sequence[Part]:
        told = "no damage" if self.healthy else "NOT INTACT"
        kinds = (("damage", self.damage), ("unchecked", self.unchecked), ("remark", self.remarks))
        return [
            Title(f"{self.file}: {told} ({brief_bytes(self.read_bytes)} read)"),
            Labelled([(label, str(entry)) for label, entries in kinds for entry in entries]),
        ]


def inspect(path: str | os.PathLike[str] | Remote, *, chunk_size: int = 16_384) -> Inspection:
    """How a file is stored, how it is read, and what could be better.

    >>> report = inspect("pbmc.h5ad")
    >>> report.n_obs, report["raw/X"].encoding, report["raw/X"].per_row.most, report["raw/X"].route
    (700, 'csr', 409, 'direct (uncompressed)')
    >>> print(report.findings[1].what)
    columns do not ascend within rows, first in row 0 (256 rows looked at)

    It costs little more than opening the file: it reads ``indptr`` and the obs names whole, but only a few rows of
    matrices and text. `check` reads everything.

    Parameters
    ----------
    path
        Path of an ``.h5ad`` file or a Zarr store, or its address.
    chunk_size
        Rows of the chunk whose memory is reported.

    Raises
    ------
    SourceError, FormatError, DamageError
        There is no such file, or it is not an AnnData file, or it cannot be opened.
    ParameterError, ParameterTypeError
        ``chunk_size`` is invalid, or ``path`` is not a path.
    """
    size = as_count(chunk_size, "chunk_size")
    facts = describe_file(path if isinstance(path, Remote) else _as_path(path, "inspect"))
    rows = min(size, facts.n_obs)
    x_bytes = next((report.row_bytes for report in facts.fields if report.field == "X"), 0.0) * rows
    return Inspection(
        file=facts.path,
        file_bytes=facts.file_bytes,
        n_obs=facts.n_obs,
        n_vars=facts.n_vars,
        fields=facts.fields,
        others=facts.others,
        chunk_rows=rows,
        chunk_bytes=x_bytes,
        loader_bytes=x_bytes * (2 if size < facts.n_obs else 1),
        block_size=facts.advice.size,
        block_reason=facts.advice.reason,
        findings=findings_of(facts.fields),
    )


def check(
    path: str | os.PathLike[str] | Remote, *, own_process: bool = False, progress: Progress = no_progress
) -> CheckReport:
    """All damage in a file, found by reading everything in it once.

    >>> report = check("pbmc.h5ad")
    >>> report.healthy, report.damage
    (True, ())

    Damage is: bytes that do not decode or have a wrong checksum, an inconsistent ``indptr``, columns
    outside the matrix, NaN and infinite values in X, layers and raw, codes without a category, lengths that differ
    from those of obs and var, and anything HDF5 cannot read. One damaged storage chunk does not hide another. For each
    kind of damage in a field, at most 50 ranges of rows are listed; the last covers the rest.

    Parameters
    ----------
    path
        Path of an ``.h5ad`` file or a Zarr store, or its address.
    own_process
        Read in a separate process, as the command does: some damage crashes HDF5 itself, and that crash is then
        reported as damage. A script must guard its work with ``if __name__ == "__main__"``.
    progress
        Called with the number of bytes done and the total.

    Raises
    ------
    SourceError, FormatError
        There is no such file, or it is a directory.
    ParameterTypeError
        ``path`` is not a path.
    RemoteError
        The address cannot be read.
    """
    place = path if isinstance(path, Remote) else _as_path(path, "check")
    found = check_apart(place, progress) if own_process else check_file(place, progress)
    healthy = not found.damage and not found.unchecked
    return CheckReport(name_of(place), healthy, found.read_bytes, found.damage, found.remarks, found.unchecked)


def _as_path(path: Any, function: str) -> str:
    if not isinstance(path, str | os.PathLike):
        raise ParameterTypeError(
            f"path must be the path of one file, got {type(path).__name__}: {function} looks at how a file is "
            f"stored, so write an AnnData first (adata.write_h5ad), and call it for each of many files"
        )
    return os.path.expanduser(path)


def _told(finding: Finding) -> Iterator[tuple[str, str]]:
    yield finding.level, f"{finding.field}: {finding.what}"
    if finding.remedy:
        yield "", f"→ {finding.remedy}"
