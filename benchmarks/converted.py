"""annbatch's own collection, read by annpipes and by annbatch 0.3, and what decoding its storage chunks costs at best.

The cells of `files.py`, uncompressed, are converted by annbatch with its defaults (Zarr version 3 in shards, Blosc with
LZ4). Both then shuffle runs of so many rows, 16,384 rows at a time, and hand out batches of 256 as CSR; annbatch
decodes with zarrs, as its documentation advises. They take turns, each with a loader that is made once and passed
through before. ``speed`` is how many times as fast annpipes is, ``share_of_decoding`` its reading of 16,384 such rows
as a share of what two threads need that decode the same storage chunks and do nothing else.

Needs Python 3.12 or later, and ``pip install "annbatch==0.3.*" zarrs``.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import annbatch
import numpy as np
import zarr

import annpipes as ap
import files
import measuring
from annpipes.plans.rows import join_ranges
from annpipes.stores import BareReading, Threads, open_store

BATCH, CHUNK, CELLS = 256, 16_384, 200_000

CASES = {"runs of 512": (512, CELLS), "runs of 32": (32, CELLS), "single rows": (1, 2 * CHUNK)}
"""How long runs are, and how many rows a turn reads."""


def collection(quick: bool) -> Path:
    """The collection that annbatch makes of the cells."""
    source = files.sparse_file(20_000 if quick else CELLS, None)
    path = source.with_name(f"{source.stem}-annbatch.zarr")
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        annbatch.DatasetCollection(unfinished).add_adatas([source])
        unfinished.rename(path)
    return path


def loader_of(block: int) -> annbatch.Loader:
    """Annbatch's loader, without data yet."""
    return annbatch.Loader(
        chunk_size=block, preload_nchunks=CHUNK // block, batch_size=BATCH, shuffle=True, preload_to_gpu=False
    )


def by_annbatch(path: Path, block: int) -> Callable[[], Iterator[Any]]:
    return loader_of(block).use_collection(annbatch.DatasetCollection(path, mode="r")).__iter__


def consume(batches: Callable[[], Iterator[Any]], rows: int) -> None:
    for _ in islice(batches(), -(-rows // BATCH)):
        pass


def share_of_decoding(path: Path, block: int, turns: int) -> float:
    store = open_store(next(iter(open_store(path).files)))
    firsts = np.random.default_rng(0).permutation(store.n_obs // block)[: CHUNK // block] * block
    chunk = ap.Chunk.of(join_ranges(firsts, np.full(len(firsts), block)))
    with Threads() as threads:
        (decode,) = (work for work in BareReading(store, [chunk]).works(threads) if work.name == "decode")
        contenders = {
            "read": partial(store.read, chunk, ["X"]),
            "decode": partial(threads.run_chunks, decode.tasks),
        }
        times = measuring.interleaved(contenders, turns, partial(measuring.warm, path))
    return times.speed("read", "decode")


def measure(case: tuple[int, int], quick: bool) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    block, rows = case
    path, turns = collection(quick), 2 if quick else 7
    ours = ap.stream(path, BATCH, form="csr", block_size=block, chunk_size=CHUNK)
    rows = min(rows, ours.n_obs)
    contenders = {
        "annpipes": partial(consume, ours.__iter__, rows),
        "annbatch": partial(consume, by_annbatch(path, block), rows),
    }
    times = measuring.interleaved(contenders, turns, partial(measuring.warm, path))
    return {
        "cells_per_second": times.rate("annpipes", rows),
        "annbatch_cells_per_second": times.rate("annbatch", rows),
        "speed": times.speed("annpipes", "annbatch"),
        "speed_spread": times.spread("annpipes", "annbatch"),
        "share_of_decoding": share_of_decoding(path, block, turns),
    }


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
