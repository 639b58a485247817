"""Epochs through a cache of decoded storage chunks, against the same without one and an uncompressed file.

``first`` is how many times as fast the epoch is that fills an empty cache, ``later`` a later one, ``found`` the first
epoch of another process, which compares checksums, ``half`` a later one with half of the room: all against no cache.
``beside_plain`` is a later one against the uncompressed file. ``first_at_most`` is what ``first`` could be if filling
the cache cost nothing but to write as many bytes in as large pieces, shared evenly by cores that are all busy. What was
written is brought to the disk between turns.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import annpipes as ap
import files
import measuring
from annpipes.stores import bytes_of, kept_in

ROWS = 200_000
CASES = {"blocks of 64": 64, "single rows": 1}


def write(path: Path, n_bytes: int, piece: int) -> None:
    """So many bytes written to a new file."""
    content = memoryview(np.random.default_rng(0).bytes(piece))
    with open(path, "wb") as file:
        for place in range(0, n_bytes, piece):
            os.pwrite(file.fileno(), content, place)


def compare(path: Path, plain: Path, block_size: int, turns: int, **options: Any) -> dict[str, Any]:
    stream = partial(ap.stream, form="csr", block_size=block_size, **options)
    folders = Path(tempfile.mkdtemp(dir=files.CACHE))
    try:
        later = stream(path, cache=ap.Cache(str(folders / "all"), "1TB"))
        measuring.consume(later)
        present = list(kept_in(str(folders / "all")))
        n_bytes, piece = sum(kept.n_bytes for kept in present), max(kept.n_bytes // kept.present for kept in present)
        whole = sum(kept.storage_chunks * kept.n_bytes // kept.present for kept in present)
        half = stream(path, cache=ap.Cache(str(folders / "half"), size=whole // 2))
        none, uncompressed = stream(path), stream(plain)
        shutil.copytree(folders / "all", folders / "found")
        measuring.consume(half)

        def before() -> None:
            shutil.rmtree(folders / "first", ignore_errors=True)
            (folders / "written").unlink(missing_ok=True)
            os.sync()
            for one in (path, plain):
                measuring.warm(one)

        contenders = {
            "none": lambda: measuring.consume(none),
            "first": lambda: measuring.consume(stream(path, cache=ap.Cache(str(folders / "first"), "1TB"))),
            "found": lambda: measuring.consume(stream(path, cache=ap.Cache(str(folders / "found"), "1TB"))),
            "later": lambda: measuring.consume(later),
            "half": lambda: measuring.consume(half),
            "written": partial(write, folders / "written", n_bytes, piece),
            "plain": lambda: measuring.consume(uncompressed),
        }
        times = measuring.interleaved(contenders, turns, before)
    finally:
        shutil.rmtree(folders)
    against = {name: times.speed(name, "none") for name in ("first", "found", "later", "half")}
    spreads = {f"{name}_spread": times.spread(name, "none") for name in against}
    seconds = {name: times.rate(name, 1) ** -1 for name in contenders}
    return {
        **against,
        **spreads,
        "beside_plain": times.speed("later", "plain"),
        "beside_plain_spread": times.spread("later", "plain"),
        "first_at_most": seconds["none"] / (seconds["none"] + seconds["written"] / measuring.THREADS),
        "seconds": seconds,
        "file_bytes": bytes_of(path),
        "cache_bytes": whole,
    }


def measure(block_size: int, quick: bool) -> dict[str, Any]:
    n_obs = 20_000 if quick else ROWS
    path, plain = files.sparse_file(n_obs, "gzip"), files.sparse_file(n_obs, None)
    rows = None
    if block_size == 1 and not quick:  # a chunk of rows from all of the file: an epoch of them would take minutes
        rows = np.sort(np.random.default_rng(0).choice(n_obs, 16_384, replace=False))
    return {"file": path.name, **compare(path, plain, block_size, 1 if quick else 5, rows=rows)}


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
