"""What holds for every sampler: one order, resuming, ranks, exact lengths (promises 3 to 5)."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from collections.abc import Callable
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from builders import tiny, write
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchdata.stateful_dataloader import StatefulDataLoader

import annpipes
from annpipes import IndexSource, Loader, ResumableDataset, SourceMixer
from annpipes.errors import StateError

N, OTHER = 101, 45
BATCH = 8
"""A multiple of the four rows of a set with its controls."""

SEEDS = 3


def cells(n: int, first: int = 0) -> anndata.AnnData:
    """Numbered cells ``first … first+n-1`` with types, donors and weights."""
    adata = tiny(first + n)[first:].copy()
    types = np.array(["T", "T", "T", "T", "B", "control", "control", None], object)[np.arange(n) % 8]
    adata.obs["cell_type"] = pd.Categorical(types)
    adata.obs["donor"] = pd.Categorical(np.array(["d1", "d2", "d3"], object)[np.arange(n) % 3])
    adata.obs["quality"] = 1.0 + np.arange(n) % 4
    return adata


def ends(epoch: int, n: int) -> NDArray[np.float64]:
    """Weights that move on with the epoch."""
    return 1.0 + (np.arange(n) + epoch) % 5


def source_of(data: Any, **options: Any) -> IndexSource:
    return IndexSource(data, block_size=4, **options)


def mixed(data: tuple[Any, Any]) -> SourceMixer:
    sources = {"main": source_of(data[0]).shuffle_blocks(), "other": source_of(data[1]).shuffle_blocks()}
    return SourceMixer(sources, {"main": 0.7, "other": 0.3})


def mixed_samplers(data: tuple[Any, Any]) -> SourceMixer:
    sources = {
        "main": source_of(data[0]).sample_rows(balance="cell_type"),
        "other": source_of(data[1]).sample_rows(weights=partial(ends, n=OTHER), num_rows=20),
    }
    return SourceMixer(sources, {"main": 1, "other": 1}, until="first")


CONTROLS = {"control": "cell_type == 'control'", "match": "donor"}

SAMPLERS: dict[str, Callable[[tuple[Any, Any]], Any]] = {
    "shuffle": lambda data: source_of(data[0]).shuffle_blocks(),
    "weights": lambda data: source_of(data[0]).sample_rows(weights="quality"),
    "balance": lambda data: source_of(data[0]).sample_rows(balance="cell_type", temperature=0.5, num_rows=90),
    "blocks": lambda data: source_of(data[0]).sample_rows(weights="quality", unit="blocks"),
    "weights by epoch": lambda data: source_of(data[0]).sample_rows(weights=partial(ends, n=N)),
    "groups": lambda data: source_of(data[0]).sample_groups("cell_type", 4),
    "groups repeated": lambda data: source_of(data[0]).sample_groups(["cell_type", "donor"], 4, short="repeat"),
    "groups replaced": lambda data: source_of(data[0]).sample_groups("cell_type", 4, replace=True),
    "controls": lambda data: source_of(data[0]).sample_groups(["cell_type", "donor"], 2, **CONTROLS),
    "controls replaced": lambda data: source_of(data[0]).sample_groups(
        ["cell_type", "donor"], 2, replace=True, num_sets=25, **CONTROLS
    ),
    "mixture": mixed,
    "mixture of samplers": mixed_samplers,
}
"""Every way to order an epoch, by name."""

OF_TWO = {"mixture", "mixture of samplers"}
ONCE = {"shuffle", "groups"}
"""Those that visit no row twice in an epoch."""

SHARED = cells(N), cells(OTHER, N)

by_sampler = pytest.mark.parametrize("name", SAMPLERS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("samplers")
    return write(SHARED[0], folder / "main.h5ad", "gzip"), write(SHARED[1], folder / "other.h5ad", "gzip")


def loader_of(name: str, data: tuple[Any, Any] = SHARED, batch_size: int = BATCH, **options: Any) -> Loader:
    """Batches of 8 in chunks of 24, or whatever else."""
    read = SAMPLERS[name](data).sort_within_chunks(options.pop("chunk_size", 24)).read_rows(["X", "rows"])
    batched = read.batch_rows(batch_size, drop_last=options.pop("drop_last", False))
    if name.startswith("controls") and batch_size % 4 == 0:
        batched = batched.pair_controls()
    return Loader(batched.collate_rows(), **options)


def ids(batches: Any) -> list[list[int]]:
    """The rows of each batch, controls behind them, each with its own values."""
    seen = []
    for batch in batches:
        rows = torch.cat([batch[key] for key in ("rows", "control_rows") if key in batch])
        values = torch.cat([batch[key] for key in ("X", "control_X") if key in batch])
        assert torch.equal(values[:, 0], 100.0 * rows)
        seen.append(rows.tolist())
    return seen


def take(loader: Loader, count: int) -> list[list[int]]:
    """The next batches of one pass; then the pass is given up."""
    running = iter(loader)
    seen = ids(islice(running, count))
    running.close()
    return seen


@cache
def whole_run(name: str, epochs: int = 3) -> list[list[list[int]]]:
    """Some epochs by the simplest means: no worker, nothing read ahead, data in memory."""
    loader = loader_of(name, prefetch=0)
    return [ids(loader) for _ in range(epochs)]


def joined(parts: Any) -> list[Any]:
    return [item for part in parts for item in part]


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


def ranks_of(name: str, world_size: int, **options: Any) -> list[Loader]:
    """One loader for each rank, with global batches of 16."""
    given = {"batch_size": 16 // world_size, "chunk_size": 48, "world_size": world_size, "tail": "repeat", **options}
    return [loader_of(name, rank=rank, **given) for rank in range(world_size)]


def drawn_together(loaders: list[Loader]) -> list[list[int]]:
    """The rows of each global batch, in order of ranks; sets parted into rows and controls are put together again."""
    seen = []
    for batches in zip(*loaders, strict=True):
        rows = []
        for batch in batches:
            parts = [batch[key].reshape(-1, 2) for key in ("rows", "control_rows") if key in batch]
            rows += torch.cat(parts, dim=1).ravel().tolist() if len(parts) == 2 else batch["rows"].tolist()
        seen.append(rows)
    return seen


def some(loaders: list[Loader], count: int) -> list[list[int]]:
    running = [iter(loader) for loader in loaders]
    seen = drawn_together([islice(one, count) for one in running])  # type: ignore[misc]
    for one in running:
        one.close()  # type: ignore[attr-defined]
    return seen


@by_sampler
class TestRanks:
    @pytest.mark.parametrize("world_size", [2, 4])
    @pytest.mark.parametrize("tail", ["drop", "fill", "repeat"])
    def test_equally_many_batches_of_one_size(self, name: str, world_size: int, tail: str) -> None:
        loaders = ranks_of(name, world_size, tail=tail)
        for _ in range(2):
            seen = [ids(loader) for loader in loaders]
            assert {len(batches) for batches in seen} == {len(loader) for loader in loaders} == {len(loaders[0])}
            assert {len(batch) for batches in seen for batch in batches} == {16 // world_size}
            assert len(loaders[0]) * 16 == pytest.approx(SAMPLERS[name](SHARED).plan.n_rows, abs=15)

    @pytest.mark.parametrize("world_size", [1, 2, 4])
    def test_as_many_of_each_row_as_one_rank_sees(self, name: str, world_size: int) -> None:
        # All ranks together see the plan's epoch, with its first rows once more to fill the last batch up.
        loaders = ranks_of(name, world_size)
        for epoch in range(2):
            n_rows = SAMPLERS[name](SHARED).plan.n_rows
            order = SAMPLERS[name](SHARED).plan.epoch((0, epoch)).rows(0, n_rows)
            expected = np.bincount(np.concatenate([order, loaders[0].tail_rows(epoch)]), minlength=N + OTHER)
            counted = np.bincount(joined(drawn_together(loaders)), minlength=N + OTHER)
            assert counted.tolist() == expected.tolist()
            if name in ONCE:
                assert order.size == len(set(order.tolist()))

    def test_another_number_of_ranks_sees_the_same_global_batches(self, name: str) -> None:
        # How many ranks a training began with is part of its order; how many there are now is not.
        began = ranks_of(name, 2)
        state = began[0].state_dict()
        expected = [drawn_together(began) for _ in range(2)]
        for world_size in (1, 2, 4):
            loaders = ranks_of(name, world_size)
            for loader in loaders:
                loader.load_state_dict(state)
            assert [drawn_together(loaders) for _ in range(2)] == expected

    @pytest.mark.parametrize("counts", [(2, 1), (1, 2), (4, 1, 2)])
    def test_resumed_with_other_numbers_of_ranks(self, name: str, counts: tuple[int, ...]) -> None:
        loaders = ranks_of(name, counts[0])
        expected = [batch for _ in range(2) for batch in drawn_together(loaders)]
        seen: list[list[int]] = []
        state = None
        for world_size, count in zip(counts, (3, 1, 2), strict=False):
            loaders = ranks_of(name, world_size)
            if state is not None:
                for loader in loaders:
                    loader.load_state_dict(state)
            seen += some(loaders, count)
            states = [loader.state_dict() for loader in loaders]
            assert all(other == states[0] for other in states)
            state = json.loads(json.dumps(states[0]))
        assert len(seen) > 3
        assert seen == expected[: len(seen)]

    def test_sets_stay_whole(self, name: str) -> None:
        if not name.startswith(("groups", "controls")):
            return
        columns = ["cell_type"] if "repeated" not in name else ["cell_type", "donor"]
        kinds = SHARED[0].obs[columns].astype(object)
        size = 4 if name.startswith("groups") else 2
        for world_size in (1, 2, 4):
            for batch in drawn_together(ranks_of(name, world_size)):
                for members in np.array(batch).reshape(-1, 4)[:, :size]:
                    assert len(kinds.iloc[members].drop_duplicates()) == 1


class TestRefusals:
    @by_sampler
    def test_the_state_of_another_sampler_is_refused(self, name: str) -> None:
        state = loader_of(name).state_dict()
        for other in set(SAMPLERS) - {name}:
            loader = loader_of(other)
            with pytest.raises(StateError, match=r"belongs to other data or parameters: .*order was '.*' and is '.*'"):
                loader.load_state_dict(state)
            assert loader.epoch == 0
            assert ids(loader) == whole_run(other)[0]  # a refused state changes nothing

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({"weights": "quality"}, {"weights": np.arange(N)}),
            ({"weights": "quality"}, {"weights": "quality", "num_rows": 50}),
            ({"weights": "quality"}, {"weights": "quality", "unit": "blocks"}),
            ({"balance": "cell_type"}, {"balance": "donor"}),
            ({"balance": "cell_type"}, {"balance": "cell_type", "temperature": 1}),
            ({"balance": "donor"}, {"balance": "donor", "frequencies": {"d1": 1}}),
            ({"weights": partial(ends, n=N)}, {"weights": "quality"}),
            ({"weights": partial(ends, n=N)}, {"weights": lambda epoch: np.full(N, 1.0 + epoch)}),
        ],
    )
    def test_other_parameters_of_a_row_sampler(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        self.refused(*(source_of(SHARED[0]).sample_rows(**options) for options in (one, other)))

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({}, {"set_size": 2}),
            ({}, {"groupby": ["cell_type", "donor"]}),
            ({}, {"short": "repeat"}),
            ({}, {"replace": True}),
            ({"replace": True}, {"replace": True, "num_sets": 3}),
            ({}, {"control": "donor == 'd1'"}),
            ({"control": "donor == 'd1'"}, {"control": "donor == 'd2'"}),
            ({"control": [5, 13]}, {"control": [5, 21]}),
        ],
    )
    def test_other_parameters_of_a_group_sampler(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        given = ({"groupby": "cell_type", "set_size": 4, **options} for options in (one, other))
        self.refused(*(source_of(SHARED[0]).sample_groups(**options) for options in given))

    def test_another_match_even_if_it_parts_the_controls_alike(self) -> None:
        adata = tiny(6)
        adata.obs["a"] = pd.Categorical(["x", "y", "x", "y", "x", "y"])
        adata.obs["b"] = pd.Categorical(["x", "y", "y", "x", "y", "x"])
        source, options = IndexSource(adata), {"groupby": ["a", "b"], "set_size": 1, "control": [0, 1]}
        self.refused(*(source.sample_groups(**options, match=match) for match in ("a", "b")))

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({"a": 1, "b": 1}, {"a": 2, "b": 1}),
            ({"a": 0.123412, "b": 0.876588}, {"a": 0.123414, "b": 0.876586}),  # 505 and 506 turns of 4,096
        ],
    )
    def test_other_proportions(self, one: dict[str, float], other: dict[str, float]) -> None:
        sources = {"a": source_of(SHARED[0]), "b": source_of(SHARED[1])}
        self.refused(*(SourceMixer(sources, proportions, until="first") for proportions in (one, other)))

    def test_other_sources(self) -> None:
        one, other = source_of(SHARED[0]), source_of(SHARED[1])
        equal = {"a": 1, "b": 1}
        whole = SourceMixer({"a": one, "b": other}, equal)
        for sources in (
            {"a": one.shuffle_blocks(), "b": other},
            {"a": one, "b": other.sample_rows(balance="donor")},
            {"a": one, "b": source_of(SHARED[1], rows=range(1, OTHER))},
            {"b": other, "a": one},
        ):
            self.refused(whole, SourceMixer(sources, equal))

    def test_how_the_data_of_a_mixture_is_joined(self) -> None:
        one, other = source_of(SHARED[0]), source_of(cells(OTHER, N)[:, :2].copy())
        mixers = [SourceMixer({"a": one, "b": other}, {"a": 1, "b": 1}, join=join) for join in ("inner", "outer")]
        self.refused(*mixers, differing="genes")

    def refused(self, one: Any, other: Any, differing: str = "order|rows|block_size|files") -> None:
        loaders = [
            Loader(stage.sort_within_chunks(24).read_rows(["rows"]).batch_rows(8).collate_rows())
            for stage in (one, other)
        ]
        with pytest.raises(StateError, match=f"belongs to other data or parameters: .*({differing}) was .* and is "):
            loaders[1].load_state_dict(loaders[0].state_dict())

    @by_sampler
    def test_equal_parameters_are_accepted(self, name: str, files: tuple[Path, Path]) -> None:
        loader_of(name).load_state_dict(loader_of(name).state_dict())
        loader_of(name, files).load_state_dict(loader_of(name, files, num_workers=2, prefetch=2).state_dict())


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
