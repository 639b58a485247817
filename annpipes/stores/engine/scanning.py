"""The numbers of a dataset looked at, row by row, in compiled loops."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from annpipes.plans.rows import RowArray
from annpipes.stores.compiled.kernels import Offsets
from annpipes.stores.engine.pools import Work, run, thread_count
from annpipes.stores.engine.targets import as_words, word_limit

__all__ = ["INFINITE", "NAN", "OUTSIDE", "TWICE", "UNSORTED", "flags_of_columns", "flags_of_values"]

Flags = NDArray[np.uint8]

OUTSIDE, UNSORTED, TWICE = 1, 2, 4
NAN, INFINITE = 1, 2

_MARKS = 1 << 27  # a wider matrix is no matrix of genes, and marks for each column would not fit
_PARTS = 4  # for each thread


def flags_of_columns(indices: NDArray[Any], indptr: RowArray, width: int) -> Flags:
    """For each row of CSR ``indices`` a sum of `OUTSIDE`, `UNSORTED` and `TWICE`; shape ``(n,)``.

    >>> flags_of_columns(np.array([0, 2, 2, 1, 5, 3, 3]), np.array([0, 2, 4, 5, 7]), 5).tolist()
    [0, 2, 1, 4]
    """
    words, limit = as_words(indices, width), word_limit(indices, width)
    marks = limit if limit <= _MARKS else 0

    def look(start: int, stop: int, flags: Flags) -> None:
        _flag_columns(words, indptr, start, stop, limit, np.zeros(marks, np.int64), flags)

    return _flagged(look, indptr)


def flags_of_values(values: NDArray[Any], indptr: RowArray) -> Flags:
    """For each row of floating-point ``values`` a sum of `NAN` and `INFINITE`; shape ``(n,)``.

    >>> flags_of_values(np.array([0.5, np.nan, np.inf, -np.inf, np.nan]), np.array([0, 1, 2, 3, 5])).tolist()
    [0, 1, 2, 3]
    """
    words, info = as_words(values, 0), np.finfo(values.dtype)
    mantissa = words.dtype.type((1 << info.nmant) - 1)
    exponent = words.dtype.type(((1 << info.nexp) - 1) << info.nmant)  # all ones: infinite, or NaN (IEEE 754, 3.4)

    def look(start: int, stop: int, flags: Flags) -> None:
        _flag_values(words, indptr, start, stop, exponent, mantissa, flags)

    return _flagged(look, indptr)


def _flagged(look: Callable[[int, int, Flags], None], indptr: RowArray) -> Flags:
    """What ``look`` flags, rows dealt out to threads."""
    flags = np.zeros(len(indptr) - 1, np.uint8)
    parts = min(max(1, len(flags)), _PARTS * thread_count())
    edges = np.linspace(0, len(flags), parts + 1).astype(int).tolist()
    run(Work([partial(look, *edge, flags) for edge in pairwise(edges)]))
    return flags


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _flag_columns(
    words: NDArray[Any], indptr: Offsets, start: int, stop: int, limit: int, marks: Offsets, flags: Flags
) -> None:
    for i in range(start, stop):
        row = words[indptr[i] : indptr[i + 1]]
        outside = not_rising = falling = False
        for j in range(len(row)):
            outside |= row[j] >= limit
        for j in range(1, len(row)):
            not_rising |= row[j] <= row[j - 1]
            falling |= row[j] < row[j - 1]
        twice = not_rising and not falling
        if falling and not outside and len(marks):
            for j in range(len(row)):
                twice |= marks[row[j]] == i + 1
                marks[row[j]] = i + 1
        flags[i] = 1 * outside + 2 * falling + 4 * twice


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _flag_values(
    words: NDArray[Any], indptr: Offsets, start: int, stop: int, exponent: Any, mantissa: Any, flags: Flags
) -> None:
    for i in range(start, stop):
        row = words[indptr[i] : indptr[i + 1]]
        special = nan = False
        for j in range(len(row)):
            special |= (row[j] & exponent) == exponent
        if special:
            infinite = False
            for j in range(len(row)):
                if (row[j] & exponent) == exponent:
                    if row[j] & mantissa:
                        nan = True
                    else:
                        infinite = True
            flags[i] = 1 * nan + 2 * infinite
