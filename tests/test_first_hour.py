"""What a first hour brings: chains that lack a stage, homes, counts, and things that are asked too early."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import tiny, write

import annpipes as ap
from annpipes.errors import ParameterError, PipelineError

SOURCE = ap.IndexSource(tiny(40))
CHUNKS = SOURCE.sort_within_chunks(20)
READ = CHUNKS.read_rows()

CHAINS: dict[str, tuple[Callable[[], Any], str]] = {
    "no chunks": (lambda: SOURCE.read_rows(), r"read_rows reads chunks: write \.sort_within_chunks\(…\) before it"),
    "shuffled, no chunks": (lambda: SOURCE.shuffle_blocks().read_rows(), r"write \.sort_within_chunks\(…\)"),
    "not read": (lambda: CHUNKS.batch_rows(4), r"batch_rows needs rows that have been read: write \.read_rows\(…\)"),
    "neither": (lambda: SOURCE.batch_rows(4), r"write \.sort_within_chunks\(…\)\.read_rows\(…\) before it"),
    "transform too early": (lambda: SOURCE.transform(ap.Log1p()), r"transform needs rows that have been read"),
    "collated too early": (lambda: CHUNKS.collate_rows(), r"collate_rows needs rows that have been read"),
    "batched too late": (lambda: READ.collate_rows().batch_rows(4), r"must stand before \.collate_rows\(…\)"),
    "transform too late": (
        lambda: READ.batch_rows(4).collate_rows().transform(ap.Log1p()),
        r"transform must stand before \.collate_rows\(…\)",
    ),
    "no batches": (lambda: ap.Loader(READ), r"one RowBatcher, and .* has none: write \.batch_rows\(…\)"),
    "torch's shuffle": (lambda: SOURCE.shuffle().sort_within_chunks(), r"is torch's.*: write \.shuffle_blocks\(…\)"),
    "torch's batch": (lambda: READ.batch(4).collate_rows(), r"\.batch\(…\) before collate_rows is torch's.*batch_rows"),
    "torch's batch in a loader": (lambda: ap.Loader(READ.batch(4)), r"write \.batch_rows\(…\)"),
    "torch's shuffle of batches": (lambda: ap.Loader(READ.batch_rows(4).shuffle()), r"write \.shuffle_blocks\(…\)"),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_that_is_not_one_fails_where_it_is_written(name: str) -> None:
    write_it, message = CHAINS[name]
    with pytest.raises(PipelineError, match=message):
        write_it()


def test_stages_of_others_may_stand_between() -> None:
    pipe = READ.map(as_it_is).batch_rows(4).map(as_it_is).transform(ap.Clip(high=5)).collate_rows()
    assert [len(batch["X"]) for batch in ap.Loader(pipe)] == [4] * 10


def as_it_is(item: Any) -> Any:
    return item


class TestHome:
    @pytest.fixture(autouse=True)
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        write(tiny(40), tmp_path / "cells.h5ad")

    def test_a_path_begins_with_a_tilde(self) -> None:
        assert len(ap.stream("~/cells.h5ad", batch_size=8)) == len(ap.stream(Path("~/cells.h5ad"), batch_size=8)) == 5
        assert len(ap.AnnDataset("~/cells.h5ad")) == ap.inspect("~/cells.h5ad").n_obs == 40
        assert ap.check("~/cells.h5ad").healthy

    def test_so_does_a_pattern_a_list_and_a_collection(self) -> None:
        for data in ("~/*.h5ad", ["~/cells.h5ad"], ap.Collection("~/*.h5ad"), ap.Collection(["~/cells.h5ad"])):
            assert ap.IndexSource(data).n_obs == 40

    def test_and_what_is_written(self, tmp_path: Path) -> None:
        ap.rewrite_shuffled("~/cells.h5ad", "~/shuffled.h5ad", codec="gzip")
        assert ap.IndexSource(tmp_path / "shuffled.h5ad").n_obs == 40


class TestCounts:
    def test_sets_of_so_many_rows(self) -> None:
        parts = ap.split(tiny(700), {"train": 600, "val": 99, "test": 1})
        assert {name: len(rows) for name, rows in parts.items()} == {"train": 600, "val": 99, "test": 1}
        assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(700))

    def test_shares_are_what_they_were(self) -> None:
        for shares in ([1], [1.0], [1, 0]):
            assert len(ap.split(tiny(10), shares)[0]) == 10

    @pytest.mark.parametrize("counts", [[600, 99], [600, 200], [800, -100]])
    def test_others_are_refused(self, counts: list[int]) -> None:
        with pytest.raises(ParameterError, match=r"counts must be positive and add up to the 700 rows there are"):
            ap.split(tiny(700), counts)


def test_statistics_before_a_pass_say_so() -> None:
    loader = ap.stream(tiny(40), batch_size=8)
    assert str(loader.stats()) == "no batch has been read yet: iterate over the loader first"
    list(loader)
    assert "cells/s" in str(loader.stats())


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU to pin for")
def test_pinning_without_a_gpu_warns_as_torch_does() -> None:
    with pytest.warns(UserWarning, match="pin_memory=True has no effect: torch finds no GPU"):
        loader = ap.stream(tiny(40), batch_size=8, pin_memory=True)
    assert len(list(loader)) == 5
