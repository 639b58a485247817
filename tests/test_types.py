from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from annpipes import Batch, Chunk, SparseRows
from annpipes.errors import FieldError
from annpipes.stores import densify
from annpipes.types import Total

DENSE = np.array([[0, 0, 0, 0], [1, 0, 2, 0], [0, 0, 0, 3], [0, 0, 0, 0], [4, 5, 0, 6]], np.float32)


def sparse_rows(dense: np.ndarray = DENSE) -> SparseRows:
    matrix = sparse.csr_matrix(dense)
    return SparseRows(matrix.data, matrix.indices, matrix.indptr.astype(np.int64), dense.shape[1])


def scipy_of(rows: SparseRows) -> sparse.csr_matrix:
    return sparse.csr_matrix((rows.data, rows.indices, rows.indptr), rows.shape)


def batch() -> Batch:
    fields = {"X": sparse_rows(), "obsm_pca": DENSE * 10, "obs_donor": np.array(list("abcde"), object)}
    return Batch(np.array([9, 3, 3, 7, 0]), fields)


def same(left: Batch, right: Batch) -> bool:
    return (
        left.rows.tolist() == right.rows.tolist()
        and list(left.keys()) == list(right.keys())
        and np.array_equal(scipy_of(left["X"]).toarray(), scipy_of(right["X"]).toarray())
        and np.array_equal(left["obsm_pca"], right["obsm_pca"])
        and left["obs_donor"].tolist() == right["obs_donor"].tolist()
    )


class TestChunk:
    def test_hands_rows_on_in_the_drawn_order(self) -> None:
        chunk = Chunk(np.array([2, 5, 5, 9]), np.array([3, 1, 0, 2]))
        assert chunk.drawn.tolist() == [9, 5, 2, 5]
        assert len(chunk) == 4

    def test_cannot_be_edited_and_pickles(self) -> None:
        chunk = Chunk(np.array([2, 5]), np.array([1, 0]))
        with pytest.raises(FrozenInstanceError):
            chunk.rows = np.array([1, 1])
        assert pickle.loads(pickle.dumps(chunk)).drawn.tolist() == [5, 2]


class TestSparseRows:
    def test_knows_its_shape_though_the_last_genes_are_empty(self) -> None:
        rows = sparse_rows(DENSE[:, :3])
        assert (rows.shape, len(rows), rows.lengths.tolist()) == ((5, 3), 5, [0, 2, 0, 0, 2])
        assert sparse_rows(np.zeros((3, 7))).shape == (3, 7)
        assert sparse_rows(np.zeros((0, 7))).shape == (0, 7)

    @given(st.slices(len(DENSE)))
    def test_any_slice_is_scipys(self, part: slice) -> None:
        taken = sparse_rows()[part]
        assert taken.indptr[0] == 0
        np.testing.assert_array_equal(scipy_of(taken).toarray(), DENSE[part])
        np.testing.assert_array_equal(taken.to_dense(), DENSE[part])

    def test_a_slice_copies_nothing(self) -> None:
        rows = sparse_rows()
        assert np.shares_memory(rows[1:3].data, rows.data)
        assert np.shares_memory(rows[1:3].indices, rows.indices)

    @pytest.mark.parametrize("kind", ["bool", "int8", "uint16", "int64", "float16", "float32", "float64", ">f4"])
    def test_dense_rows_are_float32_whatever_was_stored(self, kind: str) -> None:
        rows = sparse_rows().with_data(np.ones(6, kind))
        assert rows.to_dense().dtype == np.float32
        np.testing.assert_array_equal(rows.to_dense(), DENSE > 0)

    def test_dense_rows_replace_what_was_in_the_array_given(self) -> None:
        out = np.full(DENSE.shape, 77, np.float64)
        assert sparse_rows().to_dense(out) is out
        np.testing.assert_array_equal(out, DENSE)

    def test_values_stored_twice_for_one_place_are_added(self) -> None:
        rows = SparseRows(np.array([1.0, 2.0, 4.0, 8.0]), np.array([3, 0, 3, 3]), np.array([0, 3, 4]), 4)
        expected = [[2, 0, 0, 5], [0, 0, 0, 8]]
        assert rows.to_dense().tolist() == expected
        distinct = rows.without_duplicates()
        assert distinct.lengths.tolist() == [2, 1]
        assert scipy_of(distinct).toarray().tolist() == expected
        assert rows.data.tolist() == [1, 2, 4, 8]

    @given(st.lists(st.lists(st.integers(0, 3), max_size=5), max_size=6))
    def test_without_duplicates_keeps_every_total(self, columns: list[list[int]]) -> None:
        indices = np.array([column for row in columns for column in row], np.int32)
        indptr = np.cumsum([0, *map(len, columns)])
        rows = SparseRows(2.0 ** np.arange(len(indices)), indices, indptr, 4)
        distinct = rows.without_duplicates()
        np.testing.assert_array_equal(scipy_of(distinct).toarray(), scipy_of(rows).toarray())
        for start, stop in pairwise(distinct.indptr):
            assert len(set(distinct.indices[start:stop])) == stop - start

    def test_rows_without_duplicates_are_handed_back_as_they_are(self) -> None:
        rows = sparse_rows()
        assert rows.without_duplicates() is rows

    def test_other_values_in_the_same_places(self) -> None:
        rows = sparse_rows()
        np.testing.assert_array_equal(rows.with_data(rows.data * 2).to_dense(), DENSE * 2)
        np.testing.assert_array_equal(rows.to_dense(), DENSE)

    def test_cannot_be_edited_and_pickles(self) -> None:
        rows = sparse_rows()
        with pytest.raises(FrozenInstanceError):
            rows.n_vars = 9
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(rows)).to_dense(), DENSE)


