"""A datamodule over Loaders: what each stage of a Lightning trainer sees."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import anndata
import pytest
import torch
from passes import joined

import annpipes as ap
from annpipes.errors import ParameterError, ParameterTypeError

runs = pytest.importorskip("lightning_runs", reason="Lightning is not installed: tox -e integrations")

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no")

PER_EPOCH = 5
TRAIN, VAL = runs.TRAIN, runs.VAL
ROWS = list(range(43))


def loader_of(**options: Any) -> ap.Loader:
    return ap.stream(**{**TRAIN, **options})


def passes(count: int, **options: Any) -> list[list[int]]:
    """What a loader by itself yields in its first epochs."""
    loader = loader_of(**options)
    return [batch["rows"].tolist() for _ in range(count) for batch in loader]


class TestTraining:
    def test_epochs_are_the_loaders_own(self) -> None:
        seen = runs.fit(max_epochs=3)
        assert [rows for _, _, rows in seen] == passes(3)
        assert [(epoch, number) for epoch, number, _ in seen] == [divmod(i, PER_EPOCH) for i in range(3 * PER_EPOCH)]
        for epoch in range(3):
            assert sorted(runs.rows_of(seen, epoch)) == ROWS

    @pytest.mark.parametrize("what", ["loader", "pipe", "arguments"])
    def test_whatever_it_is_made_of(self, what: str) -> None:
        given = {"loader": loader_of(), "pipe": loader_of().pipe, "arguments": TRAIN}[what]
        assert [rows for _, _, rows in runs.fit(runs.LoaderDataModule(given), max_epochs=2)] == passes(2)

    def test_a_loader_that_was_used_before_is_not_where_it_begins(self) -> None:
        loader = loader_of()
        next(iter(loader))
        assert [rows for _, _, rows in runs.fit(runs.LoaderDataModule(loader), max_epochs=1)] == passes(1)
        assert loader.epoch == 1  # nor is it touched

    def test_a_limited_epoch_is_followed_by_the_next(self) -> None:
        seen = runs.fit(max_epochs=2, limit_train_batches=2)
        assert [rows for _, _, rows in seen] == [*passes(1)[:2], *passes(2)[PER_EPOCH : PER_EPOCH + 2]]

    def test_loaders_that_are_reloaded_go_on(self) -> None:
        assert runs.fit(max_epochs=3, reload_dataloaders_every_n_epochs=2) == runs.fit(max_epochs=3)

    def test_overfitting_sees_the_same_batches(self) -> None:
        seen = runs.fit(max_epochs=3, overfit_batches=2)
        assert [rows for _, _, rows in seen] == 3 * passes(1)[:2]

    def test_evaluation_does_not_touch_it(self) -> None:
        alone = runs.fit(runs.data_of(), max_epochs=2, limit_val_batches=0)
        assert runs.fit(max_epochs=2, num_sanity_val_steps=2, val_check_interval=2) == alone

    def test_one_loader_for_training_and_validation(self) -> None:
        loader = loader_of()
        seen = runs.fit(runs.LoaderDataModule(loader, loader), max_epochs=2, val_check_interval=2)
        assert [rows for _, _, rows in seen] == passes(2)

    def test_sparse_batches_pass_through(self) -> None:
        class Sparse(runs.Model):
            def training_step(self, batch: Any, batch_idx: int) -> Any:
                batch["X"] = batch["X"].to_dense()
                return super().training_step(batch, batch_idx)

        assert len(runs.fit(runs.LoaderDataModule({**TRAIN, "form": "csr"}), Sparse(), max_epochs=1)) == PER_EPOCH

    def test_the_loader_in_use_has_statistics(self) -> None:
        data = runs.data_of()
        runs.fit(data, max_epochs=1)
        assert data.loaders["train"].stats().cells_per_second > 0


class TestEvaluation:
    def test_every_pass_is_alike(self) -> None:
        model = runs.Model()
        runs.fit(model=model, max_epochs=3, num_sanity_val_steps=2)
        expected = passes(1, rows=range(20))
        assert len(expected) == 3
        assert model.validated == expected[:2] + 3 * expected

    def test_validate_test_and_predict(self) -> None:
        data = runs.LoaderDataModule(
            val=VAL, test={**TRAIN, "rows": range(30, 43)}, predict={**TRAIN, "shuffle": False}
        )
        trainer, model = runs.trainer_of(), runs.Model()
        trainer.validate(model, data, verbose=False)
        trainer.test(model, data, verbose=False)
        assert sorted(joined(model.validated)) == [*range(20), *range(30, 43)]
        assert torch.cat(trainer.predict(model, data)).tolist() == ROWS

    def test_what_there_is_no_loader_for(self) -> None:
        with pytest.raises(Exception, match="implement `def test_dataloader"):  # Lightning's own words
            runs.trainer_of().test(runs.Model(), runs.data_of())


class TestFromData:
    def test_every_row_is_in_one_stage(self) -> None:
        data = runs.LoaderDataModule.from_data(**TRAIN, weights=None)
        rows = {stage: [row for batch in make() for row in batch["rows"].tolist()] for stage, make in made(data)}
        assert Counter(rows["train"] + rows["val"] + rows["test"]) == Counter(ROWS)
        assert rows["predict"] == ROWS  # as they stand
        assert rows["val"] == sorted(rows["val"])
        assert rows["train"] != sorted(rows["train"])
        split = ap.split(TRAIN["data"], {"train": 0.8, "val": 0.1, "test": 0.1})
        assert {stage: sorted(rows[stage]) for stage in split} == {stage: [*split[stage]] for stage in split}

    def test_sampling_and_tails_are_for_training(self) -> None:
        weights = [float(row < 5) for row in ROWS]
        data = runs.LoaderDataModule.from_data(
            **TRAIN, split={"train": 0.5, "val": 0.5}, weights=weights, num_rows=18, tail="drop", drop_last=True
        )
        rows = {stage: [row for batch in make() for row in batch["rows"].tolist()] for stage, make in made(data)}
        assert set(rows["train"]) <= set(range(5))
        assert len(rows["train"]) == 18
        assert len(rows["val"]) == len(set(rows["val"])) > 20
        assert rows["predict"] == ROWS

    def test_groups_stay_whole(self) -> None:
        adata = anndata.AnnData(TRAIN["data"].X, obs={"donor": [f"d{row % 6}" for row in ROWS]})
        adata.obs_names = [f"c{row}" for row in ROWS]
        data = runs.LoaderDataModule.from_data(
            adata, {"train": 0.5, "val": 0.5}, groupby="donor", batch_size=9, fields=["rows"]
        )
        rows = {stage: {row % 6 for batch in make() for row in batch["rows"].tolist()} for stage, make in made(data)}
        assert rows["train"] | rows["val"] == set(range(6))
        assert not rows["train"] & rows["val"]

    def test_the_split_has_a_seed_of_its_own(self) -> None:
        parts = [
            {row for batch in dict(made(data))["train"]() for row in batch["rows"].tolist()}
            for data in (
                runs.LoaderDataModule.from_data(**TRAIN, **seeds)
                for seeds in ({}, {"seed": 1}, {"split_seed": 1}, {"seed": 2, "split_seed": 1})
            )
        ]
        assert parts[0] == parts[1]
        assert parts[2] == parts[3]
        assert parts[0] != parts[2]

    def test_a_stage_of_ones_own(self) -> None:
        data = runs.LoaderDataModule.from_data(**TRAIN, split={"predict": 1.0})
        assert [stage for stage, _ in made(data)] == ["predict"]

    @pytest.mark.parametrize(
        ("wrong", "told"), [({"split": {"trian": 1.0}}, "trian"), ({"rows": [1]}, "split chooses")]
    )
    def test_what_cannot_be_split(self, wrong: Any, told: str) -> None:
        with pytest.raises(ParameterError, match=told):
            runs.LoaderDataModule.from_data(**TRAIN, **wrong)


def made(data: Any) -> list[tuple[str, Any]]:
    """The stages that a datamodule has, by Lightning's own test, and what makes their loaders."""
    from lightning.pytorch.utilities.model_helpers import is_overridden

    stages = {
        "train": data.train_dataloader,
        "val": data.val_dataloader,
        "test": data.test_dataloader,
        "predict": data.predict_dataloader,
    }
    return [(stage, make) for stage, make in stages.items() if is_overridden(f"{stage}_dataloader", data)]


