"""Where rows begin, in few bytes for each row; the oracle is the array itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annpipes.errors import DamageError
from annpipes.stores.indptr import CompactIndptr, PlainIndptr

LENGTHS = st.lists(st.one_of(st.integers(0, 3), st.sampled_from([255, 256, 65_535, 65_536, 2**33])), max_size=300)


def compact(indptr: np.ndarray, piece: int = 100, n_rows: int | None = None) -> CompactIndptr:
    pieces = (indptr[first : first + piece] for first in range(0, len(indptr), piece))
    return CompactIndptr(pieces, len(indptr) - 1 if n_rows is None else n_rows, "indptr of a.h5ad")


@given(lengths=LENGTHS, piece=st.sampled_from([1, 2, 63, 64, 65, 1000]), data=st.data())
def test_it_answers_what_the_array_does(lengths: list[int], piece: int, data: st.DataObject) -> None:
    indptr = np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))])
    rows = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1))) if lengths else [], np.int64)
    places = np.unique(np.concatenate([indptr[:-1], indptr[1:] - 1, indptr[-1:]]).clip(0))
    for found in (compact(indptr, piece), PlainIndptr(indptr)):
        assert (found.n_rows, found.first, found.last) == (len(lengths), 0, indptr[-1])
        assert found.begins(rows).tolist() == indptr[rows].tolist()
        assert found.lengths(rows).tolist() == np.diff(indptr)[rows].tolist()
        assert found.all_lengths().tolist() == lengths
        assert found.rows_at(places).tolist() == (np.searchsorted(indptr, places, side="right") - 1).tolist()
        assert int(found.rows_at(indptr[-1])) == len(lengths)


@pytest.mark.parametrize(("most", "n_bytes"), [(255, 1.2), (20_000, 2.2), (2**31, 4.2), (2**40, 8.2)])
def test_it_takes_a_few_bytes_for_each_row(most: int, n_bytes: float) -> None:
    lengths = np.random.default_rng(0).integers(0, most, 10_000, endpoint=True)
    lengths[-1] = most
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    found = compact(indptr, 1000)
    assert found.nbytes <= n_bytes * len(lengths)
    assert (found.begins(np.arange(len(lengths))) == indptr[:-1]).all()


@pytest.mark.parametrize("dtype", ["<u8", ">i4", "i2"])
def test_integers_of_any_kind_are_taken(dtype: str) -> None:
    indptr = np.array([0, 3, 3, 10], dtype)
    assert compact(indptr, 2).begins(np.array([2, 0])).tolist() == [3, 0]


@pytest.mark.parametrize("piece", [1, 3, 100])
@pytest.mark.parametrize(
    ("indptr", "n_rows", "told"),
    [
        ([0, 1, 5, 4, 6], 4, "decreases after row 2"),
        ([0, 1, 5], 4, "has 3 entries, but 4 rows need one more"),
        ([0, 1, 5, 5, 5, 5, 9], 4, "has 7 entries, but 4 rows need one more"),
        ([], 0, "has 0 entries, but 0 rows need one more"),
        ([0, -1], 1, "decreases after row 0"),
        ([0, 2**62, -(2**63), -(2**62), 8], 4, "decreases after row 1"),  # each difference is 2^62 in 64 bits
    ],
)
def test_what_no_matrix_has_is_refused(indptr: list[int], n_rows: int, told: str, piece: int) -> None:
    with pytest.raises(DamageError, match=f"indptr of a.h5ad {told}"):
        compact(np.array(indptr, np.int64), piece, n_rows)
