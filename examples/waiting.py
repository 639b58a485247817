"""Find out why a training loop waits for data, and what helps; the guide's page "Why is my GPU waiting?" explains it.

::

    python examples/waiting.py                                  # 700 real cells, which ship with scanpy
    python examples/waiting.py FILE --label cell_type --pictures FOLDER

The training step is simulated by a pause, in which the processor has nothing to do, as when a GPU computes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from cells import write_pbmc

import annpipes as ap
from annpipes.plotting import Recorder, plot_coverage, plot_mixing, plot_throughput, plot_tuning

BATCH = 256


def main(path: str, label: str, pictures: Path, step: float, seconds: float, tuning_seconds: float) -> None:
    """Measure the file as it is, and a shuffled copy; print what was found and draw it."""
    with tempfile.TemporaryDirectory(dir=pictures) as folder:
        copy = str(Path(folder) / "shuffled.h5ad")
        print(ap.rewrite_shuffled(path, copy), end="\n\n")
        plot_throughput(measure(path, copy, label, step, seconds), save=pictures / "throughput.png")

    advised = ap.IndexSource(path).plan.block_size
    loaders = {f"blocks of {size:,}": ap.stream(path, BATCH, block_size=size) for size in sorted({1, advised, 4096})}
    for name, loader in loaders.items():
        print(f"{name}: {ap.mixing_of(loader, label)}")
    plot_mixing(loaders, label, save=pictures / "mixing.png")
    plot_coverage(loaders[f"blocks of {advised:,}"], save=pictures / "coverage.png")

    tuning = ap.tune(path, label, batch_size=BATCH, seconds=tuning_seconds)
    print(f"\n{tuning}")
    plot_tuning(tuning, save=pictures / "tuning.png")


def measure(path: str, copy: str, label: str, step: float, seconds: float) -> dict[str, Recorder]:
    """When the batches of each loader came, for one pass over each."""
    fields = ["X", f"obs/{label}:code"]
    loaders = {
        "single rows": (path, ap.stream(path, BATCH, fields=fields, block_size=1)),
        "blocks": (path, ap.stream(path, BATCH, fields=fields)),
        "blocks, CSR": (path, ap.stream(path, BATCH, fields=fields, form="csr")),
        "shuffled copy, CSR": (copy, ap.stream(copy, BATCH, fields=fields, form="csr")),
    }
    recorders = {}
    for name, (file, loader) in loaders.items():
        next(iter(loader))  # compiles, opens files
        loader.set_epoch(0)
        read_whole(file)  # a file that fits into memory is there in all epochs but the first
        recorders[name] = train(loader, step, seconds)
        print(f"{name}: {loader.stats()}", end="\n\n")
    return recorders


def train(loader: ap.Loader, step: float, seconds: float) -> Recorder:
    """A pass that does nothing for ``step`` seconds with each batch, and ends after ``seconds`` at the latest."""
    recorder = Recorder(loader)
    end = time.perf_counter() + seconds
    for _ in recorder:
        time.sleep(step)
        if time.perf_counter() > end:
            break
    return recorder


def read_whole(path: str) -> None:
    """Have a file in the page cache."""
    with open(path, "rb") as file:
        while file.read(1 << 24):
            pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Find out why a training loop waits for data, and what helps.")
    parser.add_argument("file", nargs="?", help="an .h5ad file (default: 700 cells that ship with scanpy)")
    parser.add_argument("--label", default="bulk_labels", help="the obs column whose labels shall be mixed")
    parser.add_argument("--pictures", type=Path, help="the folder to draw into (default: a temporary one)")
    parser.add_argument("--step", type=float, default=0.001, help="seconds of a training step")
    parser.add_argument("--seconds", type=float, default=8, help="the longest pass")
    parser.add_argument("--tuning-seconds", type=float, default=60, help="how long `tune` measures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        main(
            options.file or write_pbmc(folder),
            options.label,
            options.pictures or Path(folder),
            options.step,
            options.seconds,
            options.tuning_seconds,
        )
