from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import tiny
from contracts import StageContract, all_rows, rows_seen
from scipy.stats import chisquare

from annpipes import BlockShuffler, ChunkSorter, IndexSource
from annpipes.errors import PipelineError


class TestBlockShuffler(StageContract):
    shuffled = True

    def chained(self, path: Path) -> Any:
        return IndexSource(path, block_size=4).shuffle_blocks()

    def constructed(self, path: Path) -> Any:
        return BlockShuffler(IndexSource(path, block_size=4))

    def complete(self, pipe: Any) -> Any:
        return pipe.sort_within_chunks(5)


def shuffled(n_obs: int = 30, block_size: int = 3) -> BlockShuffler:
    return IndexSource(tiny(n_obs), block_size=block_size).shuffle_blocks()


def test_blocks_change_places_and_stay_whole() -> None:
    pipe = shuffled(31, 3)
    seen = [rows_seen(block) for block in pipe]
    assert sorted(seen) == [[*range(start, min(start + 3, 31))] for start in range(0, 31, 3)]
    assert seen != sorted(seen)
    assert len(pipe) == 11


def test_each_pass_has_an_order_of_its_own() -> None:
    pipe = shuffled()
    assert len({tuple(all_rows(pipe)) for _ in range(10)}) == 10


def test_a_seed_pushed_fixes_the_next_pass_and_only_that() -> None:
    pipe = shuffled()
    first = all_rows(pipe.set_seed(4))
    second = all_rows(pipe)
    assert first == all_rows(pipe.set_seed(4))
    assert second != first


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, 2**64])
def test_any_seed_is_a_seed(seed: int) -> None:
    pipe = shuffled()
    assert all_rows(pipe.set_seed(seed)) == all_rows(pipe.set_seed(seed))
    assert all_rows(pipe.set_seed(seed)) != all_rows(pipe.set_seed(seed + 1))


def test_without_a_seed_torchs_generator_decides() -> None:
    def order() -> list[int]:
        torch.manual_seed(3)
        return all_rows(shuffled())

    assert order() == order()


def test_every_block_comes_first_as_often_as_others() -> None:
    pipe = shuffled(5, 1)
    first = [all_rows(pipe.set_seed(seed))[0] for seed in range(1000)]
    assert chisquare(np.bincount(first, minlength=5)).pvalue > 1e-4


@pytest.mark.parametrize("before", [lambda: shuffled(), lambda: IndexSource(tiny(3)).sort_within_chunks(2), list])
def test_it_follows_a_source_alone(before: Any) -> None:
    with pytest.raises(PipelineError, match="shuffle_blocks must follow an IndexSource, got "):
        BlockShuffler(before())


def test_rows_of_a_chunk_are_permuted_too_and_only_when_shuffled() -> None:
    chunk = next(iter(shuffled(64, 64).sort_within_chunks(64)))
    assert chunk.rows.tolist() == list(range(64))
    assert chunk.drawn.tolist() != sorted(chunk.drawn.tolist())
    chunk = next(iter(ChunkSorter(IndexSource(tiny(64)), 64)))
    assert chunk.drawn.tolist() == list(range(64))


def test_dataloader_adds_no_shuffler_of_its_own() -> None:
    # To a pipe in which no stage has both set_shuffle and set_seed, DataLoader(shuffle=True) appends torch's buffer
    # of 10,000 items, here batches, and warns.
    pipe = shuffled().sort_within_chunks(7)
    for shuffle in (None, True):
        loader = torch.utils.data.DataLoader(pipe, batch_size=None, shuffle=shuffle)
        assert sorted(all_rows(loader)) == list(range(30))