def test_a_class_of_ones_own(tmp_path: Path) -> None:
    class Own(runs.LoaderDataModule):
        def train_dataloader(self) -> Any:
            return {"cells": super().train_dataloader()}

        def val_dataloader(self) -> Any:
            return super().train_dataloader()

    class Model(runs.Model):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch["cells"], batch_idx)

    first, second, whole = Model(), Model(), Model()
    (trainer := runs.trainer_of(max_steps=8)).fit(first, Own(TRAIN))
    trainer.save_checkpoint(tmp_path / "8.ckpt")
    runs.fit(Own(TRAIN), second, tmp_path / "8.ckpt", max_epochs=3)
    assert first.seen + second.seen == runs.fit(Own(TRAIN), whole, max_epochs=3)
    assert len(whole.validated) == 3 * PER_EPOCH


def test_a_look_at_the_batches_is_no_training(tmp_path: Path) -> None:
    class Looking(runs.Model):
        def on_train_batch_end(self, *_: Any) -> None:
            next(iter(self.trainer.datamodule.train_dataloader()))

    trainer = runs.trainer_of(max_steps=8)
    trainer.fit(model := Looking(), data := runs.data_of())
    trainer.validate(model, data, verbose=False)
    trainer.save_checkpoint(tmp_path / "8.ckpt")
    assert model.seen + runs.fit(ckpt_path=tmp_path / "8.ckpt", max_epochs=3) == runs.fit(max_epochs=3)


def test_it_pickles() -> None:
    data = runs.LoaderDataModule(TRAIN)
    again = pickle.loads(pickle.dumps(data))
    assert [stage for stage, _ in made(again)] == [stage for stage, _ in made(data)] == ["train"]
    assert runs.fit(again, max_epochs=2) == runs.fit(max_epochs=2)


def test_something_else_is_refused() -> None:
    with pytest.raises(ParameterTypeError, match="val must be a Loader, a pipe, or a dict"):
        runs.LoaderDataModule(TRAIN, [1, 2])


ALONE = """
import sys
sys.modules.update(dict.fromkeys({without!r}))
{before}
try:
    from annpipes.integrations.lightning import LoaderDataModule
except ImportError as error:
    print(error)
else:
    print(LoaderDataModule.__mro__[2].__module__)
"""


@pytest.mark.parametrize(
    ("without", "before", "said"),
    [
        (["lightning", "pytorch_lightning"], "", "annpipes.integrations.lightning needs Lightning"),
        (["lightning"], "", "pytorch_lightning.core.datamodule"),
        ([], "import pytorch_lightning", "pytorch_lightning.core.datamodule"),
    ],
)
def test_the_framework_in_use(tmp_path: Path, without: list[str], before: str, said: str) -> None:
    program = ALONE.format(without=without, before=before)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert ran.stdout.startswith(said)
