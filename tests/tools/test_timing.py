"""Measuring in turns, sampling rows, and the page cache."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from annpipes.tools.timing import (
    Times,
    available_memory,
    cached_share,
    drop,
    interleaved,
    machine,
    sample_rows,
    seconds_of,
    warm,
)

TIMES = Times({"a": [1.0, 4.0, 2.0], "b": [3.0, 4.0, 10.0]})


def test_a_rate_is_that_of_the_median_turn() -> None:
    assert TIMES.rate("a", 10) == 5.0


def test_rates_are_those_of_the_slowest_and_the_fastest_turn() -> None:
    assert TIMES.rates("a", 10) == (2.5, 10.0)


def test_speed_compares_medians_and_spread_turns() -> None:
    assert TIMES.speed("a", "b") == 2.0
    assert TIMES.spread("a", "b") == [1.0, 5.0]


@pytest.mark.parametrize("discarded", [0, 1, 2])
def test_contenders_take_turns_and_first_rounds_do_not_count(discarded: int) -> None:
    called: list[str] = []
    contenders = {"a": lambda: called.append("a"), "b": lambda: called.append("b")}
    times = interleaved(contenders, 3, lambda: called.append("before"), discarded=discarded)
    assert called == ["before", "a", "before", "b"] * (3 + discarded)
    assert {name: len(taken) for name, taken in times.seconds.items()} == {"a": 3, "b": 3}


def test_seconds_are_never_zero() -> None:
    assert seconds_of(lambda: None) > 0


@pytest.mark.parametrize(("n_obs", "block", "count"), [(10, 4, 6), (10, 4, 1), (64, 8, 24), (1000, 1, 50), (7, 100, 3)])
def test_sampled_rows_are_whole_blocks_and_enough(n_obs: int, block: int, count: int) -> None:
    rows = sample_rows(n_obs, block, count)
    assert len(np.unique(rows)) == len(rows)
    assert rows.min() >= 0
    assert rows.max() < n_obs
    for first in np.unique(rows // block) * block:
        assert set(range(first, min(first + block, n_obs))) <= set(rows.tolist())
    blocks = len(np.unique(rows // block))
    assert blocks == min(-(-count // block), -(-n_obs // block))


def test_sampled_rows_come_from_all_of_the_file() -> None:
    rows = sample_rows(100_000, 10, 5_000)
    assert np.histogram(rows, 10, (0, 100_000))[0].min() > 200


def test_as_many_rows_as_there_are_is_all_of_them() -> None:
    assert sorted(sample_rows(10, 4, 10).tolist()) == list(range(10))


def test_a_file_that_was_just_read_is_in_the_page_cache(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1 << 20))
    drop(path)  # whether the kernel listens or not
    assert 0 <= cached_share(path) <= 1
    warm(path)
    assert cached_share(path) > 0.9


def test_dropping_and_warming_leave_the_content_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content := os.urandom(100_000))
    drop(path)
    warm(path)
    assert path.read_bytes() == content


def test_the_machine_is_named_with_its_cores() -> None:
    assert f"{len(os.sched_getaffinity(0))} cores" in machine()


def test_available_memory_is_part_of_all_memory() -> None:
    memory = available_memory()
    assert memory is not None
    assert 0 < memory <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
