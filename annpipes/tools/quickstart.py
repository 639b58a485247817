"""A small cell-type classifier, trained on shuffled batches straight from an .h5ad file.

::

    annpipes quickstart                               # 700 real cells, which ship with scanpy, or made ones without it
    annpipes quickstart FILE --label cell_type        # yours: expression in X, cell types in obs
    annpipes quickstart --program > train.py          # this program, to change it; python train.py FILE --label …
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import chain, islice, repeat
from operator import itemgetter
from pathlib import Path
from shlex import quote

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from annpipes import (
    AnnDataset,
    AnnpipesError,
    Clip,
    Compose,
    IndexSource,
    Loader,
    Log1p,
    NormalizeTotal,
    Transform,
    split,
    stream,
)

__all__ = ["cells_per_second", "main"]

Rows = NDArray[np.int64]  # (n,) positions along obs
Batches = Iterable[tuple[Tensor, Tensor]]  # X (batch, n_vars) float32, class codes (batch,) int64

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MOST_TESTED = 20_000  # cells, of those that are held out
MOST_CLASSES = 200  # of a column that is offered as a label

COUNTS = Compose([NormalizeTotal(1e4), Log1p()])
READY = Clip(high=10)

NEXT = """
Your own training begins like this:

    import annpipes as ap

    train, test = ap.split({file!r}, [0.8, 0.2], stratify={label!r}{labelled})
    loader = ap.stream(
        {file!r},
        batch_size={batch_size},
        rows=train,
        fields=["X", "obs/{label}:code"],
        transform={transform},
        seed=0,
    )
    for batch in loader:  # each pass is the next epoch, in another order
        x, y = batch["X"], batch["obs_{label}"]

This program, to change it:            annpipes quickstart --program > train.py
How the file is stored, and problems:  annpipes inspect {quoted}
What limits its speed here:            annpipes bench {quoted}
A better block and chunk size:         annpipes tune {quoted} --label {quoted_label}"""
NEEDS_CLICK = "The last three need more: pip install 'annpipes[cli]'"


def batches_from_pipe(path: str, rows: Rows, label: str, batch_size: int, transform: Transform) -> Batches:
    """A chain of stages, run by a Loader: a new order in each epoch, the same in each run."""
    pipe = (
        IndexSource(path, rows=rows)
        .shuffle_blocks()
        .sort_within_chunks(chunk_size=4096)
        .read_rows(fields=["X", f"obs/{label}:code"])
        .batch_rows(batch_size)
        .transform(transform)
        .collate_rows()
        .map(itemgetter("X", f"obs_{label}"))
    )
    return Loader(pipe, seed=0)


def batches_from_dataset(path: str, rows: Rows, label: str, batch_size: int, transform: Transform) -> Batches:
    """The same cells through torch's map-style protocol, for code that expects a Dataset."""
    dataset = AnnDataset(path, fields=["X", f"obs/{label}:code"], transform=transform, rows=rows)
    collate, pair = dataset.get_collate_fn(), itemgetter("X", f"obs_{label}")
    return dataset.get_optimized_dataloader(batch_size, collate_fn=lambda items: pair(collate(items)))


