"""Peak memory of one epoch above that of the interpreter with everything imported, by file size.

Anonymous memory should be two chunks and 8 bytes a row, whatever the size of the file. Memory mapped
from the file is the page cache seen from this process: the kernel takes it back when it is needed.
Only files that exist are read; ``python benchmarks/files.py --million`` makes the large one.
"""

from __future__ import annotations

from typing import Any

import h5py

import annpipes as ap
import files
import measuring

BATCH, CHUNK, BLOCK = 256, 16_384, 64
SIZES = {
    f"{n_obs:,} rows, {compression or 'uncompressed'}": (n_obs, compression)
    for compression in ("gzip", None)
    for n_obs in (20_000, 200_000, 1_000_000)
}
CASES = {name: size for name, size in SIZES.items() if files.sparse_path(*size).exists()}


def measure(size: tuple[int, str | None], quick: bool) -> dict[str, Any]:
    path = files.sparse_path(*size)
    measuring.warm(path)
    with measuring.PeakMemory() as watched:
        loader = ap.stream(path, BATCH, form="csr", block_size=BLOCK, chunk_size=CHUNK)
        for number, _ in enumerate(loader):
            if quick and number == 3 * CHUNK // BATCH:
                break
    with h5py.File(path) as file:
        row_bytes = file["X/indptr"][-1] / size[0] * (file["X/data"].dtype.itemsize + file["X/indices"].dtype.itemsize)
    return {
        "file": path.name,
        **watched.above(),
        "two_chunks_mb": 2 * CHUNK * float(row_bytes) / 1e6,
        "row_state_mb": 8 * size[0] / 1e6,
    }


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
