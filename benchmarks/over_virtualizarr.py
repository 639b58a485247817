"""The same ``.h5ad`` file read by annpipes and, through VirtualiZarr, by annbatch 0.3.

VirtualiZarr shows the storage chunks of an HDF5 file to zarr, so that annbatch can read it without a conversion; the
table of storage chunks is made once, and not counted. Both then shuffle runs of so many rows, 16,384 rows at a time,
and hand out batches of 256 as CSR. They take turns, each with a loader that is made once and passed through before;
annbatch decodes with zarrs and without, in turns of its own, as both can be the faster one. ``speed`` is how many times
as fast annpipes is as the faster of the two.

Needs Python 3.12 or later, and ``pip install "annbatch==0.3.*" zarrs virtualizarr obspec_utils``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anndata
import zarr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore
from virtualizarr.parsers import HDFParser

import annpipes as ap
import files
import measuring
from converted import BATCH, CELLS, CHUNK, consume, loader_of

PIPELINES = {
    "zarr": "zarr.core.codec_pipeline.BatchedCodecPipeline",
    "zarrs": "zarrs.ZarrsCodecPipeline",
}
CASES = {
    "gzip, runs of 64": ("gzip", 64, CELLS),
    "gzip, single rows": ("gzip", 1, CHUNK),
    "uncompressed, runs of 64": (None, 64, CELLS),
    "uncompressed, single rows": (None, 1, CHUNK),
}
"""How the file is compressed, how long runs are, and how many rows a turn reads."""


def by_annbatch(path: Path, block: int) -> Callable[[], Iterator[Any]]:
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    shown = zarr.open_group(HDFParser(group="X")(url=f"file://{path}", registry=registry), mode="r")
    loader = loader_of(block)
    loader.add_dataset(anndata.io.sparse_dataset(shown))
    return loader.__iter__


def through(pipeline: str, batches: Callable[[], Iterator[Any]], rows: int) -> None:
    zarr.config.set({"codec_pipeline.path": pipeline})
    consume(batches, rows)


def measure(case: tuple[str | None, int, int], quick: bool) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    codec, block, rows = case
    path, turns = files.sparse_file(20_000 if quick else CELLS, codec), 1 if quick else 5 if block > 1 else 2
    ours = ap.stream(path, BATCH, form="csr", block_size=block, chunk_size=CHUNK)
    rows = min(rows, ours.n_obs)
    contenders = {"annpipes": partial(consume, ours.__iter__, rows)}
    for name, pipeline in PIPELINES.items():
        zarr.config.set({"codec_pipeline.path": pipeline})
        contenders[name] = partial(through, pipeline, by_annbatch(path, block), rows)
    times = measuring.interleaved(contenders, turns, partial(measuring.warm, path))
    faster = max(PIPELINES, key=lambda name: times.rate(name, rows))
    return {
        "cells_per_second": times.rate("annpipes", rows),
        **{f"annbatch_by_{name}": times.rate(name, rows) for name in PIPELINES},
        "speed": times.speed("annpipes", faster),
        "speed_spread": times.spread("annpipes", faster),
    }


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
