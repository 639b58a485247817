"""Shipped transforms against scanpy, numpy and scikit-learn; and what a transform of one's own may count on."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import anndata
import numpy as np
import pytest
import scanpy
import torch
from builders import counts, dense
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.preprocessing import binarize

import annpipes
from annpipes import Binarize, Clip, Compose, CsrTensors, Log1p, NormalizeTotal, Scale, SparseRows, Transform
from annpipes.errors import ParameterError, ParameterTypeError
from annpipes.transforms.applying import transform_x
from annpipes.transforms.base import as_transform

VALUES = counts().astype(np.float32)
MEAN, STD = VALUES.mean(axis=0), VALUES.std(axis=0, ddof=1)


# scanpy says of empty cells that there are some; that they stay as they are is what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:Some cells have zero counts:UserWarning")


def scanpys(*steps: Callable[[anndata.AnnData], object]) -> np.ndarray:
    """X after functions of scanpy."""
    adata = anndata.AnnData(VALUES.copy())
    for step in steps:
        step(adata)
    return adata.X


class Case(NamedTuple):
    """A transform, what it must give, and whether sparse rows stay sparse."""

    transform: Transform
    oracle: Callable[[], np.ndarray]
    stays_sparse: bool


total, log1p, scale = scanpy.pp.normalize_total, scanpy.pp.log1p, scanpy.pp.scale
SHIPPED = {
    "normalized": Case(NormalizeTotal(50), lambda: scanpys(partial(total, target_sum=50)), True),
    "logged": Case(Log1p(), lambda: scanpys(log1p), True),
    "both": Case(Compose([NormalizeTotal(), Log1p()]), lambda: scanpys(partial(total, target_sum=1e4), log1p), True),
    "scaled": Case(Scale(MEAN, STD), lambda: scanpys(scale), False),
    "scaled and cut": Case(Scale(MEAN, STD, max_value=0.7), lambda: scanpys(partial(scale, max_value=0.7)), False),
    "scaled off centre": Case(
        Scale(MEAN, STD, zero_center=False), lambda: scanpys(partial(scale, zero_center=False)), True
    ),
    "scaled off centre, cut": Case(
        Scale(MEAN, STD, zero_center=False, max_value=1),
        lambda: scanpys(partial(scale, zero_center=False, max_value=1)),
        True,
    ),
    "cut from above": Case(Clip(high=2), lambda: np.clip(VALUES, None, 2), True),
    "cut from below": Case(Clip(low=1), lambda: np.clip(VALUES, 1, None), False),
    "cut from both": Case(Clip(-1, 3), lambda: np.clip(VALUES, -1, 3), True),
    "cut below zero": Case(Clip(high=-1), lambda: np.clip(VALUES, None, -1), False),
    "present": Case(Binarize(), lambda: binarize(VALUES), True),
    "more than two": Case(Binarize(2), lambda: binarize(VALUES, threshold=2), True),
    "all": Case(Binarize(-1), lambda: np.ones_like(VALUES), False),
}


def sparse_rows(values: np.ndarray = VALUES) -> SparseRows:
    matrix = sparse.csr_matrix(values)
    return SparseRows(matrix.data, matrix.indices, matrix.indptr.astype(np.int64), values.shape[1])


@pytest.mark.parametrize("case", SHIPPED.values(), ids=SHIPPED)
class TestShipped:
    def test_dense_and_sparse_rows(self, case: Case) -> None:
        on_dense, on_sparse = transform_x(case.transform, VALUES), transform_x(case.transform, sparse_rows())
        assert isinstance(on_sparse, SparseRows) == case.stays_sparse
        assert on_dense.dtype == (on_sparse.data if case.stays_sparse else on_sparse).dtype == np.float32
        assert_close(on_dense, case.oracle())
        assert_close(on_sparse, case.oracle())

    @pytest.mark.parametrize("part", [slice(None), slice(5, 6), slice(3, 3)], ids=str)
    def test_tensors_where_they_are(self, case: Case, part: slice) -> None:
        given = CsrTensors.of(sparse_rows()[part])
        on_csr, on_dense = case.transform.on_batch(given), case.transform.on_batch(torch.from_numpy(VALUES[part]))
        assert isinstance(on_csr, CsrTensors) == case.stays_sparse
        assert_close(on_csr.to_dense() if isinstance(on_csr, CsrTensors) else on_csr, case.oracle()[part])
        assert_close(on_dense, case.oracle()[part])

    def test_parts_of_a_batch(self, case: Case) -> None:
        expected = case.oracle()
        for part in (slice(0, 1), slice(5, 9), slice(28, 29), slice(3, 3)):
            for rows in (VALUES[part], sparse_rows()[part]):
                assert_close(transform_x(case.transform, rows), expected[part])

    def test_one_cell_by_itself(self, case: Case) -> None:
        expected = case.oracle()
        for row in (0, 1, 28):
            x = torch.from_numpy(VALUES[row].copy())
            assert_close(case.transform(x), expected[row])
            assert torch.equal(x, torch.from_numpy(VALUES[row]))  # not edited

    def test_whole_numbers_and_doubles(self, case: Case) -> None:
        for kind in ("int64", "uint16", "float64"):
            for rows in (VALUES.astype(kind), sparse_rows().with_data(sparse_rows().data.astype(kind))):
                assert_close(transform_x(case.transform, rows), case.oracle())

    def test_pickles(self, case: Case) -> None:
        copy = pickle.loads(pickle.dumps(case.transform))
        np.testing.assert_array_equal(transform_x(copy, VALUES), transform_x(case.transform, VALUES))
        assert repr(copy) == repr(case.transform)

    def test_repr_could_be_typed_back(self, case: Case) -> None:
        if isinstance(case.transform, Scale):  # but for arrays, of which it gives the shape
            assert repr(case.transform).startswith("Scale(mean=<array (11,)>, std=<array (11,)>")
            return
        typed = eval(repr(case.transform), dict(vars(annpipes)))  # noqa: S307 (our own repr)
        assert repr(typed) == repr(case.transform)
        np.testing.assert_array_equal(transform_x(typed, VALUES), transform_x(case.transform, VALUES))


def assert_close(rows: Any, expected: np.ndarray) -> None:
    np.testing.assert_allclose(dense(rows), expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("transform", "shown"),
    [
        (NormalizeTotal(), "NormalizeTotal()"),
        (NormalizeTotal(500), "NormalizeTotal(target_sum=500)"),
        (Log1p(), "Log1p()"),
        (Clip(high=3.5), "Clip(high=3.5)"),
        (Clip(0, 3), "Clip(low=0, high=3)"),
        (Binarize(2), "Binarize(threshold=2)"),
        (Scale([1, 2], [1, 1], max_value=3), "Scale(mean=<array (2,)>, std=<array (2,)>, max_value=3)"),
        (Compose([NormalizeTotal(5), Log1p()]), "Compose([NormalizeTotal(target_sum=5), Log1p()])"),
    ],
)
def test_reprs_are_short(transform: Transform, shown: str) -> None:
    assert repr(transform) == shown


def test_a_total_of_millions_of_counts_is_exact() -> None:
    # float32 holds whole numbers up to 2**24 only; scanpy's total would be off here, so the oracle is a fraction.
    values = np.full((1, 20_000), 2.0**20, np.float32)
    values[0, 0] = 1
    for rows in (values, sparse_rows(values)):
        result = dense(transform_x(NormalizeTotal(float(2**20 * 19_999 + 1)), rows))
        np.testing.assert_allclose(result, values, rtol=1e-7)


def test_a_gene_that_never_varies_is_divided_by_one() -> None:
    result = transform_x(Scale([2, 1], [0, 2]), np.array([[5, 5]], np.float32))
    assert result.tolist() == [[3, 2]]


@given(st.lists(st.lists(st.integers(0, 2**20), min_size=4, max_size=4), min_size=1, max_size=6))
def test_sparse_and_dense_agree_on_any_counts(rows: list[list[int]]) -> None:
    values = np.array(rows, np.float32)
    for transform in (NormalizeTotal(1e4), Log1p(), Clip(high=7), Binarize(3), Compose([NormalizeTotal(7), Log1p()])):
        one, other = transform_x(transform, values), dense(transform_x(transform, sparse_rows(values)))
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("zero_center", [True, False])
@pytest.mark.parametrize("n_genes", [4, 20])
def test_a_scale_of_another_width_is_refused_for_dense_and_sparse_rows(zero_center: bool, n_genes: int) -> None:
    scale = Scale(np.zeros(n_genes), np.ones(n_genes), zero_center=zero_center)
    for rows in (VALUES, sparse_rows()):
        with pytest.raises(ParameterError, match=f"Scale was made for {n_genes} genes, got rows of 11"):
            transform_x(scale, rows)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: NormalizeTotal(0), ParameterError, "target_sum must be greater than 0, got 0"),
        (lambda: NormalizeTotal(-1.5), ParameterError, r"target_sum must be greater than 0, got -1\.5"),
        (lambda: NormalizeTotal(float("nan")), ParameterError, "target_sum must be greater than 0, got nan"),
        (lambda: Scale([1, 2], [1]), ParameterError, r"of one length, got shapes \(2,\) and \(1,\)"),
        (lambda: Scale([[1, 2]], [[1, 2]]), ParameterError, "of one length, got shapes"),
        (lambda: Scale(1, 2), ParameterError, "of one length, got shapes"),
        (lambda: Clip(), ParameterError, "Clip needs low, high or both, got neither"),
        (lambda: Clip(3, 1), ParameterError, "low must not exceed high, got low=3 and high=1"),
        (lambda: Compose([]), ParameterError, "transforms must hold at least one Transform, got none"),
        (lambda: Compose([Log1p(), np.log1p]), ParameterTypeError, "transforms takes instances of annpipes.Transform"),
        (lambda: Compose([Log1p]), ParameterTypeError, r"transforms takes instances: Log1p\(…\), not the class"),
        (lambda: Compose([None]), ParameterTypeError, "got None"),
        (
            lambda: as_transform(abs),
            ParameterTypeError,
            "transform takes instances of annpipes.Transform, got <built-in",
        ),
    ],
)
def test_a_wrong_parameter_is_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_transform_without_call_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        type("Nothing", (Transform,), {})()


class Share(Transform):
    """Written for one cell, along the last dimension."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x / torch.sum(x, dim=-1, keepdim=True).clamp(min=1)


