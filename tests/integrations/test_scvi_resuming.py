"""scvi-tools goes on from any checkpoint with the very next batch; the oracle is a training that never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

scvi = pytest.importorskip("scvi", reason="scvi-tools is not installed")

from lightning.pytorch import Callback  # noqa: E402
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402
from scvi_models import SMALL, counts, counts_file, scvi_alone, trained  # noqa: E402, F401

from annpipes.errors import StateError  # noqa: E402
from annpipes.integrations.scvi import ScviDataModule  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("scvi_alone"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks"),
]

PER_EPOCH = 7
KINDS = [scvi.model.SCVI, scvi.model.SCANVI]


def run(kind: Any, path: Path, epochs: int, *, seed: int = 0, **options: Any) -> Any:
    labels = {"labels_key": "label", "unlabeled_category": "Unknown"}
    dm = ScviDataModule(path, batch_size=40, seed=seed, num_workers=options.pop("n", 0), **labels)
    more = {"datamodule": dm} if kind is scvi.model.SCANVI else {}
    model = kind(registry=dm.registry, **SMALL, **more)
    return trained(model, dm, epochs=epochs, **options)


class Saver(Callback):
    """Saves after every step, and at the end of an epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.saved = folder, []

    def save(self, trainer: Any, when: str) -> None:
        self.saved.append((trainer.global_step, self.folder / f"{when}-{trainer.global_step}.ckpt"))
        trainer.save_checkpoint(self.saved[-1][1])

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.save(trainer, "step")

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
        self.save(trainer, "epoch")


@pytest.mark.parametrize("kind", KINDS)
def test_from_every_point_of_a_run(kind: Any, counts_file: Path, tmp_path: Path) -> None:
    whole = run(kind, counts_file, 3)
    assert len(whole.rows) == 3 * PER_EPOCH
    saver = Saver(tmp_path)
    run(kind, counts_file, 2, callbacks=[saver], n=2)
    assert len(saver.saved) == 2 * (PER_EPOCH + 1)
    for steps, path in saver.saved[::4] + saver.saved[6:8] + saver.saved[-2:]:  # and around the end of each epoch
        again = run(kind, counts_file, 3, ckpt_path=path)
        assert again.rows == whole.rows[steps:], path.name
        assert again.epochs == whole.epochs[steps:], path.name


def test_from_what_model_checkpoint_saves(counts_file: Path, tmp_path: Path) -> None:
    saving = {"enable_checkpointing": True, "callbacks": [ModelCheckpoint(tmp_path, every_n_train_steps=4)]}
    run(scvi.model.SCVI, counts_file, 1, **saving)
    (path,) = tmp_path.glob("*.ckpt")
    assert run(scvi.model.SCVI, counts_file, 2, ckpt_path=path).rows == run(scvi.model.SCVI, counts_file, 2).rows[4:]


def test_a_checkpoint_of_another_order_or_another_model_is_refused(counts_file: Path, tmp_path: Path) -> None:
    run(scvi.model.SCVI, counts_file, 1, callbacks=[saver := Saver(tmp_path)])
    _, path = saver.saved[2]
    with pytest.raises(StateError, match="seed was 0 and is 5"):
        run(scvi.model.SCVI, counts_file, 2, seed=5, ckpt_path=path)
    checkpoint = torch.load(path, weights_only=False)
    del checkpoint["ScviDataModule"]["train"]
    torch.save(checkpoint, path)
    with pytest.raises(StateError, match="has no position of training"):
        run(scvi.model.SCVI, counts_file, 2, ckpt_path=path)
