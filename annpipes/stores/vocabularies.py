"""Lists of gene names, and how they meet the genes that data has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from annpipes.errors import FieldError, ParameterError, ParameterTypeError
from annpipes.messages.brevity import brief_named
from annpipes.messages.reporting import Report
from annpipes.messages.showing import Labelled, Part, Shown, Table, Title, text_of
from annpipes.stores.generics import AnyIndex, AnySeries

__all__ = [
    "AS_NAMED",
    "FoundGenes",
    "GeneVersions",
    "Matching",
    "MissingGenes",
    "as_keys",
    "need_column",
    "places_of_genes",
    "refuse_repeated",
    "without_version",
]

MissingGenes = Literal["error", "fill"]
GeneVersions = Literal["keep", "drop"]

_ENSEMBL = re.compile(r"(ENS[A-Z]*\d{11})\.\d+")  # https://www.ensembl.org/info/genome/stable_ids
_SHOWN = 3


@dataclass(frozen=True)
class Matching:
    """How genes given as names are found among those of the data.

    Parameters
    ----------
    column
        The column of var that has the names; var_names when None.
    missing
        What becomes of names that the data lacks: an ``"error"``, or a column of zeros (``"fill"``).
    versions
        Whether Ensembl ids are compared with their versions (``"keep"``) or without (``"drop"``).
    """

    column: str | None = None
    missing: MissingGenes = "error"
    versions: GeneVersions = "keep"

    @classmethod
    def of(cls, genes_from: Any, missing_genes: Any, gene_versions: Any, *, argument: str = "genes_from") -> Matching:
        """The same from a caller's words, each of them checked."""
        if genes_from is not None and not isinstance(genes_from, str):
            raise ParameterTypeError(f"{argument} must be the name of a var column, got {genes_from!r}")
        for name, value, kind in (
            ("missing_genes", missing_genes, MissingGenes),
            ("gene_versions", gene_versions, GeneVersions),
        ):
            if value not in get_args(kind):
                raise ParameterError(f"{name} must be one of {', '.join(get_args(kind))}, got {value!r}")
        return cls(genes_from, missing_genes, gene_versions)

    def need_names(self, why: str) -> None:
        """Refuse these options where no names are looked up, because they would be silently ignored."""
        given = {"genes_from": self.column, "missing_genes": self.missing, "gene_versions": self.versions}
        for (name, value), default in zip(given.items(), (None, "error", "keep"), strict=True):
            if value != default:
                raise ParameterError(f"{name}={value!r} says how names of genes are looked up, but {why}")

    def compared(self, names: Iterable[Any]) -> list[Any]:
        """Names as they are compared; missing ones are None."""
        plain = [None if name is None else str(name) for name in names]
        return [None if name is None else without_version(name) for name in plain] if self.versions == "drop" else plain


AS_NAMED = Matching()
"""By var_names, each of them as it is."""


def without_version(name: str) -> str:
    """An Ensembl id without its version; any other name as it is.

    >>> without_version("ENSG00000141510.18"), without_version("AC012345.1")
    ('ENSG00000141510', 'AC012345.1')
    """
    versioned = _ENSEMBL.fullmatch(name)
    return versioned[1] if versioned else name


def need_column(table: pd.DataFrame, column: str, where: str) -> AnySeries:
    """A column of var; the error names those that there are."""
    if column not in table:
        columns = ", ".join(map(str, table)) or "none"
        raise FieldError(f"no var column {column!r} in {where}; columns: {columns}")
    if not table.columns.is_unique and table.columns.tolist().count(column) > 1:
        raise FieldError(f"var of {where} has several columns {column!r}: give each a name of its own")
    return table[column]


def as_keys(column: AnySeries, what: str) -> AnyIndex:
    """The values of a var column as names, None where they are missing."""
    plain, missing = column.astype(object), column.isna()
    kind = pd.api.types.infer_dtype(plain[~missing], skipna=False)
    if kind not in ("string", "integer", "empty"):
        raise FieldError(
            f"{what} holds {kind} values ({column.dtype}), but names of genes must be text or whole numbers: "
            f"choose another column, or make it text"
        )
    return pd.Index([None if gone else str(name) for name, gone in zip(plain, missing, strict=True)], dtype=object)