class TestBatch:
    @given(st.slices(5))
    def test_any_slice_keeps_fields_row_aligned(self, part: slice) -> None:
        taken = batch()[part]
        assert len(taken) == len(taken["X"]) == len(DENSE[part])
        assert taken.rows.tolist() == [9, 3, 3, 7, 0][part]
        np.testing.assert_array_equal(taken["X"].to_dense(), DENSE[part])
        np.testing.assert_array_equal(taken["obsm_pca"], DENSE[part] * 10)
        assert taken["obs_donor"].tolist() == list("abcde")[part]

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 100])
    def test_split_is_slicing_again_and_again_and_copies_nothing(self, size: int) -> None:
        whole = batch()
        whole = Batch(whole.rows, dict(whole.fields), {"obs/n": np.arange(5), Total("X"): DENSE.sum(axis=1)})
        parts, expected = list(whole.split(size)), [whole[first : first + size] for first in range(0, 5, size)]
        assert all(map(same, parts, expected))
        assert [len(part) for part in parts] == [len(part) for part in expected]
        for part, other in zip(parts, expected, strict=True):
            assert part["X"].indptr.tolist() == other["X"].indptr.tolist()
            assert {need: values.tolist() for need, values in part.extras.items()} == {
                need: values.tolist() for need, values in other.extras.items()
            }
            assert not len(part["X"].data) or np.shares_memory(part["X"].data, whole["X"].data)
            assert np.shares_memory(part["obsm_pca"], whole["obsm_pca"])

    def test_of_no_rows_there_are_no_parts(self) -> None:
        assert list(batch()[:0].split(2)) == []

    def test_is_a_mapping_enough_for_dict(self) -> None:
        assert list(dict(batch())) == ["X", "obsm_pca", "obs_donor"]

    def test_a_key_it_lacks_is_named_with_those_it_has(self) -> None:
        with pytest.raises(FieldError, match=r"no 'obs_celltype' in this batch; it has X, obsm_pca, obs_donor"):
            batch()["obs_celltype"]

    def test_replace_makes_a_new_batch(self) -> None:
        old = batch()
        new = old.replace(X=DENSE, extra=np.arange(5))
        assert list(new.keys()) == ["X", "obsm_pca", "obs_donor", "extra"]
        assert isinstance(old["X"], SparseRows)
        assert "extra" not in old.keys()  # noqa: SIM118 (a Batch is no container of keys)
        assert new.rows is old.rows

    @given(st.lists(st.integers(0, 5), max_size=4).map(sorted))
    def test_concat_undoes_slicing(self, cuts: list[int]) -> None:
        edges = [0, *cuts, 5]
        parts = [batch()[start:stop] for start, stop in pairwise(edges)]
        assert same(Batch.concat(parts), batch())

    def test_cannot_be_edited_and_pickles(self) -> None:
        with pytest.raises(FrozenInstanceError):
            batch().rows = np.arange(5)
        assert same(pickle.loads(pickle.dumps(batch())), batch())


def test_a_boolean_that_is_stored_twice_is_true_once_as_scipy_has_it() -> None:
    matrix = sparse.csr_matrix((np.array([True, True]), np.array([1, 1]), np.array([0, 2])), shape=(1, 3))
    rows = SparseRows(matrix.data, matrix.indices, matrix.indptr.astype(np.int64), 3)
    np.testing.assert_array_equal(rows.to_dense(), matrix.toarray())
    np.testing.assert_array_equal(densify(rows), matrix.toarray())
