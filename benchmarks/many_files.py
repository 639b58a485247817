"""Ten files as one collection against one file with the same cells.

Both shuffle all cells together and deliver the same numbers as CSR; they take turns. ``ratio`` is the speed of ten
files as a share of the one's. ``other genes`` are files with their genes in different orders, whose columns are
renumbered while reading.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import annpipes as ap
import files
import measuring

CASES = {
    "gzip, blocks of 64": ("gzip", 64, False),
    "uncompressed, blocks of 64": (None, 64, False),
    "uncompressed, random rows": (None, 1, False),
    "uncompressed, blocks of 64, other genes": (None, 64, True),
}


def measure(case: tuple[str | None, int, bool], quick: bool) -> dict[str, Any]:
    compression, block, permuted = case
    one, ten = files.sparse_file(200_000, compression), files.parted_files(compression, permuted=permuted)
    stream = partial(ap.stream, form="csr", block_size=block)
    contenders = {
        "one": partial(measuring.consume, stream(one)),
        "ten": partial(measuring.consume, stream(ten)),
    }

    def before() -> None:
        for path in (one, *ten):
            measuring.warm(path)

    times = measuring.interleaved(contenders, 2 if quick else 7, before)
    return {
        "files": f"{one.name}, {ten[0].name} …",
        "cells_per_second": times.rate("ten", 200_000),
        "one_file_cells_per_second": times.rate("one", 200_000),
        "ratio": times.speed("ten", "one"),
        "ratio_spread": times.spread("ten", "one"),
    }


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
