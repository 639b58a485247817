"""What it costs to keep writers out of a read and to compare the file's stamp after it.

The same rows of an uncompressed file, once as annpipes reads them and once without the block in which it does both.
``speed`` is how many times as fast the guarded reading is: 1 where it costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

import annpipes as ap
import files
import measuring
from annpipes.stores.bytes.local import LocalFile

ROWS, SINGLES = 3 * 16_384, 2_000
CASES = {"single random rows in chunks of 16,384": "chunks", "a row at a time, by AnnDataset": "one"}


def measure(case: str, quick: bool) -> dict[str, Any]:
    path = files.sparse_file(20_000 if quick else 100_000, None)
    rows = np.random.default_rng(0).integers(0, 20_000, SINGLES)
    if case == "one":
        dataset = ap.AnnDataset(path, fields=["X"])
        read, count = partial(_one_by_one, dataset, rows), SINGLES
    else:
        read = partial(
            measuring.consume, ap.stream(path, form="csr", block_size=1, rows=None if quick else np.arange(ROWS))
        )
        count = ROWS
    contenders = {"guarded": partial(_with, nullcontext, read), "bare": partial(_with, _without_guard, read)}
    times = measuring.interleaved(contenders, 2 if quick else 11, partial(measuring.warm, path))
    return {
        "file": path.name,
        "cells_per_second": times.rate("guarded", count),
        "bare_cells_per_second": times.rate("bare", count),
        "speed": times.speed("guarded", "bare"),
        "speed_spread": times.spread("guarded", "bare"),
    }


def _one_by_one(dataset: ap.AnnDataset, rows: Any) -> None:
    for row in rows.tolist():
        dataset[row]


def _with(block: Callable[[], AbstractContextManager[Any]], read: Callable[[], Any]) -> None:
    with block():
        read()


def _without_guard() -> AbstractContextManager[Any]:
    return mock.patch.object(LocalFile, "steady", _nothing)


def _nothing(file: LocalFile) -> AbstractContextManager[None]:
    return nullcontext()


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
