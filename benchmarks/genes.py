"""2,000 of 20,000 genes against all of them, from the same file in the same order.

The 2,000 are those in the most cells, as one chooses them for training, or any. ``speed`` is how many times as
fast the subset is, ``speed_any`` the same for any 2,000.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import anndata as ad
import numpy as np

import annpipes as ap
import files
import measuring

KEPT, ROWS = 2_000, 3 * 16_384
CASES = {
    "gzip, CSR": ("gzip", "csr"),
    "gzip, dense": ("gzip", "dense"),
    "uncompressed, CSR": (None, "csr"),
    "uncompressed, dense": (None, "dense"),
}


def measure(case: tuple[str | None, Any], quick: bool) -> dict[str, Any]:
    compression, x = case
    path = files.sparse_file(20_000 if quick else 200_000, compression)
    sample = ad.read_h5ad(files.sparse_file(20_000, compression)).X
    common = np.sort(np.argsort(-np.bincount(sample.indices, minlength=sample.shape[1]))[:KEPT])
    some = np.sort(np.random.default_rng(0).choice(sample.shape[1], KEPT, replace=False))
    rows = None if quick else np.arange(ROWS)
    stream = partial(ap.stream, path, form=x, block_size=64, rows=rows)
    contenders = {
        name: partial(measuring.consume, stream(genes=genes))
        for name, genes in {"all": None, "common": common, "any": some}.items()
    }
    times = measuring.interleaved(contenders, 2 if quick else 7, partial(measuring.warm, path))
    return {
        "file": path.name,
        "cells_per_second": times.rate("common", ROWS),
        "all_genes_cells_per_second": times.rate("all", ROWS),
        "speed": times.speed("common", "all"),
        "speed_spread": times.spread("common", "all"),
        "speed_any": times.speed("any", "all"),
    }


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
