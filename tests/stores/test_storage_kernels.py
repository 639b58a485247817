"""The arithmetic of copies, and the compiled loops that carry them out."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse

from annpipes.stores.compiled.kernels import (
    Moves,
    Output,
    add_rows,
    copy_columns,
    copy_pieces,
    first_outside,
    keep_columns,
    read_pieces,
)
from annpipes.stores.engine.pieces import Pieces, Spans, row_pieces, span_pieces

INDEX_DTYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


def moves(pieces: Pieces) -> dict[int, tuple[int, int]]:
    """For each place of the output, the storage chunk and the place in it that it is copied from."""
    found: dict[int, tuple[int, int]] = {}
    for chunk, first, to, length in zip(pieces.chunks, pieces.froms, pieces.tos, pieces.lengths, strict=True):
        assert length > 0
        for i in range(length):
            assert to + i not in found, "written twice"
            found[int(to) + i] = (int(chunk), int(first) + i)
    return found


def assert_grouped(pieces: Pieces) -> None:
    assert (np.diff(pieces.chunks) >= 0).all()
    edges = pieces.edges()
    groups = [set(pieces.chunks[start:stop].tolist()) for start, stop in pairwise(edges)]
    assert all(len(group) == 1 for group in groups)
    assert sorted(set(pieces.chunks.tolist())) == [group.pop() for group in groups]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 25)), max_size=12), st.integers(1, 30), st.randoms())
def test_spans_are_cut_where_storage_chunks_end(spans: list[tuple[int, int]], side: int, random: Any) -> None:
    firsts, lengths = (np.array([span[i] for span in sorted(spans)], np.int64) for i in range(2))
    order = random.sample(range(len(spans)), len(spans))
    tos = np.zeros(len(spans), np.int64)
    tos[order] = np.cumsum([0, *lengths[order]])[:-1]
    pieces = span_pieces(firsts, lengths, tos, side)
    assert_grouped(pieces)
    assert moves(pieces) == {
        int(to) + i: divmod(int(first) + i, side)
        for first, length, to in zip(firsts, lengths, tos, strict=True)
        for i in range(length)
    }
    touched = [(first + length - 1) // side - first // side + 1 for first, length in sorted(spans) if length]
    assert len(pieces) == sum(touched)
    assert moves(Spans(firsts, lengths, tos).pieces(side)) == moves(pieces)


@given(
    st.lists(st.integers(0, 12), max_size=15),
    st.integers(1, 9),
    st.tuples(st.integers(1, 16), st.integers(1, 12)),
    st.randoms(),
)
def test_rows_are_cut_where_storage_chunks_end(
    rows: list[int], width: int, chunk_shape: tuple[int, int], random: Any
) -> None:
    ascending = np.array(sorted(rows), np.int64)
    places = np.array(random.sample(range(len(rows)), len(rows)), np.int64)
    pieces = row_pieces(ascending, places, (13, width), chunk_shape)
    assert_grouped(pieces)
    across = -(-width // chunk_shape[1])
    assert moves(pieces) == {
        int(place) * width + column: (
            row // chunk_shape[0] * across + column // chunk_shape[1],
            row % chunk_shape[0] * chunk_shape[1] + column % chunk_shape[1],
        )
        for row, place in zip(ascending.tolist(), places, strict=True)
        for column in range(width)
    }


def test_pieces_of_large_datasets_do_not_overflow() -> None:
    first = 2**40 + 3
    pieces = span_pieces(np.array([first]), np.array([5]), np.array([2**33]), 4).scaled(8)
    assert (pieces.chunks * 32 + pieces.froms).tolist() == [first * 8, (first + 1) * 8]
    assert pieces.tos.tolist() == [2**36, 2**36 + 8]
    assert pieces.lengths.tolist() == [8, 32]


@st.composite
def copies(draw: Any) -> tuple[NDArray[Any], Any, Any, Any, int]:
    """Words, and stretches of them to be copied to places of their own."""
    dtype = np.dtype(draw(st.sampled_from(["u1", "u2", "u4", "u8"])))
    words = np.array(draw(st.lists(st.integers(0, 2 ** (8 * dtype.itemsize) - 1), min_size=1, max_size=60)), dtype)
    lengths = np.array(draw(st.lists(st.integers(0, len(words)), max_size=8)), np.int64)
    froms = np.array([draw(st.integers(0, len(words) - length)) for length in lengths.tolist()], np.int64)
    tos = np.cumsum([0, *lengths])[:-1][::-1] + 0 if len(set(lengths.tolist())) == 1 else np.cumsum([0, *lengths])[:-1]
    return words, froms, np.ascontiguousarray(tos), lengths, int(lengths.sum())


@given(copies(), st.data())
def test_copies_are_exact_and_columns_are_checked(
    copy: tuple[NDArray[Any], Any, Any, Any, int], data: st.DataObject
) -> None:
    words, froms, tos, lengths, total = copy
    size, count = words.itemsize, len(lengths)
    start = data.draw(st.integers(0, count))
    stop = data.draw(st.integers(start, count))
    limit = data.draw(st.sampled_from([1, 200, 2**16, 2**32, 2**63 - 1]) | st.sampled_from(words.tolist()))
    limit = min(max(limit, 1), 2**63 - 1)
    expected = np.full(total, 99, words.dtype)
    wrong = -1
    for i in range(start, stop):
        part = words[froms[i] : froms[i] + lengths[i]]
        expected[tos[i] : tos[i] + lengths[i]] = part
        if wrong < 0 and any(word >= limit for word in part.tolist()):
            wrong = i
    moves = Moves(froms * size, tos * size, lengths * size)
    source, out = words.view("u1"), np.full(total, 99, words.dtype)
    copy_pieces(source, moves, start, stop, out.view("u1"))
    assert out.tolist() == expected.tolist()
    assert first_outside(moves.tos, moves.lengths, start, stop, out, limit) == wrong
    checked = np.full(total, 99, words.dtype)
    assert copy_columns(source, moves, start, stop, Output(checked.view("u1"), checked, limit)) == wrong
    if wrong < 0:
        assert checked.tolist() == expected.tolist()


def test_pieces_come_from_a_file_or_the_first_that_cannot_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(100)))
    out = np.zeros(30, np.uint8)
    tos, lengths = np.array([20, 0, 10]), np.array([10, 10, 10])
    with path.open("rb") as file:
        assert read_pieces(file.fileno(), np.array([0, 50, 90]), tos, lengths, 0, 3, out) == -1
        assert out.tolist() == [*range(50, 60), *range(90, 100), *range(10)]
        for far in (91, 100, 2**40, 2**62, -5):
            assert read_pieces(file.fileno(), np.array([0, far, 90]), tos, lengths, 0, 3, out) == 1
    assert read_pieces(10_000, np.array([0]), tos, lengths, 0, 1, out) == 0


@pytest.mark.parametrize("dtype", INDEX_DTYPES)
def test_dense_rows_add_what_is_stored_twice(dtype: str) -> None:
    rng = np.random.default_rng(0)
    indptr = np.array([0, 0, 7, 7, 20, 21])
    indices, values = rng.integers(0, 6, 21).astype(dtype), rng.integers(1, 9, 21).astype("f4")
    out = np.full((5, 6), 99, "f4")
    assert add_rows(values, indices, indptr, 1, 4, out) == -1
    expected = sparse.csr_matrix((values, indices.astype("i4"), indptr), (5, 6)).toarray()
    np.testing.assert_array_equal(out[1:4], expected[1:4])
    assert (out[[0, 4]] == 99).all()
    assert add_rows(values, indices, indptr, 0, 5, np.zeros((5, int(indices.max())), "f4")) in (1, 3, 4)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i8", "u8"])
def test_a_column_outside_of_a_dense_row_is_not_written(dtype: str) -> None:
    top = np.iinfo(dtype).max
    for wrong in (6, 100, top, -1 if dtype[0] == "i" else top):
        indices = np.array([0, wrong, 3]).astype(dtype) if wrong < 2**63 else np.array([0, wrong, 3], dtype)
        assert add_rows(np.ones(3, "f4"), indices, np.array([0, 1, 3]), 0, 2, np.zeros((2, 6), "f4")) == 1


@given(st.lists(st.integers(0, 8), max_size=30), st.permutations(range(9)), st.integers(0, 9), st.sampled_from("248"))
def test_kept_columns_move_to_the_front(columns: list[int], genes: list[int], count: int, width: str) -> None:
    kept_genes = np.full(9, -1, np.int32)
    kept_genes[genes[:count]] = np.arange(count)
    indices, words = np.array(columns, f"i{width}"), np.arange(len(columns), dtype="u4")
    indptr = np.array([0, len(columns) // 3, len(columns) // 3, len(columns)])
    kept = np.zeros(3, np.int64)
    keep_columns(words, indices, indptr, kept_genes, np.arange(3), 0, 3, kept)
    for i in range(3):
        before = [(int(kept_genes[c]), j) for j, c in enumerate(columns) if indptr[i] <= j < indptr[i + 1]]
        stop = indptr[i] + kept[i]
        after = list(zip(indices[indptr[i] : stop].tolist(), words[indptr[i] : stop].tolist(), strict=True))
        assert after == [pair for pair in before if pair[0] >= 0]
