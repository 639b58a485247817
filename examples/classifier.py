"""Cell types from counts: a split, balanced classes, and a checkpoint from which a killed run continues exactly.

::

    python examples/classifier.py                          # 700 real cells; killed after 20 batches, and run again
    python examples/classifier.py FILE --label cell_type   # yours: counts in X
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from cells import write_pbmc
from torch import nn
from torch.nn.functional import cross_entropy

import annpipes as ap


def main(path: str, label: str, checkpoint: Path, epochs: int, kill_after: int | None) -> None:
    """Train, save after every batch, and go on where a run before was killed."""
    training, held_out = ap.split(path, [0.8, 0.2], stratify=label)
    common = {"fields": ["X", f"obs/{label}:code"], "transform": [ap.NormalizeTotal(), ap.Log1p()]}
    loader = ap.stream(path, 64, rows=training, balance=label, seed=0, **common)
    model = nn.Sequential(nn.Linear(loader.n_vars, 64), nn.ReLU(), nn.Linear(64, len(loader.categories(label))))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        loader.load_state_dict(saved["loader"])
        print(f"goes on in epoch {loader.epoch}, after batch {saved['loader']['batch']}")
    while loader.epoch < epochs:
        for batch in loader:
            loss = cross_entropy(model(batch["X"]), batch[f"obs_{label}"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            state = {"model": model, "optimizer": optimizer, "loader": loader}
            torch.save({name: part.state_dict() for name, part in state.items()}, f"{checkpoint}.new")
            os.replace(f"{checkpoint}.new", checkpoint)  # a kill leaves the one before
            if kill_after is not None and (kill_after := kill_after - 1) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    right = [model(test["X"]).argmax(1) == test[f"obs_{label}"] for test in ap.stream(path, rows=held_out, **common)]
    print(f"accuracy on {len(held_out)} held-out cells: {torch.cat(right).float().mean():.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a classifier that survives a kill.")
    parser.add_argument("file", nargs="?", help="an .h5ad with counts in X (default: 700 cells that ship with scanpy)")
    parser.add_argument("--label", default="bulk_labels", help="the obs column to predict")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--checkpoint", type=Path, help="where the state is kept (default: a temporary folder)")
    parser.add_argument("--kill-after", type=int, help="batches after which the run kills itself")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file, checkpoint = given.file or write_pbmc(folder), given.checkpoint or Path(folder) / "checkpoint.pt"
        if given.file is None:
            killed = [sys.executable, __file__, file, "--checkpoint", str(checkpoint), "--kill-after", "20"]
            print(f"a first run ended with {subprocess.run(killed, check=False).returncode}")  # noqa: S603 (ourselves)
        main(file, given.label, checkpoint, given.epochs, given.kill_after)
