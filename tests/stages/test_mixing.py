"""Sources come in proportion, and each is visited whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import tiny, write
from contracts import StageContract
from draws import DRAWN, LABELLED, ROUND, WithReplacement, check_shares, drawn, mixed

import annpipes
from annpipes import IndexSource, SourceMixer
from annpipes.errors import ParameterError, PipelineError
from annpipes.plans.order import BlockShuffled, InOrder
from annpipes.plans.weighted import Weighted

SHARES = [[1], [1, 1], [3, 1], [1, 2], [1, 1, 1], [0.7, 0.2, 0.1], [5, 4, 3, 2, 1], [1000, 1, 30], [1, 1, 1, 1, 1, 1]]


class TestMixed:
    @pytest.mark.parametrize("shares", SHARES, ids=str)
    def test_every_round_keeps_the_proportions_to_one_turn(self, shares: list[float]) -> None:
        plan = mixed(shares)
        assert plan.turns.sum() == ROUND
        for rows in drawn(plan).reshape(-1, ROUND):
            counts = np.bincount(rows // 10_000, minlength=len(shares))
            assert abs(counts / ROUND - np.array(shares) / np.sum(shares)).max() <= 1 / ROUND

    @pytest.mark.parametrize("shares", SHARES, ids=str)
    def test_each_source_comes_in_its_own_order_and_once_in_each_of_its_epochs(self, shares: list[float]) -> None:
        plan = mixed(shares, 2 * ROUND + 1000)
        rows = drawn(plan)
        for number, child in enumerate(plan.plans):
            mine = rows[rows // 10_000 == number] - 10_000 * number
            epochs = [mine[start : start + child.n_rows] for start in range(0, len(mine), child.n_rows)]
            for epoch in epochs[:-1]:
                assert sorted(epoch.tolist()) == list(range(child.n_rows))
            assert len(set(epochs[-1].tolist())) == len(epochs[-1])
            for epoch in epochs:
                changes = np.count_nonzero(np.diff(epoch) != 1)
                assert changes <= -(-len(epoch) // 8)  # blocks of 8 stay whole
            whole = [tuple(epoch.tolist()) for epoch in epochs if len(epoch) == child.n_rows >= 300]
            assert len(set(whole)) == len(whole)  # begun anew in another order

    def test_sources_do_not_share_an_order(self) -> None:
        source = BlockShuffled(InOrder(range(500), 1))
        rows = drawn(mixed([1, 1], 1000, [source, source]))
        one, two = rows[rows < 10_000], rows[rows >= 10_000] - 10_000
        assert one[:400].tolist() != two[:400].tolist()

    def test_epochs_differ(self) -> None:
        plan = mixed([1, 3], 500)
        assert len({tuple(drawn(plan, (seed, epoch)).tolist()) for seed in range(3) for epoch in range(3)}) == 9

    def test_sources_in_order_stay_in_order(self) -> None:
        rows = drawn(mixed([2, 1], 900, [InOrder(range(600), 4), InOrder(range(7), 4)]))
        first, second = rows[rows < 10_000], rows[rows >= 10_000] - 10_000
        assert first.tolist() == (np.arange(len(first)) % 600).tolist()
        assert second.tolist() == (np.arange(len(second)) % 7).tolist()

    def test_samplers_keep_their_weights(self) -> None:
        weights = np.array([1.0, 2, 0, 5])
        child = Weighted(InOrder(range(4), 1), weights, 50)
        rows = drawn(mixed([1, 1], DRAWN, [child, InOrder(range(9), 1)]))
        check_shares(np.bincount(rows[rows < 10_000], minlength=4), weights)

    @pytest.mark.parametrize("until", ["first", "longest"])
    @pytest.mark.parametrize("proportions", [(1, 1), (1, 2), (2, 1), (0.3, 0.7), (1, 9)])
    @pytest.mark.parametrize("sizes", [(60, 20), (20, 60), (3000, 500)])
    def test_an_epoch_ends_when_that_source_has_been_visited_once(
        self, until: str, proportions: tuple[float, float], sizes: tuple[int, int]
    ) -> None:
        sources = {
            name: IndexSource(tiny(size), block_size=4).shuffle_blocks() for name, size in zip("ab", sizes, strict=True)
        }
        mixer = SourceMixer(sources, dict(zip("ab", proportions, strict=True)), until=until)
        needed = [size * sum(proportions) / proportion for size, proportion in zip(sizes, proportions, strict=True)]
        lasting = 0 if until == "first" else int(np.argmax(needed))
        begin = [0, sizes[0]][lasting]
        for epoch in range(5):
            rows = drawn(mixer.plan, (0, epoch))
            assert set(range(begin, begin + sizes[lasting])) <= set(rows.tolist())
        one_turn = sum(proportions) / proportions[lasting]
        assert mixer.plan.n_rows == pytest.approx(needed[lasting], rel=0.01, abs=one_turn)

    def test_a_source_with_any_proportion_has_its_turns_or_is_refused(self) -> None:
        sources = {name: IndexSource(tiny(20)) for name in "ab"}
        try:
            plan = SourceMixer(sources, {"a": 100_000, "b": 1}).plan
        except ParameterError:
            return
        assert plan.turns.min() > 0


class TestSourceMixer(StageContract):
    """A mixture of one source visits every row once."""

    shuffled = True

    def chained(self, path: Path) -> Any:
        return SourceMixer({"all": IndexSource(path, block_size=4).shuffle_blocks()}, {"all": 2.0})

    constructed = chained

    def complete(self, pipe: Any) -> Any:
        return pipe.sort_within_chunks(5)


class TestSourceMixerOfTwo(WithReplacement):
    """The shorter source begins again, so that its rows come more than once."""

    def n_rows(self, path: Path) -> int:
        planned = self.chained(path).plan.n_rows
        assert 46 <= planned <= 50  # 24 rows of the first source in every other turn
        return int(planned)

    def chained(self, path: Path) -> Any:
        parts = IndexSource(path, rows=range(24), block_size=4), IndexSource(path, rows=range(24, 29), block_size=4)
        sources = {"a": parts[0].shuffle_blocks(), "b": parts[1].shuffle_blocks()}
        return SourceMixer(sources, {"a": 1, "b": 1}, until="first", missing="fill")

    constructed = chained

    def test_how_the_data_is_joined_is_in_the_repr(self, h5ad: Path) -> None:
        pipe = self.chained(h5ad)
        typed = eval(repr(pipe), dict(vars(annpipes)))  # noqa: S307 (our own repr)
        assert "until='first'" in repr(pipe)
        assert typed.store.missing == pipe.store.missing == "fill"


class TestSourceMixerErrors:
    @pytest.mark.parametrize(
        ("proportions", "message"),
        [
            ({"a": 1}, r"proportions must name the sources \(a, b\), got a"),
            ({"a": 1, "c": 1}, r"proportions must name the sources \(a, b\), got a, c"),
            ({"a": 1, "b": 1, "c": 1}, r"proportions must name the sources \(a, b\), got a, b, c"),
            ({}, r"proportions must name the sources \(a, b\), got none"),
            ({"a": 1, "b": 0}, "proportions must be above 0, got 0 for 'b'"),
            ({"a": 1, "b": -0.5}, r"proportions must be above 0, got -0\.5 for 'b'"),
            ({"a": np.nan, "b": 1}, "proportions must be above 0, got nan for 'a'"),
            ({"a": np.inf, "b": 1}, "proportions must be above 0, got inf for 'a'"),
        ],
    )
    def test_wrong_proportions(self, proportions: dict[str, float], message: str) -> None:
        with pytest.raises(ParameterError, match=message):
            SourceMixer({"a": IndexSource(tiny(5)), "b": IndexSource(tiny(5))}, proportions)

    def test_no_sources(self) -> None:
        with pytest.raises(ParameterError, match="proportions must name the sources"):
            SourceMixer({}, {})

    @pytest.mark.filterwarnings("ignore:.*chooses no row")
    def test_a_source_without_rows(self) -> None:
        with pytest.raises(ParameterError, match="source 'b' has no rows"):
            SourceMixer({"a": IndexSource(tiny(5)), "b": IndexSource(tiny(5), rows=[])}, {"a": 1, "b": 1})

    @pytest.mark.parametrize("source", [tiny(5), "cells.h5ad", IndexSource(tiny(5)).sort_within_chunks(4).read_rows()])
    def test_what_has_no_plan(self, source: Any) -> None:
        with pytest.raises(PipelineError, match="source 'b' must be a stage with a plan, such as IndexSource, got"):
            SourceMixer({"a": IndexSource(tiny(5)), "b": source}, {"a": 1, "b": 1})

    def test_sets_are_not_cut_apart(self) -> None:
        sets = IndexSource(LABELLED).sample_groups("donor", 4)
        with pytest.raises(PipelineError, match="source 'b' draws sets, which a mixture of rows would split"):
            SourceMixer({"a": IndexSource(tiny(5)), "b": sets}, {"a": 1, "b": 1})

    def test_another_end(self) -> None:
        with pytest.raises(ParameterError, match="until must be 'first' or 'longest', got 'shortest'"):
            SourceMixer({"a": IndexSource(tiny(5))}, {"a": 1}, until="shortest")  # type: ignore[arg-type]

    def test_chunks_have_no_rows_to_mix(self, tmp_path: Path) -> None:
        # A chunk sorter has a plan, too, but one of chunks.
        path = write(tiny(5), tmp_path / "cells.h5ad")
        with pytest.raises(PipelineError, match="source 'a' must be a stage with a plan"):
            SourceMixer({"a": IndexSource(path).sort_within_chunks(2)}, {"a": 1})  # type: ignore[dict-item]
