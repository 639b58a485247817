"""Two ranks that train, stop and resume with Lightning, which starts this for each; they write what they saw."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lightning_runs import TRAIN, VAL, Model, data_of, fit, trainer_of

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    ddp = {"strategy": "ddp", "devices": 2, "num_sanity_val_steps": 1}

    data, whole = data_of(), Model()
    fit(data, whole, max_epochs=3, **ddp)
    ranks = data.loaders["train"].ranks

    first = Model()
    trainer = trainer_of(max_steps=4, **ddp)
    trainer.fit(first, data_of({**TRAIN, "num_workers": 2}, VAL))
    trainer.save_checkpoint(folder / "stopped.ckpt")
    second = fit(ckpt_path=folder / "stopped.ckpt", max_epochs=3, **ddp)

    report = {"ranks": ranks, "whole": whole.seen, "first": first.seen, "second": second, "val": whole.validated}
    (folder / f"rank-{ranks.rank}.json").write_text(json.dumps(report))
