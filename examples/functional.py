"""The same pipe from functions: stages and transforms composed with toolz.

::

    python examples/functional.py
"""

from __future__ import annotations

from functools import partial
from typing import Any

import scanpy
from toolz import compose_left, keymap, pipe, valfilter
from torch import is_tensor

from annpipes import (
    BlockShuffler,
    ChunkSorter,
    Clip,
    Collator,
    Compose,
    IndexSource,
    Loader,
    Log1p,
    RowBatcher,
    RowReader,
    RowTransformer,
)

# The plan side: numbers only.
plan = compose_left(
    partial(IndexSource, block_size=16),
    BlockShuffler,
    partial(ChunkSorter, chunk_size=256),
)

# The data side: bytes to tensors.
batches = compose_left(
    partial(RowReader, fields=["X", "obs/bulk_labels", "obs/n_genes"]),
    partial(RowBatcher, batch_size=64),
    partial(RowTransformer, transform=Compose([Log1p(), Clip(high=3)])),
    Collator,
)

# A batch is a dict by now, and toolz has functions for dicts.
tensors_only: Any = compose_left(
    partial(valfilter, is_tensor),
    partial(keymap, lambda key: key.removeprefix("obs_")),
)


def main() -> None:
    """Print the fields of the first batch, and that the chained form is the same pipe."""
    adata = scanpy.datasets.pbmc68k_reduced()
    adata.X = adata.raw.X.expm1()  # counts, normalised; raw.X is their logarithm

    loader = pipe(adata, plan, batches, lambda stages: stages.map(tensors_only), partial(Loader, seed=0))
    for key, values in next(iter(loader)).items():
        print(f"{key}: {tuple(values.shape)} {values.dtype}")

    chained = (
        IndexSource(adata, block_size=16)
        .shuffle_blocks()
        .sort_within_chunks(chunk_size=256)
        .read_rows(["X", "obs/bulk_labels", "obs/n_genes"])
        .batch_rows(64)
        .transform(Compose([Log1p(), Clip(high=3)]))
        .collate_rows()
    )
    print("chained gives the same pipe:", repr(chained) == repr(pipe(adata, plan, batches)))


if __name__ == "__main__":
    main()
