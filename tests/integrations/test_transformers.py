"""A Hugging Face trainer over loaders goes on from any checkpoint with the very next batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from passes import joined, side_by_side
from ranked_jobs import run_in_two

from annpipes.errors import ParameterError, StateError

runs = pytest.importorskip("transformers_runs", reason="Transformers is not installed: tox -e integrations")

from transformers import Trainer, TrainerCallback  # noqa: E402

PER_EPOCH = 5
ROWS = list(range(runs.N))


class TestTraining:
    def test_epochs_are_the_loaders_own(self, tmp_path: Path) -> None:
        seen = runs.fit(tmp_path).seen
        assert seen == runs.rows_of(3)
        for epoch in range(3):
            assert sorted(joined(seen[epoch * PER_EPOCH :][:PER_EPOCH])) == ROWS

    def test_a_loader_that_was_used_before_is_not_where_it_begins(self, tmp_path: Path) -> None:
        loader = runs.loader_of()
        next(iter(loader))
        assert runs.fit(tmp_path, loader, num_train_epochs=1).seen == runs.rows_of(1)
        assert loader.epoch == 1  # nor is it touched

    def test_a_trainer_that_trains_twice_begins_again(self, tmp_path: Path) -> None:
        trainer = runs.trainer_of(tmp_path, num_train_epochs=1)
        trainer.train()
        trainer.train()
        assert trainer.model.seen == 2 * runs.rows_of(1)

    def test_evaluation_does_not_touch_it(self, tmp_path: Path) -> None:
        loader = runs.loader_of()
        evaluating = {"evaluate": loader, "eval_strategy": "steps", "eval_steps": 2, "eval_on_start": True}
        alone, beside = runs.fit(tmp_path / "1"), runs.fit(tmp_path / "2", loader, **evaluating)
        assert beside.seen == alone.seen
        assert beside.weights == alone.weights
        assert beside.evaluated == 9 * runs.rows_of(1)

    def test_cells_are_counted(self, tmp_path: Path) -> None:
        trainer = runs.trainer_of(tmp_path)
        metrics = trainer.train().metrics
        assert metrics["train_samples_per_second"] * metrics["train_runtime"] == pytest.approx(3 * 43, rel=0.01)
        assert trainer.num_examples(trainer.get_train_dataloader()) == 43

    def test_a_plain_dataset_is_treated_as_ever(self, tmp_path: Path) -> None:
        rows = [{name: values[0] for name, values in batch.items()} for batch in runs.loader_of(batch_size=1)]
        model = runs.fit(tmp_path, rows, evaluate=rows, eval_strategy="epoch", num_train_epochs=1)
        assert sorted(joined(model.seen)) == sorted(joined(model.evaluated)) == ROWS


class TestEvaluation:
    def test_the_loss_is_that_of_all_rows(self, tmp_path: Path) -> None:
        evaluate = {"all": runs.loader_of(shuffle=False), "some": runs.loader_of(rows=range(20))}
        trainer = runs.trainer_of(tmp_path, evaluate=evaluate)
        metrics = trainer.evaluate()
        assert metrics["eval_all_loss"] == pytest.approx(runs.loss_of(trainer.model, range(43)))  # 9 + 9 + 9 + 9 + 7
        assert metrics["eval_some_loss"] == pytest.approx(runs.loss_of(trainer.model, range(20)))

    def test_every_row_is_predicted_once(self, tmp_path: Path) -> None:
        found = runs.trainer_of(tmp_path).predict(runs.loader_of(shuffle=False))
        assert found.label_ids.ravel().tolist() == ROWS
        assert found.predictions.shape == (43, 1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 2},
        {"max_steps": 11, "num_train_epochs": 1},
        {"eval_strategy": "steps", "eval_steps": 2},
        {"restore_callback_states_from_checkpoint": True},
    ],
    ids=str,
)
def test_from_every_checkpoint_of_a_run(tmp_path: Path, options: dict[str, Any]) -> None:
    def model(folder: Path, resume: Any = None) -> Any:
        return runs.fit(folder, resume=resume, evaluate=runs.loader_of(rows=range(20)), **options)

    whole = model(tmp_path / "whole")
    together = options.get("gradient_accumulation_steps", 1)
    saved = sorted((tmp_path / "whole").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    assert len(saved) == options.get("max_steps", 3 * -(-PER_EPOCH // together))
    for path in saved[:-1]:
        epoch, step = divmod(int(path.name[11:]), -(-PER_EPOCH // together))
        model_again = model(tmp_path / "again", path)
        assert model_again.seen == whole.seen[epoch * PER_EPOCH + step * together :], path.name
        assert model_again.weights == whole.weights, path.name


def test_no_batch_before_the_next_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.fit(tmp_path / "whole")
    monkeypatch.setattr(runs, "MADE", made := [])
    model = runs.fit(tmp_path / "again", resume=tmp_path / "whole" / "checkpoint-13")
    assert made == model.seen
    assert len(made) == 2


def test_four_interruptions_lose_and_repeat_nothing(tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    class Stopping(TrainerCallback):
        def __init__(self, limit: int) -> None:
            self.limit = limit

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == self.limit:
                raise StoppedError

    whole, seen, resume = runs.fit(tmp_path / "whole"), [], None
    for limit in (2, 5, 6, 11):
        trainer = runs.trainer_of(tmp_path / "parts", callbacks=[Stopping(limit)])
        with pytest.raises(StoppedError):
            trainer.train(resume_from_checkpoint=resume)
        seen, resume = seen + trainer.model.seen, True  # the newest
    last = runs.fit(tmp_path / "parts", resume=tmp_path / "parts" / "checkpoint-11")
    assert seen + last.seen == whole.seen
    assert last.weights == whole.weights


class TestRefusals:
    def test_other_data_or_parameters(self, tmp_path: Path) -> None:
        runs.fit(tmp_path, num_train_epochs=1)
        with pytest.raises(StateError, match="seed was 0 and is 5"):
            runs.fit(tmp_path, runs.loader_of(seed=5), tmp_path / "checkpoint-3")

    def test_a_checkpoint_of_another_trainer(self, tmp_path: Path) -> None:
        rows = [{name: values[0] for name, values in batch.items()} for batch in runs.loader_of(batch_size=1)]
        Trainer(runs.Model(), runs.arguments(tmp_path, num_train_epochs=1), train_dataset=rows).train()
        with pytest.raises(StateError, match="has no position of a loader"):
            runs.fit(tmp_path, resume=tmp_path / "checkpoint-3")

    @pytest.mark.parametrize("spoilt", [{}, {"version": 1}, []], ids=str)
    def test_a_spoilt_place(self, tmp_path: Path, spoilt: Any) -> None:
        runs.fit(tmp_path, num_train_epochs=1)
        path = tmp_path / "checkpoint-3" / "trainer_state.json"
        state = json.loads(path.read_text())
        state["stateful_callbacks"]["LoaderPlace"]["attributes"]["saved"] = spoilt
        path.write_text(json.dumps(state))
        with pytest.raises(StateError):
            runs.fit(tmp_path, resume=tmp_path / "checkpoint-3")

    def test_a_size_of_batches_that_is_not_the_loaders(self, tmp_path: Path) -> None:
        with pytest.raises(ParameterError, match=r"per_device_train_batch_size is 8, .* 9 rows: use Training"):
            runs.fit(tmp_path, per_device_train_batch_size=8)
        with pytest.raises(ParameterError, match="per_device_eval_batch_size is 8"):
            runs.trainer_of(tmp_path, per_device_eval_batch_size=8).evaluate(runs.loader_of())


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """What each of two processes saw."""
    return run_in_two(tmp_path_factory.mktemp("transformers"), [runs.__file__])[0]


class TestTwoProcesses:
    def test_they_share_each_epoch_of_the_loader(self, reports: tuple[Any, Any]) -> None:
        assert [report["ranks"] for report in reports] == [[0, 2, True], [1, 2, True]]
        by_hand = [runs.loader_of(rank=rank, world_size=2) for rank in range(2)]
        together = [[*left, *right] for left, right in zip(*(report["whole"] for report in reports), strict=True)]
        assert together == [rows for _ in range(3) for rows in side_by_side(by_hand)]

    def test_they_go_on_with_the_next_batch(self, reports: tuple[Any, Any]) -> None:
        for report in reports:
            assert report["second"] == report["whole"][4:]
            assert report["weights"][0] == report["weights"][1] == reports[0]["weights"][0]

    def test_they_share_the_rows_to_evaluate_with(self, reports: tuple[Any, Any]) -> None:
        evaluated = [sorted(set(joined(report["evaluated"][:2]))) for report in reports]
        assert sorted({*evaluated[0], *evaluated[1]}) == list(range(20))
        assert all(report["evaluated"][:2] == report["evaluated"][2:4] for report in reports)
