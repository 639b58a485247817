"""A Lightning run goes on from any checkpoint with the very next batch; the oracle is a run without interruption."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from annpipes.errors import StateError

runs = pytest.importorskip("lightning_runs", reason="Lightning is not installed: tox -e integrations")

PER_EPOCH = 5
EPOCHS = ({"max_epochs": 2}, {"max_epochs": 3})
STEPS = ({"max_epochs": -1, "max_steps": 8}, {"max_epochs": -1, "max_steps": 14})
STEPS_THEN_EPOCHS = ({"max_steps": 8}, {"max_epochs": 5})
LENGTHS = {"epochs": EPOCHS, "steps": STEPS, "steps-then-epochs": STEPS_THEN_EPOCHS}


def saved_by(folder: Path, model: Any = None, data: Any = None, **options: Any) -> list[Any]:
    """Every checkpoint that a run can save."""
    model, saver = runs.Model() if model is None else model, runs.Saver(folder)
    trainer = runs.trainer_of(callbacks=[saver], **options)
    model.within_step = lambda: saver.save(trainer, "training_step")
    trainer.fit(model, runs.data_of() if data is None else data)
    saver.save(trainer, "after the run")
    return saver.saved


def check(saved: list[Any], *, data: Any = runs.data_of, model: Any = runs.Model, **options: Any) -> Counter[str]:
    """Resume from each checkpoint; how often each point of a run was among them."""
    whole = runs.fit(data(), model(), **options)
    for when, path, steps in saved:
        assert runs.fit(data(), model(), ckpt_path=path, **options) == whole[steps:], f"saved {when}, {steps} steps"
    return Counter(when for when, _, _ in saved)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no")
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("val", [runs.VAL, None], ids=["val", "no-val"])
def test_from_every_point_of_a_run(tmp_path: Path, length: str, val: Any) -> None:
    first, then = LENGTHS[length]
    data = partial(runs.data_of, val=val)
    points = check(saved_by(tmp_path, data=data(), **first), data=data, **then)
    steps = first.get("max_steps", 2 * PER_EPOCH)
    assert points["on_train_batch_start"] == points["training_step"] == points["on_train_batch_end"] == steps
    assert points["on_train_epoch_end"] == 2
    assert points["after the run"] == 1
    assert (points["on_validation_end"] > 0) == (val is not None)


@pytest.mark.parametrize(
    "options",
    [
        {"accumulate_grad_batches": 2},
        {"limit_train_batches": 3},
        {"limit_train_batches": 0.5},
        {"reload_dataloaders_every_n_epochs": 1},
        {"val_check_interval": 0.5},
        {"num_sanity_val_steps": 2},
        {"overfit_batches": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("length", ["epochs", "steps-then-epochs"])
def test_whatever_the_trainer_is_told(tmp_path: Path, length: str, options: dict[str, Any]) -> None:
    first, then = LENGTHS[length]
    saved = saved_by(tmp_path, **first, **options)
    check([one for one in saved if one.when not in ("on_train_batch_start", "on_before_zero_grad")], **then, **options)


def test_after_an_early_stop_within_an_epoch(tmp_path: Path) -> None:
    class Stopping(runs.Model):
        def on_train_batch_end(self, *_: Any) -> None:
            self.trainer.should_stop = self.global_step == 8

    check(saved_by(tmp_path, Stopping(), max_epochs=3), max_epochs=3)


def test_where_a_schedule_asks_for_the_length_before_training(tmp_path: Path) -> None:
    class Scheduled(runs.Model):
        def configure_optimizers(self) -> Any:
            assert self.trainer.estimated_stepping_batches > 0
            return super().configure_optimizers()

    for number, (first, then) in enumerate((EPOCHS, STEPS_THEN_EPOCHS)):
        (folder := tmp_path / str(number)).mkdir()
        saved = saved_by(folder, Scheduled(), **first)
        check(saved[-15:], model=Scheduled, **then)
        check(saved[-3:], model=Scheduled, **then, reload_dataloaders_every_n_epochs=1)


@pytest.mark.parametrize("how", [{"num_workers": 2, "prefetch": 3}, {"num_workers": 1, "method": "process"}], ids=str)
def test_with_workers_and_then_without(tmp_path: Path, how: dict[str, Any]) -> None:
    saved = saved_by(tmp_path, data=runs.data_of({**runs.TRAIN, **how}), max_steps=8)
    check(saved[-8:], max_epochs=3)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks")
@pytest.mark.parametrize(
    ("how", "count"),
    [
        ({"every_n_train_steps": 2}, 6),
        ({"every_n_epochs": 1, "save_on_train_epoch_end": True}, 3),
        ({"every_n_epochs": 1, "save_on_train_epoch_end": False}, 2),  # after validation
        ({"save_last": True}, 4),
    ],
    ids=str,
)
def test_from_what_model_checkpoint_saves(tmp_path: Path, how: dict[str, Any], count: int) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint

    callback = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, **how)
    runs.fit(max_steps=12, enable_checkpointing=True, callbacks=[callback])
    paths = sorted(tmp_path.glob("*.ckpt"))
    assert len(paths) == count
    whole = runs.fit(max_epochs=4)
    for path in paths:
        steps = 12 if path.stem == "last" else int(path.stem.removeprefix("step="))
        assert runs.fit(ckpt_path=path, max_epochs=4) == whole[steps:], path.name


def test_five_interruptions_lose_and_repeat_nothing(tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    class Killing(runs.Saver):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            self.save(trainer, "before a step")
            if trainer.global_step == limit:
                raise KilledError

    whole, seen, path = runs.fit(max_epochs=4), [], None
    for limit in (3, 5, 6, 11, 15):
        (folder := tmp_path / str(limit)).mkdir()
        model, killing = runs.Model(), Killing(folder)
        with pytest.raises(KilledError):
            runs.fit(model=model, ckpt_path=path, max_epochs=4, callbacks=[killing])
        seen, path = seen + model.seen, killing.saved[-1].path
    assert seen + runs.fit(ckpt_path=path, max_epochs=4) == whole


def test_a_trainer_that_fits_twice(tmp_path: Path) -> None:
    data, model = runs.data_of(), runs.Model()
    trainer = runs.trainer_of(max_epochs=1)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "1.ckpt")
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, data)
    assert model.seen == runs.fit(max_epochs=2)
    trainer.fit_loop.max_epochs = 3
    trainer.fit(model, data, ckpt_path=tmp_path / "1.ckpt")
    assert model.seen == runs.fit(max_epochs=2) + runs.fit(max_epochs=3)[PER_EPOCH:]
    runs.trainer_of(max_epochs=1).fit(fresh := runs.Model(), data)
    assert fresh.seen == runs.fit(max_epochs=1)


def test_what_is_saved_is_small_and_plain(tmp_path: Path) -> None:
    saved = saved_by(tmp_path, max_steps=3)[-1].path
    state = torch.load(saved, weights_only=True)["LoaderDataModule"]
    assert json.loads(json.dumps(state)) == state
    assert (state["train"]["epoch"], state["train"]["batch"]) == (0, 3)


@pytest.mark.parametrize("spoilt", [{}, {"train": {}}, {"train": None}, {"train": {"version": 1}}], ids=str)
def test_a_spoilt_state_is_refused(tmp_path: Path, spoilt: Any) -> None:
    checkpoint = torch.load(saved_by(tmp_path, max_steps=3)[-1].path, weights_only=True)
    torch.save({**checkpoint, "LoaderDataModule": spoilt}, tmp_path / "spoilt.ckpt")
    with pytest.raises(StateError):
        runs.fit(ckpt_path=tmp_path / "spoilt.ckpt", max_epochs=3)


def test_a_checkpoint_of_other_data_is_refused_by_training_alone(tmp_path: Path) -> None:
    saved = saved_by(tmp_path, max_steps=2)[-1].path
    other = runs.data_of({**runs.TRAIN, "seed": 5})
    with pytest.raises(StateError, match="seed was 0 and is 5"):
        runs.fit(other, ckpt_path=saved, max_steps=9)
    runs.trainer_of().validate(runs.Model(), other, ckpt_path=saved, verbose=False)
    assert runs.fit(other, max_epochs=1)  # nothing of it is left
