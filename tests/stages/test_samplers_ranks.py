"""What samplers promise to ranks, and what they refuse."""

from __future__ import annotations

import json
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from builders import tiny
from sampler_runs import (
    OTHER,
    SAMPLERS,
    SHARED,
    N,
    by_sampler,
    cells,
    ends,
    files,  # noqa: F401 (fixtures)
    ids,
    joined,
    loader_of,
    source_of,
    whole_run,
)

from annpipes import IndexSource, Loader, SourceMixer
from annpipes.errors import StateError

OF_TWO = {"mixture", "mixture of samplers"}


ONCE = {"shuffle", "groups"}
"""Those that visit no row twice in an epoch."""


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