def run(path: str, label: str, epochs: int, seconds: float, batch_size: int) -> tuple[Transform, bool]:
    """Train with either kind of batches, and compare with the most frequent class.

    What comes back is the transform that fits X, and whether every cell has a label.
    """
    source = IndexSource(path)
    classes, codes = source.categories(label), read_codes(path, label)
    transform, why = transform_for(path)
    print(f"{source.n_obs:,} cells × {source.n_vars:,} genes in {Path(path).name}; X {why}")
    labelled = np.flatnonzero(codes >= 0)  # code -1 is a missing label
    if without := len(codes) - len(labelled):
        print(f"{without:,} cells have no {label} and are left out")
    training, held_out = split(path, [0.8, 0.2], stratify=label, rows=labelled)
    if not len(training) or not len(held_out):
        raise SystemExit(f"too few cells have a {label}: {len(training)} to train on, {len(held_out)} to hold out")
    majority = int(np.bincount(codes[training]).argmax())
    baseline = np.mean(codes[held_out] == majority)
    print(f"{len(training):,} cells to train on, {len(held_out):,} held out, {len(classes)} classes of {label}")
    print(f"always {str(classes[majority])!r}: accuracy {baseline:.2f}")

    for name, batches_from in {"Loader": batches_from_pipe, "AnnDataset": batches_from_dataset}.items():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(source.n_vars, 128), nn.ReLU(), nn.Linear(128, len(classes))).to(DEVICE)
        batches = batches_from(path, training, label, batch_size, transform)
        done = train(model, batches, epochs, seconds, n_cells=len(training))
        tests = islice(batches_from_pipe(path, held_out, label, batch_size, transform), MOST_TESTED // batch_size + 1)
        right, speed = accuracy(model, tests), cells_per_second(batches)
        print(f"{name}: accuracy {right:.2f} after {done}; reading alone, {speed:,.0f} cells/s")
    return transform, not without


@contextmanager
def one_thread() -> Iterator[None]:
    """A small model is computed by one thread: on a busy machine, several mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def read_codes(path: str, label: str) -> NDArray[np.int64]:
    """The class code of every cell: a pipe that reads one field reads nothing else."""
    pipe = IndexSource(path).sort_within_chunks().read_rows([f"obs/{label}:code"])
    return np.concatenate([batch[f"obs_{label}"] for batch in pipe])


def transform_for(path: str) -> tuple[Transform, str]:
    """What to do with X, judged by its first rows, and why."""
    first = next(iter(stream(path, 256, shuffle=False)))["X"]
    if bool((first < 0).any()):
        return READY, "has negative values, so it is only clipped at 10"
    if not bool((first == first.round()).all()) and float(first.max()) < 20:
        return READY, "looks like logarithms, so it is only clipped at 10"
    return COUNTS, "is normalised to 10,000 per cell, then log1p"


def train(model: nn.Module, batches: Batches, epochs: int, seconds: float, n_cells: int) -> str:
    """How long was trained: until all epochs are done, or time is up."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    began = told = time.perf_counter()
    done, loss = 0, torch.zeros(())
    for x, codes in chain.from_iterable(repeat(batches, epochs)):
        loss = cross_entropy(model(x.to(DEVICE)), codes.to(DEVICE))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        done, now = done + len(x), time.perf_counter()
        if now - told > 5:
            told = now
            print(f"  epoch {done // n_cells + 1}, {done:,} cells, loss {loss.item():.2f}")
        if now - began > seconds:
            break
    if not loss.isfinite():  # an accuracy after this would say nothing
        raise SystemExit("the loss is not a number: `annpipes inspect` shows what is in X")
    short = "" if done >= epochs * n_cells else f" (--seconds {seconds:g} ended it)"
    count = f"{done / n_cells:.3g} epoch{'' if done == n_cells else 's'}"
    return f"{count} in {time.perf_counter() - began:.1f} s{short}"


@torch.no_grad()
def accuracy(model: nn.Module, batches: Batches) -> float:
    """The share of cells whose class the model tells."""
    right = [model(x.to(DEVICE)).argmax(dim=1).cpu() == codes for x, codes in batches]
    return torch.cat(right).float().mean().item()


def cells_per_second(batches: Batches, seconds: float = 2.0) -> float:
    """How fast batches come once they flow: what comes in the first third of the time is not counted."""
    began, since, cells = time.perf_counter(), None, 0
    for x, _ in chain.from_iterable(repeat(batches)):  # epoch after epoch
        now = time.perf_counter()
        if since is not None:
            cells += len(x)
            if now - began > seconds:
                return cells / (now - since)
        elif now - began > seconds / 3:
            since = now
    raise AssertionError("epochs do not end")


def labels_of(source: IndexSource) -> Iterator[str]:
    """Columns of obs that could be told apart by a classifier."""
    for field in source.fields:
        if field.startswith("obs/"):
            try:
                count = len(source.categories(field.removeprefix("obs/")))
            except AnnpipesError:  # numbers with fractions
                continue
            if 2 <= count <= MOST_CLASSES:
                yield f"{field.removeprefix('obs/')} ({count})"


def example_file(folder: str) -> tuple[str, str]:
    """A file to try, and the column to predict: real cells if scanpy is here, which ships them, or made ones."""
    try:
        import scanpy
    except ModuleNotFoundError:
        print("20,000 simulated cells, because scanpy, which has real ones, is not installed")
        return made_cells(str(Path(folder) / "made.h5ad")), "cell_type"
    adata = scanpy.datasets.pbmc68k_reduced()
    adata.X = adata.raw.X.expm1()  # raw.X is their logarithm, X what is left after scaling
    adata.write_h5ad(Path(folder) / "pbmc68k_reduced.h5ad")
    return str(Path(folder) / "pbmc68k_reduced.h5ad"), "bulk_labels"


def made_cells(path: str, n_obs: int = 20_000, n_vars: int = 2_000, n_types: int = 8) -> str:
    """The path of counts of cells of a few types, each of which has its own genes, as anndata writes them."""
    import anndata
    from scipy import sparse

    random = np.random.default_rng(0)
    rates = random.gamma(0.05, 2.0, (n_types, n_vars))  # most genes are silent
    types = random.integers(n_types, size=n_obs)
    parts = [sparse.csr_matrix(random.poisson(rates[some]).astype(np.float32)) for some in np.array_split(types, 20)]
    adata = anndata.AnnData(sparse.vstack(parts, format="csr"))
    adata.obs["cell_type"] = [f"type {number}" for number in types]
    adata.write_h5ad(path, compression="gzip")
    return path


def say_what_comes_next(file: str, label: str, batch_size: int, transform: Transform, complete: bool) -> None:
    """The first lines of a program that goes on, and commands."""
    told = "[ap.NormalizeTotal(1e4), ap.Log1p()]" if transform is COUNTS else f"ap.{transform!r}"
    labelled = "" if complete else f", rows={f'`{label}`.notna()'!r}"
    quoted = {"quoted": quote(file), "quoted_label": quote(label)}
    print(NEXT.format(file=file, label=label, batch_size=batch_size, transform=told, labelled=labelled, **quoted))
    if find_spec("click") is None:
        print(NEEDS_CLICK)


def main(arguments: Sequence[str], prog: str | None = None) -> int:
    """Run it; the exit code is 2 if the call is wrong."""
    parser = argparse.ArgumentParser(prog=prog, description="Train a small cell-type classifier from an .h5ad file.")
    parser.add_argument("file", nargs="?", help="an .h5ad file or Zarr store (default: example cells)")
    parser.add_argument("--label", help="the obs column to predict")
    parser.add_argument("--epochs", type=int, default=10, help="(default: 10)")
    parser.add_argument("--seconds", type=float, default=60, help="most time for each of two trainings (default: 60)")
    parser.add_argument("--batch-size", type=int, default=64, help="(default: 64)")
    parser.add_argument("--program", action="store_true", help="print this program, and do nothing else")
    options = parser.parse_args(arguments)
    if options.program:
        print(Path(__file__).read_text(), end="")
        return 0
    try:
        with tempfile.TemporaryDirectory() as folder, one_thread():
            file, label = (options.file, options.label) if options.file else example_file(folder)
            if label is None:
                columns = ", ".join(labels_of(IndexSource(file))) or "none that is suitable"
                parser.error(f"say which obs column to predict: --label COLUMN; with how many labels each: {columns}")
            transform, complete = run(file, label, options.epochs, options.seconds, options.batch_size)
        if options.file is None:
            print("\nThe same with your own file: annpipes quickstart my.h5ad --label cell_type")
            file, label = "my.h5ad", "cell_type"
        say_what_comes_next(file, label, options.batch_size, transform, complete)
    except AnnpipesError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
