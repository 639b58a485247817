"""A loader among what Accelerate has prepared: its own batches, and a place that comes back with ``load_state``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from passes import ids, joined, side_by_side
from ranked_jobs import code_of, run_in_two

from annpipes.errors import ParameterTypeError, StateError

runs = pytest.importorskip("accelerated_runs", reason="Accelerate is not installed: tox -e integrations")

from annpipes.integrations.accelerate import AcceleratedLoader  # noqa: E402

PER_EPOCH = 5
ROWS = list(range(runs.N))


def passes(count: int, **options: Any) -> list[list[int]]:
    """What a loader by itself yields in its first epochs."""
    loader = runs.loader_of(**options)
    return [batch for _ in range(count) for batch in ids(loader)]


@pytest.mark.parametrize(
    "how",
    [{}, {"split_batches": True}, {"dispatch_batches": True}, {"even_batches": False}, {"use_seedable_sampler": True}],
    ids=str,
)
def test_epochs_are_the_loaders_own(how: dict[str, Any]) -> None:
    run = runs.Run(how=how)
    for _ in range(3):
        run.epoch()
    assert run.seen == passes(3)


def test_a_plain_loader_is_handed_back_by_prepare() -> None:
    loader = runs.loader_of()
    assert runs.Run().accelerator.prepare(loader) is loader


def test_a_loader_that_was_used_before_is_not_where_it_begins() -> None:
    loader = runs.loader_of()
    next(iter(loader))
    assert ids(AcceleratedLoader(loader, runs.Run().accelerator)) == passes(1)
    assert loader.epoch == 1  # nor is it touched


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 6, 9])
def test_a_saved_run_goes_on_with_the_next_batch(tmp_path: Path, steps: int) -> None:
    whole, stopped, resumed = runs.Run(), runs.Run(num_workers=2), runs.Run(prefetch=3)
    for _ in range(3):
        whole.epoch()
    while len(stopped.seen) < steps:
        stopped.epoch(steps)
    stopped.accelerator.save_state(str(tmp_path))
    resumed.accelerator.load_state(str(tmp_path))
    while len(stopped.seen) + len(resumed.seen) < 3 * PER_EPOCH:
        resumed.epoch()
    assert stopped.seen + resumed.seen == whole.seen
    assert resumed.weights == whole.weights


def test_what_is_saved_is_plain_and_belongs_to_data_and_parameters(tmp_path: Path) -> None:
    run = runs.Run()
    run.epoch(3)
    run.accelerator.save_state(str(tmp_path))
    state = torch.load(tmp_path / "custom_checkpoint_0.pkl", weights_only=True)
    assert json.loads(json.dumps(state)) == state
    assert (state["epoch"], state["batch"]) == (0, 3)
    with pytest.raises(StateError, match="seed was 0 and is 5"):
        runs.Run(seed=5).accelerator.load_state(str(tmp_path))


def test_gradients_are_not_accumulated_beyond_an_epoch(tmp_path: Path) -> None:
    run, resumed = runs.Run(accumulate=3), runs.Run(accumulate=3)
    run.epoch(3)
    run.accelerator.save_state(str(tmp_path))
    resumed.accelerator.load_state(str(tmp_path))
    resumed.epoch()
    resumed.epoch()
    assert run.synced + resumed.synced == 2 * [False, False, True, False, True]


def test_an_evaluation_has_every_row_once_and_disturbs_nothing() -> None:
    alone, run = runs.Run(accumulate=3), runs.Run(accumulate=3)
    alone.epoch()
    run.epoch(evaluate=True)
    assert (run.seen, run.synced) == (alone.seen, alone.synced)
    assert run.evaluate() == list(range(20))


def test_a_pass_that_was_left_is_forgotten() -> None:
    run = runs.Run()
    run.epoch(PER_EPOCH - 1)
    assert not run.accelerator.gradient_state.in_dataloader
    run.epoch()
    assert run.seen[PER_EPOCH - 1 :] == passes(2)[PER_EPOCH:]


def test_something_else_is_refused() -> None:
    with pytest.raises(ParameterTypeError, match="loader must be a Loader, got"):
        AcceleratedLoader(runs.loader_of().pipe, runs.Run().accelerator)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, pbmc_folder: Path) -> tuple[Any, Any]:
    """What each of two processes saw, in which the program of the page has run, too."""
    folder = tmp_path_factory.mktemp("accelerated")
    (folder / "pbmc.h5ad").symlink_to(pbmc_folder / "pbmc.h5ad")
    (folder / "page.py").write_text(code_of("accelerate.md"))
    return run_in_two(folder, [runs.__file__], ["page.py"])[0]


class TestTwoProcesses:
    def test_they_share_each_epoch_of_the_loader(self, reports: tuple[Any, Any]) -> None:
        assert [report["ranks"] for report in reports] == [[0, 2, True], [1, 2, True]]
        by_hand = [runs.loader_of(rank=rank, world_size=2) for rank in range(2)]
        together = [[*left, *right] for left, right in zip(*(report["whole"] for report in reports), strict=True)]
        assert together == [rows for _ in range(2) for rows in side_by_side(by_hand)]
        assert set(joined(together[:3])) == set(ROWS)

    def test_they_go_on_with_the_next_batch_however_accelerate_is_set_up(self, reports: tuple[Any, Any]) -> None:
        for report in reports:
            assert report["resumed"] == report["whole"]
            assert report["weights"][0] == report["weights"][1] == reports[0]["weights"][0]

    def test_an_evaluation_has_every_row_and_repeats_some(self, reports: tuple[Any, Any]) -> None:
        assert reports[0]["evaluated"] == reports[1]["evaluated"]
        rows = Counter(reports[0]["evaluated"])
        assert rows.keys() == set(range(20))
        assert rows.total() == 36  # global batches of 18
