"""Train a small cell-type classifier on shuffled batches, straight from an .h5ad file.

::

    python examples/quickstart.py                           # 700 real cells, which ship with scanpy
    python examples/quickstart.py FILE --label cell_type    # yours: counts in X, cell types in obs
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from annpipes import AnnDataset, Compose, IndexSource, Loader, Log1p, NormalizeTotal, split

LOGNORM = Compose([NormalizeTotal(1e4), Log1p()])

Rows = NDArray[np.int64]  # (n,) positions along obs
Batches = Iterable[tuple[Tensor, Tensor]]  # X (batch, n_vars) float32, class codes (batch,) int64


def batches_from_pipe(path: str, rows: Rows, label: str, batch_size: int) -> Batches:
    """A chain of stages, run by a Loader: a new order in each epoch, the same in each run."""
    pipe = (
        IndexSource(path, rows=rows)
        .shuffle_blocks()
        .sort_within_chunks(chunk_size=4096)
        .read_rows(fields=["X", f"obs/{label}:code"])
        .batch_rows(batch_size)
        .transform(LOGNORM)
        .collate_rows()
        .map(itemgetter("X", f"obs_{label}"))
    )
    return Loader(pipe, seed=0)


def batches_from_dataset(path: str, rows: Rows, label: str, batch_size: int, classes: Sequence[str]) -> Batches:
    """The same cells through torch's map-style protocol, for code that expects a Dataset."""
    dataset = AnnDataset(path, transform=LOGNORM, obs_subset=rows)
    collate = dataset.get_collate_fn()

    def collate_pair(items: list[dict]) -> tuple[Tensor, Tensor]:
        batch = collate(items)
        return batch["X"], torch.tensor([classes.index(name) for name in batch[f"obs_{label}"]])

    return dataset.get_optimized_dataloader(batch_size, collate_fn=collate_pair)


def main(path: str, label: str, epochs: int, batch_size: int) -> None:
    """Train with either kind of batches and compare with the most frequent class."""
    store = IndexSource(path).store
    classes = store.categories(label)
    codes = read_codes(path, label)
    parts = split(path, [0.8, 0.2], stratify=label)
    training, held_out = (rows[codes[rows] >= 0] for rows in parts)  # code -1 is a missing label
    majority = np.bincount(codes[training]).argmax()
    baseline = np.mean(codes[held_out] == majority)
    print(f"{len(training):,} cells to train on, {len(held_out):,} held out, {len(classes)} classes of {label}")
    print(f"always {classes[majority]!r}: accuracy {baseline:.2f}")

    tests = batches_from_pipe(path, held_out, label, batch_size)
    for name, batches in {
        "Loader": batches_from_pipe(path, training, label, batch_size),
        "AnnDataset": batches_from_dataset(path, training, label, batch_size, classes),
    }.items():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(store.n_vars, 128), nn.ReLU(), nn.Linear(128, len(classes)))
        cells_per_second = train(model, batches, epochs, n_cells=len(training))
        print(f"{name}: accuracy {accuracy(model, tests):.2f}, {cells_per_second:,.0f} cells/s in the last epoch")


def read_codes(path: str, label: str) -> NDArray[np.int64]:
    """The class code of every cell: a pipe that reads one field reads nothing else."""
    pipe = IndexSource(path).sort_within_chunks().read_rows([f"obs/{label}:code"])
    return np.concatenate([batch[f"obs_{label}"] for batch in pipe])


def train(model: nn.Module, batches: Batches, epochs: int, n_cells: int) -> float:
    """Cells per second in the last epoch, the model's own work included."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with tqdm(total=epochs * n_cells, unit=" cells") as progress:
        for epoch in range(epochs):
            began = time.perf_counter()
            for x, codes in batches:
                loss = cross_entropy(model(x), codes)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                progress.update(len(x))
            if not loss.isfinite():  # an accuracy after this would say nothing
                raise SystemExit("the loss is no number: is X scaled data? log1p needs counts; see `annpipes inspect`")
            seconds = time.perf_counter() - began
            progress.set_description(f"epoch {epoch + 1}, loss {loss.item():.2f}")
    return n_cells / seconds


@torch.no_grad()
def accuracy(model: nn.Module, batches: Batches) -> float:
    """The share of cells whose class the model tells."""
    return torch.cat([model(x).argmax(dim=1) == codes for x, codes in batches]).float().mean().item()


def write_pbmc(folder: str) -> str:
    """The path of 700 peripheral blood cells, X holding normalised counts."""
    import scanpy

    adata = scanpy.datasets.pbmc68k_reduced()
    adata.X = adata.raw.X.expm1()  # raw.X is their logarithm, X what is left after scaling
    path = Path(folder) / "pbmc68k_reduced.h5ad"
    adata.write_h5ad(path)
    return str(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a small cell-type classifier from an .h5ad file.")
    parser.add_argument("file", nargs="?", help="an .h5ad with counts in X (default: 700 cells that ship with scanpy)")
    parser.add_argument("--label", default="bulk_labels", help="the obs column to predict")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        main(options.file or write_pbmc(folder), options.label, options.epochs, options.batch_size)