def places_of_genes(
    given: NDArray[Any],
    names: AnyIndex,
    where: str,
    matching: Matching = AS_NAMED,
    table: Callable[[], pd.DataFrame] | None = None,
) -> NDArray[np.int64]:
    """Where each given gene stands among ``names``, and -1 where one that is not there is to be filled.

    Parameters
    ----------
    given
        Names, no two of them equal.
    names
        Those of the data, None where one is missing.
    where
        What errors call the data.
    table
        Loads var, whose columns may have what ``names`` lack: an error says so.

    Raises
    ------
    FieldError
        Some are not there and missing genes are an error; or none is.
    ParameterError
        A given name stands more than once.
    """
    compared, asked = matching.compared(names), matching.compared(given.tolist())
    places = {name: place for place, name in enumerate(compared) if name is not None}
    unknown = [name for name, key in zip(given.tolist(), asked, strict=True) if key not in places]
    if unknown and (matching.missing == "error" or len(unknown) == len(given)):
        fill = "; missing_genes='fill' puts zeros in its place" if len(unknown) < len(given) else ""
        hint = _hint(unknown, names, matching, table) or fill
        raise FieldError(f"no gene {unknown[0]!r} in {where} ({len(unknown)} of {len(given)} unknown){hint}")
    counts = pd.Index(compared, dtype=object)
    repeated = set(counts[counts.duplicated()])
    for name, key in zip(given.tolist(), asked, strict=True):
        if key in repeated:
            _refuse_ambiguous(name, [other for other, one in zip(names, compared, strict=True) if one == key], where)
    return np.array([places.get(key, -1) for key in asked], np.int64)


def refuse_repeated(given: Sequence[Any], matching: Matching, said: str) -> None:
    """Refuse names given twice, also those that are one without their versions; ``said`` begins the message."""
    names = pd.Index(given, dtype=object)
    if not names.is_unique:
        raise ParameterError(f"{said} {names[names.duplicated()][0]!r} more than once")
    keys = pd.Index(matching.compared(given), dtype=object)
    if not keys.is_unique:
        twice = names[keys == keys[keys.duplicated()][0]]
        raise ParameterError(f"{said} {twice[0]!r} and {twice[1]!r}, which are the same gene without their versions")


def _refuse_ambiguous(name: str, meant: Sequence[str], where: str) -> None:
    if len(set(meant)) > 1:
        raise ParameterError(
            f"gene {name!r} may be {' or '.join(map(repr, dict.fromkeys(meant)))} of {where}: gene_versions='keep' "
            f"tells them apart"
        )
    raise ParameterError(f"gene {name!r} occurs more than once in {where}: choose genes by position")


def _hint(unknown: Sequence[str], names: AnyIndex, matching: Matching, table: Callable[[], pd.DataFrame] | None) -> str:
    """What may have been meant: another version, another column, or a name that is written alike."""
    bare = Matching(versions="drop")
    if matching.versions == "keep":
        others = set(bare.compared(names)) & set(bare.compared(unknown))
        if others:
            return f"; {len(others)} exist with another version, or without one: gene_versions='drop' finds them"
    for column, values in () if table is None else table().items():
        if held := len(set(values.astype(object)) & set(unknown)):
            return f"; the var column {column!r} has {held} of them: genes_from={column!r}"
    near = difflib.get_close_matches(str(unknown[0]), [str(name) for name in names if name is not None], n=_SHOWN)
    return f"; did you mean {', '.join(near)}?" if near else ""


@dataclass(frozen=True)
class FoundGenes(Report, Shown):
    """How many genes of a list the data have.

    >>> print(FoundGenes(3, ("XIST",), "feature_id", (("a.h5ad", 2), ("b.h5ad", 1))))
    2 of 3 genes found by feature_id
    <BLANKLINE>
    missing   XIST
    <BLANKLINE>
    file    found
    a.h5ad      2
    b.h5ad      1

    Parameters
    ----------
    asked
        How many genes were asked for.
    missing
        The names of those that no file has.
    by
        Where they were looked up: ``var_names``, or a column of var.
    files
        Each file with how many of the genes it has, in the order of the files.
    raw
        The same of the genes of ``raw/X``, if that is read beside X.
    """

    asked: int
    missing: tuple[str, ...]
    by: str
    files: tuple[tuple[str, int], ...]
    raw: FoundGenes | None = None

    @property
    def found(self) -> int:
        """How many of the genes at least one file has."""
        return self.asked - len(self.missing)

    @property
    def line(self) -> str:
        """The same in a line."""
        of_raw = "" if self.raw is None else f"; in raw {self.raw.found:,} of {self.raw.asked:,}"
        return f"{self.found:,} of {self.asked:,} genes found by {self.by}{of_raw}"

    def __str__(self) -> str:
        return text_of(self._shown())

    def _shown(self) -> Sequence[Part]:
        several = self.files if len(self.files) > 1 else ()
        apart = () if self.raw is None else (self.raw,)
        missing = [("missing", self.missing), *(("raw lacks", raw.missing) for raw in apart)]
        counts = [[count for _, count in found.files] for found in (self, *apart)]  # by file
        rows = zip((file for file, _ in several), *counts, strict=False)
        return [
            Title(self.line),
            Labelled([(label, brief_named(names)) for label, names in missing if names]),
            Table(
                ["file", "found", *("in raw" for _ in apart)],
                [[file, *(f"{count:,}" for count in of_file)] for file, *of_file in rows],
                numbers=[1, 2][: len(counts)],
            ),
        ]
