"""A stage and a transform of your own, between those of annpipes.

::

    python examples/own_stage.py
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scanpy
import torch
from torch import Tensor
from torch.utils.data import IterDataPipe, functional_datapipe

from annpipes import Batch, IndexSource, Loader, SparseRows, Transform


@functional_datapipe("add_totals")
class TotalAdder(IterDataPipe):
    """Batches with one more field, ``total``: the sum of each cell's X before any transform."""

    def __init__(self, source_datapipe: IterDataPipe) -> None:
        self.source_datapipe = source_datapipe

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.source_datapipe:
            x = batch["X"]
            dense = x.to_dense() if isinstance(x, SparseRows) else x
            yield batch.replace(total=dense.sum(axis=1))  # (batch,)


class FreemanTukey(Transform):
    """``√x + √(x + 1) - 1``, which evens out the variance of counts and leaves 0 at 0 (Freeman and Tukey, 1950)."""

    batched = True  # it treats all rows alike, so it may be given many at once

    def __call__(self, x: Tensor) -> Tensor:
        return torch.sqrt(x) + torch.sqrt(x + 1) - 1

    def on_sparse(self, rows: SparseRows) -> SparseRows:
        return rows.with_data(np.sqrt(rows.data) + np.sqrt(rows.data + 1) - 1)


def main() -> None:
    """Print the first batch of each of two epochs."""
    adata = scanpy.datasets.pbmc68k_reduced()
    adata.X = adata.raw.X.expm1()  # counts, normalised; raw.X is their logarithm

    pipe = (
        IndexSource(adata, block_size=16)
        .shuffle_blocks()
        .sort_within_chunks(chunk_size=256)
        .read_rows(["X", "obs/bulk_labels"])
        .add_totals()  # anywhere between read_rows and collate_rows
        .batch_rows(64)
        .transform(FreemanTukey())
        .collate_rows()
    )
    loader = Loader(pipe, seed=0)
    for epoch in range(2):
        batch = next(iter(loader))
        x, total, names = batch["X"], batch["total"], batch["obs_bulk_labels"]
        print(f"epoch {epoch}: X {tuple(x.shape)} up to {x.max():.1f}, totals {total.min():.0f} to {total.max():.0f}")
        print(f"         {', '.join(names[:3])} …")


if __name__ == "__main__":
    main()
