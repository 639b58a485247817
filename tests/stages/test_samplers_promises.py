"""What holds for every sampler: one order, resuming, ranks, exact lengths (promises 3 to 5)."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sampler_runs import (
    BATCH,
    OTHER,
    SAMPLERS,
    SHARED,
    N,
    by_sampler,
    files,  # noqa: F401 (fixtures)
    ids,
    joined,
    loader_of,
    whole_run,
)
from torchdata.stateful_dataloader import StatefulDataLoader

import annpipes
from annpipes import Loader, ResumableDataset

SEEDS = 3


OF_TWO = {"mixture", "mixture of samplers"}


def take(loader: Loader, count: int) -> list[list[int]]:
    """The next batches of one pass; then the pass is given up."""
    running = iter(loader)
    seen = ids(islice(running, count))
    running.close()
    return seen


@by_sampler
class TestOneOrder:
    @pytest.mark.parametrize("workers", [0, 1, 2])
    @pytest.mark.parametrize("prefetch", [0, 1, 2])
    def test_however_many_threads_and_whatever_is_read_ahead(
        self, name: str, workers: int, prefetch: int, files: tuple[Path, Path]
    ) -> None:
        loader = loader_of(name, files, num_workers=workers, prefetch=prefetch)
        assert [ids(loader) for _ in range(3)] == whole_run(name)

    def test_by_processes(self, name: str, files: tuple[Path, Path]) -> None:
        options = {"num_workers": 2, "method": "process", "multiprocessing_context": "fork"}
        loader = loader_of(name, files, **options)
        assert [ids(loader) for _ in range(2)] == whole_run(name)[:2]
        del loader  # with which its processes end
        assert not multiprocessing.active_children()

    def test_epochs_and_seeds_differ_and_repeat(self, name: str) -> None:
        runs = []
        for seed in range(SEEDS):
            loaders = [loader_of(name, seed=seed) for _ in range(2)]
            one, other = ([ids(loader) for _ in range(3)] for loader in loaders)
            assert one == other
            runs += one
        assert runs[:3] == whole_run(name)  # seed 0 is the default
        assert len(set(map(str, runs))) == 3 * SEEDS

    def test_any_epoch_can_be_the_first(self, name: str) -> None:
        loader = loader_of(name)
        for epoch in (2, 0, 1, 1):
            loader.set_epoch(epoch)
            assert loader.epoch == epoch
            assert ids(loader) == whole_run(name)[epoch]

    def test_global_generators_are_neither_read_nor_moved(self, name: str) -> None:
        np.random.seed(3)  # noqa: NPY002 (this is the very thing under test)
        torch.manual_seed(3)
        before = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
        assert ids(loader_of(name)) == whole_run(name)[0]
        assert before[0] == np.random.get_state()[1].tolist()  # noqa: NPY002
        assert torch.equal(before[1], torch.get_rng_state())

    def test_as_torch_and_torchdata_pass_over_it(self, name: str) -> None:
        # A plain pass takes the number pushed by set_seed; chunks are whole whoever reads them.
        pipe = loader_of(name).pipe

        def stateful() -> Any:
            return StatefulDataLoader(ResumableDataset(pipe), batch_size=None)

        torch.manual_seed(1)
        loader = stateful()
        batches = iter(loader)
        seen = ids(islice(batches, 3))
        state = loader.state_dict()
        expected = seen + ids(batches)
        other = stateful()
        other.load_state_dict(state)
        assert seen + ids(other) == expected


@by_sampler
class TestLength:
    @pytest.mark.parametrize(("tail", "drop_last"), [(None, False), (None, True), ("drop", False), ("fill", False)])
    def test_it_is_exact(self, name: str, tail: Any, drop_last: bool) -> None:
        loader = loader_of(name, tail=tail, drop_last=drop_last)
        n_rows = SAMPLERS[name](SHARED).plan.n_rows
        batches = ids(loader)
        assert len(loader) == len(batches)
        assert len(loader) == (n_rows // BATCH if drop_last or tail == "drop" else -(-n_rows // BATCH))
        kept = n_rows if tail is None and not drop_last else len(loader) * BATCH
        assert sum(map(len, batches)) == kept

    def test_and_that_of_the_pipe_too(self, name: str) -> None:
        chunks = SAMPLERS[name](SHARED).sort_within_chunks(24)
        assert len(chunks) == len(list(chunks))


@by_sampler
class TestResume:
    def test_between_any_two_batches(self, name: str) -> None:
        first, second, _ = whole_run(name)
        for received in range(len(first) + 2):
            loader = loader_of(name, prefetch=received % 3)
            seen = take(loader, received)
            state = json.loads(json.dumps(loader.state_dict()))
            assert len(json.dumps(state)) < 1000
            assert (state["epoch"], state["batch"]) == divmod(min(received, len(first)), len(first))
            other = loader_of(name, num_workers=received % 2)
            other.load_state_dict(state)
            rest = ids(other)
            assert (seen + rest == first) if received < len(first) else (rest == second)
            assert ids(other) == whole_run(name)[other.epoch - 1]

    @given(data=st.data())
    @settings(max_examples=5)
    def test_again_and_again(self, name: str, data: Any) -> None:
        expected = joined(whole_run(name))
        seen: list[list[int]] = []
        state = None
        for _ in range(4):
            loader = loader_of(name, prefetch=data.draw(st.integers(0, 2)), num_workers=data.draw(st.integers(0, 1)))
            if state is not None:
                loader.load_state_dict(state)
            seen += take(loader, data.draw(st.integers(0, 7)))
            state = loader.state_dict()
        loader = loader_of(name)
        loader.load_state_dict(state)
        seen += ids(loader)
        assert seen == expected[: len(seen)]

    def test_from_the_file_and_into_processes(self, name: str, files: tuple[Path, Path]) -> None:
        loader = loader_of(name, files)
        seen = take(loader, 2)
        other = loader_of(name, files, num_workers=1, method="process", multiprocessing_context="fork")
        other.load_state_dict(loader.state_dict())
        assert seen + ids(other) == whole_run(name)[0]

    def test_a_late_epoch_costs_no_replay(self, name: str) -> None:
        loader, other = loader_of(name), loader_of(name)
        loader.set_epoch(2**40)
        expected = ids(loader)
        other.load_state_dict({**other.state_dict(), "epoch": 2**40, "batch": 3})
        assert ids(other) == expected[3:]


@by_sampler
class TestStages:
    def test_pickles_fresh_and_used(self, name: str, files: tuple[Path, Path]) -> None:
        stage = SAMPLERS[name](files)
        for _ in range(2):
            copy = pickle.loads(pickle.dumps(stage))
            assert repr(copy) == repr(stage)
            assert copy.plan.fingerprint() == stage.plan.fingerprint()
            rows = [joined(block.tolist() for block in one.set_seed(7)) for one in (stage, copy)]
            assert rows[0] == rows[1]

    def test_repr_could_be_typed_back(self, name: str, files: tuple[Path, Path]) -> None:
        stage = SAMPLERS[name](files)
        names = {**vars(annpipes), "functools": __import__("functools")}
        shown = repr(stage)
        if "<function" in shown:  # a function is shown by its name, which nobody can type
            assert "weights=functools.partial(<function ends" in shown
            return
        typed = eval(shown, names)  # noqa: S307 (our own repr)
        assert repr(typed) == shown
        assert typed.plan.fingerprint() == stage.plan.fingerprint()

    def test_a_plain_pass_takes_the_seed_that_is_pushed(self, name: str) -> None:
        stage = SAMPLERS[name](SHARED)
        passes = [joined(block.tolist() for block in stage.set_seed(seed)) for seed in (0, 1, 0, 2**63)]
        assert passes[0] == passes[2]
        assert len(set(map(str, passes))) == 3
        assert len(passes[0]) == stage.plan.n_rows


def test_every_row_of_the_longest_source_comes_in_an_epoch_of_a_mixture() -> None:
    for epoch in whole_run("mixture"):
        rows = set(joined(epoch))
        assert set(range(N, N + OTHER)) <= rows  # 45 / 0.3 rows are more than 101 / 0.7
