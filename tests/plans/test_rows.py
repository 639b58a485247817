from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from annpipes import Chunk
from annpipes.errors import ParameterError, ParameterTypeError, RowIndexError
from annpipes.plans.rows import (
    as_count,
    as_natural,
    as_rows,
    brief_rows,
    join_ranges,
    runs,
    take_rows,
)


def names_to_rows(names: Any) -> np.ndarray:
    return pd.Index([f"c{i}" for i in range(6)]).get_indexer(names)


class TestAsCount:
    @pytest.mark.parametrize("value", [1, 7, 2**40, np.int8(7), np.uint64(7)])
    def test_any_integer_becomes_an_int(self, value: Any) -> None:
        assert as_count(value, "block_size") == value
        assert type(as_count(value, "block_size")) is int

    @pytest.mark.parametrize("value", [0, -3, np.int32(0)])
    def test_too_small_a_number_is_named(self, value: Any) -> None:
        with pytest.raises(ParameterError, match=f"block_size must be at least 1, got {value}"):
            as_count(value, "block_size")

    @pytest.mark.parametrize("value", [2.0, "2", None, True, np.float32(2), [2]])
    def test_no_other_type_is_taken(self, value: Any) -> None:
        with pytest.raises(ParameterTypeError, match="block_size must be an integer, got "):
            as_count(value, "block_size")

    def test_a_natural_number_may_be_zero(self) -> None:
        assert as_natural(0, "seed") == 0
        with pytest.raises(ParameterError, match="seed must be at least 0, got -1"):
            as_natural(-1, "seed")


class TestAsRows:
    @pytest.mark.parametrize(
        ("rows", "expected"),
        [
            (None, [0, 1, 2, 3, 4, 5]),
            (range(2, 5), [2, 3, 4]),
            (range(5, -1, -2), [5, 3, 1]),
            (range(3, 3), []),
            (range(9, 9), []),
            (slice(None, None, 2), [0, 2, 4]),
            (slice(-2, None), [4, 5]),
            (slice(10, 20), []),
            ([5, 0, 5], [5, 0, 5]),
            ((3,), [3]),
            ([], []),
            (np.array([], bool).tolist(), []),
            (np.array([2, 1], np.uint8), [2, 1]),
            (np.array([2, 1], ">i4"), [2, 1]),
            (pd.Series([4, 1], index=[8, 9]), [4, 1]),
            (pd.Series([4, 1], dtype="Int64"), [4, 1]),
            (torch.tensor([4, 1]), [4, 1]),
            ([True, False, False, True, False, False], [0, 3]),
            (np.zeros(6, bool), []),
            (pd.Series([False] * 5 + [True]), [5]),
            (pd.Series([1, 2, 3, 4, 5, 6], dtype="Int64") > 4, [4, 5]),
            (torch.tensor([False] * 5 + [True]), [5]),
            (["c3", "c0", "c3"], [3, 0, 3]),
            (np.array(["c3", "c0"]), [3, 0]),
            (pd.Index(["c3"]), [3]),
            (pd.Series(["c3"], dtype="string"), [3]),
            (pd.Categorical(["c3", "c1"]), [3, 1]),
        ],
        ids=repr,
    )
    def test_whatever_names_rows_becomes_positions(self, rows: Any, expected: list[int]) -> None:
        given_rows = as_rows(rows, 6, positions_of=names_to_rows)
        assert list(given_rows) == expected
        assert isinstance(given_rows, range) or given_rows.dtype == np.int64

    def test_all_rows_stay_a_range(self) -> None:
        assert as_rows(None, 10**12) == range(10**12)
        assert as_rows(slice(5, None), 10**12) == range(5, 10**12)

    @pytest.mark.parametrize(
        ("rows", "shown"),
        [
            ([6], "6"),
            ([0, -1], "-1"),
            (range(4, 7), "6"),
            (range(-1, 3), "-1"),
            (np.array([2**63], np.uint64), str(2**63)),
            (np.array([255], np.uint8), "255"),
        ],
    )
    def test_a_row_outside_is_named(self, rows: Any, shown: str) -> None:
        with pytest.raises(RowIndexError, match=rf"obs_subset must lie in 0 … 5 \(6 rows\), got {shown}"):
            as_rows(rows, 6, argument="obs_subset")

    def test_no_row_lies_in_no_rows(self) -> None:
        with pytest.raises(RowIndexError, match="0 rows"):
            as_rows([0], 0)
        assert len(as_rows([], 0)) == len(as_rows(None, 0)) == 0

    @pytest.mark.parametrize("length", [0, 1, 5, 7])
    def test_a_mask_of_the_wrong_length_is_told(self, length: int) -> None:
        with pytest.raises(ParameterError, match=f"rows is a mask of length {length}, but there are 6 rows"):
            as_rows(np.ones(length, bool), 6)

    @pytest.mark.parametrize("rows", ["c1", 3, [[1, 2]], {1, 2}, np.zeros((2, 2), bool)])
    def test_what_is_no_list_is_refused(self, rows: Any) -> None:
        with pytest.raises(ParameterError, match="rows must be a list of positions, a mask or obs names"):
            as_rows(rows, 6, positions_of=names_to_rows)

    @pytest.mark.parametrize("rows", [[1.0, 2.0], [float("nan")], ["c1"], [None], [2**70], [1 + 2j]])
    def test_values_that_name_nothing_are_refused(self, rows: Any) -> None:
        with pytest.raises((ParameterTypeError, RowIndexError), match="rows must"):
            as_rows(rows, 6)

    def test_a_mask_with_a_missing_value_is_refused(self) -> None:
        mask = pd.Series([True, None, False, False, False, False], dtype="boolean")
        with pytest.raises((ParameterError, ParameterTypeError)):
            as_rows(mask, 6)


class TestArithmetic:
    @given(st.lists(st.integers(0, 9)))
    def test_a_chunk_gives_the_rows_as_they_came(self, drawn: list[int]) -> None:
        chunk = Chunk.of(np.array(drawn, np.int64))
        assert chunk.rows.tolist() == sorted(drawn)
        assert chunk.drawn.tolist() == drawn

    @given(st.lists(st.integers(0, 30)).map(sorted))
    def test_runs_put_together_give_the_rows(self, rows: list[int]) -> None:
        firsts, lengths = runs(np.array(rows, np.int64))
        assert [row for first, length in zip(firsts, lengths, strict=True) for row in range(first, first + length)] == (
            rows
        )
        if len(set(rows)) == len(rows):  # as long as they can be
            assert all(b - a > n for a, b, n in zip(firsts, firsts[1:], lengths, strict=False))

    @given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 5))))
    def test_joined_ranges_are_numpys(self, ranges: list[tuple[int, int]]) -> None:
        starts, lengths = np.array(ranges, np.int64).reshape(-1, 2).T
        expected = [row for start, length in ranges for row in range(start, start + length)]
        assert join_ranges(starts, lengths).tolist() == expected

    @pytest.mark.parametrize("rows", [range(10), range(3, 13), np.arange(20, 10, -1)])
    def test_rows_at_positions(self, rows: Any) -> None:
        positions = np.array([3, 0, 3, 9])
        assert take_rows(rows, positions).tolist() == [rows[position] for position in positions.tolist()]

    def test_only_short_rows_are_shown_whole(self) -> None:
        assert brief_rows(range(5)) == "range(0, 5)"
        assert brief_rows(np.array([3, 1])) == "[3, 1]"
        assert brief_rows(np.arange(5000)) == "<5,000 rows>"