class PlainShare(Transform):
    """Written for one cell, and wrong for several at once."""

    def __init__(self, power: int = 1) -> None:
        self.power = power

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return (x / max(float(x.sum()), 1.0)) ** self.power


class BatchedShare(Share):
    batched = True


class Chosen(Transform):
    """Some genes of one cell."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x[[2, 0]]


@pytest.mark.parametrize("transform", [Share(), PlainShare(), BatchedShare(), Compose([Share()])], ids=repr)
@pytest.mark.parametrize("rows", [VALUES, sparse_rows()], ids=["dense", "sparse"])
def test_a_cells_numbers_do_not_depend_on_its_batch(transform: Transform, rows: Any) -> None:
    whole = transform_x(transform, rows)
    np.testing.assert_allclose(whole, VALUES / np.maximum(VALUES.sum(axis=1, keepdims=True), 1), rtol=1e-6)
    for start, stop in [(0, 1), (1, 2), (4, 9), (28, 29)]:
        np.testing.assert_array_equal(transform_x(transform, rows[start:stop]), whole[start:stop])


class TestCompose:
    def test_steps_run_in_the_order_given(self) -> None:
        x = torch.tensor([1.0, 3.0])
        assert Compose([Clip(high=2), NormalizeTotal(6)])(x).tolist() == [2, 4]
        assert Compose([NormalizeTotal(6), Clip(high=2)])(x).tolist() == [1.5, 2]

    def test_any_iterable_of_transforms_is_taken_and_kept(self) -> None:
        made = Compose(transform for transform in (Log1p(), Clip(high=2)))
        for _ in range(2):
            assert [repr(step) for step in made.steps()] == ["Log1p()", "Clip(high=2)"]

    def test_compositions_may_be_nested(self) -> None:
        nested = Compose([Compose([NormalizeTotal(5)]), Compose([Log1p(), Compose([Clip(high=1)])])])
        flat = Compose([NormalizeTotal(5), Log1p(), Clip(high=1)])
        assert list(map(repr, nested.steps())) == list(map(repr, flat.steps()))
        for rows in (VALUES, sparse_rows()):
            np.testing.assert_array_equal(dense(transform_x(nested, rows)), dense(transform_x(flat, rows)))

    def test_each_step_is_called_as_it_wants(self) -> None:
        mixed = Compose([BatchedShare(), Chosen(), PlainShare(2), Log1p()])
        expected = torch.stack([mixed(torch.from_numpy(row)) for row in VALUES])
        for rows in (VALUES, sparse_rows()):
            np.testing.assert_allclose(transform_x(mixed, rows), expected, rtol=1e-6)
        assert mixed(torch.from_numpy(VALUES)).shape == (29, 2)  # whole batches, called directly

    @pytest.mark.parametrize("steps", [None, 3, Log1p()])
    def test_what_is_no_list_is_refused(self, steps: Any) -> None:
        with pytest.raises(ParameterTypeError, match="transforms"):
            Compose(steps)


def test_a_transform_of_ones_own_has_a_repr() -> None:
    assert repr(PlainShare(3)) == "PlainShare(power=3)"
    assert repr(PlainShare()) == "PlainShare()"
    assert repr(Compose([PlainShare(2)])) == "Compose([PlainShare(power=2)])"


@pytest.mark.parametrize("transform", [PlainShare(), Chosen(), Compose([Chosen(), Log1p()])], ids=repr)
def test_no_cells_need_no_call(transform: Transform) -> None:
    for rows in (VALUES[:0], sparse_rows()[:0]):
        assert len(transform_x(transform, rows)) == 0
