"""CSR batches in other frameworks; the oracle is scipy. cupy needs a GPU, so of it only the refusals are tested."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch
from builders import dense
from scipy import sparse

from annpipes import CsrTensors, stream
from annpipes.errors import ParameterError

MATRIX = sparse.random(7, 9, 0.3, "csr", dtype=np.float32, random_state=3)


def rows_of(matrix: Any = MATRIX) -> CsrTensors:
    """X of the only batch of an AnnData with this X."""
    (batch,) = stream(anndata.AnnData(matrix), batch_size=matrix.shape[0], shuffle=False, form="csr")
    rows: CsrTensors = batch["X"]
    return rows


class TestJax:
    @pytest.fixture(autouse=True)
    def jax(self) -> Any:
        return pytest.importorskip("jax", reason="jax is no dependency: pip install jax")

    def test_has_what_scipy_has(self, h5ad: Path) -> None:
        expected = dense(anndata.read_h5ad(h5ad).X)
        for batch in stream(h5ad, 8, fields=["X", "rows"], form="csr"):
            found = batch["X"].to_jax()
            assert type(found).__name__ == "BCSR"
            assert (found.shape, found.dtype, found.indices.dtype) == (batch["X"].shape, np.float32, np.int32)
            np.testing.assert_array_equal(found.todense(), expected[batch["rows"].numpy()])

    @pytest.mark.parametrize("nse", [None, 40])
    def test_computes_what_scipy_computes(self, jax: Any, nse: int | None) -> None:
        found, weights = rows_of().to_jax(nse), np.arange(18, dtype=np.float32).reshape(9, 2)
        np.testing.assert_allclose(found @ weights, MATRIX @ weights, rtol=1e-6)
        np.testing.assert_allclose(found.to_bcoo().sum(1).todense(), MATRIX.sum(1).A1, rtol=1e-6)
        slope = jax.grad(lambda weights: (found @ weights).sum())(weights)
        np.testing.assert_allclose(slope, MATRIX.T @ np.ones((7, 2)), rtol=1e-6)

    def test_is_compiled_once_for_batches_of_one_nse(self, jax: Any) -> None:
        times = []

        @jax.jit
        def product(rows: Any, weights: Any) -> Any:
            times.append(1)  # while it is traced
            return rows @ weights

        for nse in (None, 40):
            times.clear()
            for part in (slice(0, 3), slice(2, 5), slice(4, 7)):
                result = product(rows_of()[part].to_jax(nse), np.eye(9, dtype=np.float32))
                np.testing.assert_array_equal(result, MATRIX[part].toarray())
            assert len(times) == (3 if nse is None else 1)

    def test_copies_nothing_where_jax_can_read(self) -> None:
        """Memory that torch has just taken begins at a multiple of 64 bytes, as jax wants it."""
        rows = CsrTensors(torch.arange(65, dtype=torch.int32), torch.zeros(64, dtype=torch.int32), torch.ones(64), 5)
        assert rows.to_jax().data.unsafe_buffer_pointer() == rows.values.data_ptr()

    def test_no_rows_and_no_values(self) -> None:
        empty = rows_of()[:0]
        assert empty.to_jax().todense().shape == (0, 9)
        assert empty.to_jax(4).nse == 4
        assert not rows_of(sparse.csr_matrix((3, 4), dtype=np.float32)).to_jax().todense().any()

    def test_too_little_room_is_refused(self) -> None:
        with pytest.raises(ParameterError, match=f"nse must be at least {MATRIX.nnz}, the number of values, got 2"):
            rows_of().to_jax(2)

    def test_numbers_that_jax_would_cut_are_refused(self, jax: Any) -> None:
        with pytest.raises(ParameterError, match=r"jax makes float32 of torch\.float64: jax\.config\.update"):
            rows_of().to(torch.float64).to_jax()
        wide = CsrTensors(torch.tensor([0, 1]), torch.tensor([2**32]), torch.tensor([1.0]), 2**33)
        with pytest.raises(ParameterError, match=r"jax makes int32 of torch\.int64"):
            wide.to_jax()
        jax.config.update("jax_enable_x64", True)
        try:
            assert rows_of().to(torch.float64).to_jax().dtype == np.float64
            assert wide.to_jax().indices.tolist() == [2**32]
        finally:
            jax.config.update("jax_enable_x64", False)

    def test_places_of_64_bits_become_narrow_where_they_fit(self) -> None:
        rows = CsrTensors(torch.tensor([0, 2, 3]), torch.tensor([0, 3, 1]), torch.tensor([1.0, 2.0, 5.0]), 4)
        assert rows.to_jax().todense().tolist() == [[1, 0, 0, 2], [0, 5, 0, 0]]


def test_cupy_is_for_a_gpu() -> None:
    with pytest.raises(ParameterError, match=r"cupy arrays are on a GPU, but these values are on cpu: x\.cuda\(\)"):
        rows_of().to_cupy()


def test_a_framework_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(ModuleNotFoundError, match="to_jax needs jax"):
        rows_of().to_jax()
