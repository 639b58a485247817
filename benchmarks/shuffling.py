"""What a rewrite by `annpipes.shuffle` costs and brings, on the gzip file.

Turns of: the rewrite, an epoch of the input in the blocks that it advises, and one of the result in those that it
advises. ``write_ratio`` is rows rewritten for each row read from the input in the same time (bar 0.5), ``read_ratio``
cells/s of the result over those of the input (bar 2), ``size`` the result's bytes over the input's (bar 1.3).
``max_rss_mb`` is the most memory of this process; it should stay below the budget in the case's name.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import annpipes as ap
import files
import measuring

BATCH = 256
CASES = {
    "lz4, 4GB": {"codec": "lz4", "memory": "4GB"},
    "lz4, 1GB": {"codec": "lz4", "memory": "1GB"},
    "lz4, uint16 values": {"codec": "lz4", "dtype": "uint16"},
    "zstd, 4GB": {"codec": "zstd", "memory": "4GB"},
    "gzip, 4GB": {"codec": "gzip", "memory": "4GB"},
    "none, 4GB": {"codec": "none", "memory": "4GB"},
}


def read(path: Path) -> int:
    return measuring.consume(ap.stream(path, BATCH, form="csr"))


def measure(case: dict[str, str], quick: bool) -> dict[str, Any]:
    n_obs, turns = (20_000, 2) if quick else (200_000, 5)
    source, output = files.sparse_file(n_obs, "gzip"), files.CACHE / f"shuffled-{'-'.join(case.values())}.h5ad"
    rewrite = partial(ap.rewrite_shuffled, source, output, **case, overwrite=True)
    contenders = {"rewrite": rewrite, "input": partial(read, source), "result": partial(read, output)}
    times = measuring.interleaved(contenders, turns, partial(measuring.warm, source))
    return {
        "rows_per_s": times.rate("rewrite", n_obs),
        "input_cells_per_second": times.rate("input", n_obs),
        "result_cells_per_second": times.rate("result", n_obs),
        "write_ratio": times.speed("rewrite", "input"),
        "write_ratio_spread": times.spread("rewrite", "input"),
        "read_ratio": times.speed("result", "input"),
        "read_ratio_spread": times.spread("result", "input"),
        "size": output.stat().st_size / source.stat().st_size,
        **measuring.memory(),
    }


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
