"""CSR batches: what they are, what may be done with them, and what says how to do it."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch
from builders import dense, tiny
from scipy import sparse
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory

from annpipes import Compose, CsrTensors, IndexSource, Log1p, NormalizeTotal, SparseRows, stream
from annpipes.errors import ParameterError, ParameterTypeError
from annpipes.stages.collating import collate

MATRIX = np.array([[0, 0, 0], [1, 0, 2], [0, 0, 0], [0, 3, 0]], np.float32)


def rows_of(matrix: Any = MATRIX, kind: Any = sparse.csr_matrix) -> CsrTensors:
    """X of the only batch of an AnnData with this X."""
    (batch,) = stream(anndata.AnnData(kind(matrix)), batch_size=len(matrix), shuffle=False, form="csr")
    assert isinstance(batch["X"], CsrTensors)
    return batch["X"]


class TestWhatItIs:
    @pytest.mark.parametrize("kind", [sparse.csr_matrix, np.asarray])
    def test_parts_are_plain_tensors(self, kind: Any) -> None:
        rows = rows_of(kind=kind)
        assert rows.crow_indices.tolist() == [0, 0, 2, 2, 3]
        assert rows.col_indices.tolist() == [0, 2, 1]
        assert rows.values.tolist() == [1, 2, 3]
        assert rows.crow_indices.dtype == rows.col_indices.dtype == torch.int32

    def test_it_has_what_a_batch_has(self) -> None:
        rows = rows_of()
        assert (len(rows), rows.shape, rows.n_vars) == (4, (4, 3), 3)
        assert (rows.dtype, rows.device) == (torch.float32, torch.device("cpu"))
        assert repr(rows) == "CsrTensors(4 rows × 3, 3 values, float32)"

    # torch says of sparse CSR that it is in beta, at its first use in a process.
    @pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state:UserWarning")
    def test_torch_and_scipy_agree(self) -> None:
        rows = rows_of()
        assert torch.equal(rows.to_dense(), torch.from_numpy(MATRIX))
        assert torch.equal(rows.to_sparse_csr().to_dense(), torch.from_numpy(MATRIX))
        assert (rows.to_scipy().toarray() == MATRIX).all()
        assert rows.to_scipy().has_canonical_format

    def test_values_stored_twice_are_added_in_both_forms(self) -> None:
        twice = SparseRows(np.array([1.0, 2.0, 4.0], "f4"), np.array([1, 1, 0]), np.array([0, 2, 3]), 2)
        (batch,) = IndexSource(tiny(2)).sort_within_chunks(2).read_rows().batch_rows(2)
        assert collate(batch.replace(X=twice), "dense")["X"].tolist() == [[0, 3], [4, 0]]
        assert collate(batch.replace(X=twice), "csr")["X"].to_dense().tolist() == [[0, 3], [4, 0]]

    def test_no_rows(self) -> None:
        rows = CsrTensors(torch.zeros(1, dtype=torch.int32), torch.zeros(0, dtype=torch.int32), torch.zeros(0), 5)
        assert rows.to_dense().shape == rows.shape == (0, 5)
        assert list(rows) == []


class TestRows:
    """Chosen as torch chooses rows of a dense tensor."""

    @pytest.mark.parametrize(
        "chosen",
        [
            slice(1, 3),
            slice(None),
            slice(3, 1),
            slice(None, None, 2),
            slice(-2, None),
            [3, 0, 0],
            [],
            torch.tensor([-1, 1]),
        ],
        ids=str,
    )
    def test_several_are_sparse_again(self, chosen: Any) -> None:
        rows = rows_of()[torch.tensor([], dtype=torch.int64) if chosen == [] else chosen]
        assert isinstance(rows, CsrTensors)
        assert torch.equal(rows.to_dense(), torch.from_numpy(MATRIX)[chosen])

    def test_a_mask(self) -> None:
        mask = torch.tensor([False, True, False, True])
        assert torch.equal(rows_of()[mask].to_dense(), torch.from_numpy(MATRIX)[mask])

    def test_one_is_dense(self) -> None:
        assert [rows_of()[place].tolist() for place in (1, -1, np.int64(3))] == [[1, 0, 2], [0, 3, 0], [0, 3, 0]]
        with pytest.raises(IndexError, match="row 4 is out of range for 4 rows"):
            rows_of()[4]

    def test_one_by_one(self) -> None:
        assert [row.tolist() for row in rows_of()] == MATRIX.tolist()

    def test_columns_are_not_chosen(self) -> None:
        with pytest.raises(TypeError, match=r"rows can be indexed, columns cannot.*x\.to_dense\(\)"):
            rows_of()[:, 0]


class TestOnItsWay:
    def test_to_takes_devices_and_types(self) -> None:
        assert rows_of().to("cpu", non_blocking=True).cpu().to_dense().tolist() == MATRIX.tolist()
        half = rows_of().to(torch.float16)
        assert (half.dtype, half.crow_indices.dtype, half.to_dense().tolist()) == (
            torch.float16,
            torch.int32,
            MATRIX.tolist(),
        )
        assert rows_of().to(device="meta").device.type == "meta"

    def test_pickles_and_copies(self) -> None:
        for again in (pickle.loads(pickle.dumps(rows_of())), copy.deepcopy(rows_of())):
            assert torch.equal(again.to_dense(), torch.from_numpy(MATRIX))

    def test_passes_through_queues(self, h5ad: Path) -> None:
        pipe = IndexSource(h5ad).sort_within_chunks(7).read_rows(["X", "rows"]).batch_rows(4).collate_rows("csr")
        expected = torch.from_numpy(dense(anndata.read_h5ad(h5ad).X))
        for batch in DataLoader(pipe, batch_size=None, num_workers=2):
            assert isinstance(batch["X"], CsrTensors)
            assert torch.equal(batch["X"].to_dense(), expected[batch["rows"]])

    def test_torch_pins_it_by_its_own_method(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a GPU there is nothing to pin for; what matters is that torch asks the whole, as one thing."""
        pinned = rows_of()
        monkeypatch.setattr(CsrTensors, "pin_memory", lambda self: pinned)
        assert pin_memory({"X": rows_of()})["X"] is pinned


OPERATIONS = {
    "x + 1": lambda x: x + 1,
    "1 - x": lambda x: 1 - x,
    "x * x": lambda x: x * x,
    "x / tensor": lambda x: x / torch.ones(3),
    "tensor * x": lambda x: torch.ones(4, 3) * x,
    "x @ tensor": lambda x: x @ torch.ones(3),
    "tensor @ x": lambda x: torch.ones(4, 4) @ x,
    "-x": lambda x: -x,
    "x > 0": lambda x: x > 0,
    "log1p": torch.log1p,
    "sum": torch.sum,
    "linear": torch.nn.Linear(3, 1),
    "cat": lambda x: torch.cat([x, x]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_arithmetic_says_how_to_make_a_tensor(name: str) -> None:
    with pytest.raises(ParameterTypeError, match=r"make it dense, x\.to_dense\(\), or a torch sparse tensor"):
        OPERATIONS[name](rows_of())


def test_a_method_of_tensors_says_so_too() -> None:
    with pytest.raises(AttributeError, match=r"CsrTensors has no 'sum': make it dense, x\.to_dense\(\)"):
        rows_of().sum(dim=1)
    assert not hasattr(rows_of(), "sum")


def test_values_of_one_place_are_added_and_columns_ascend() -> None:
    matrix = sparse.csr_matrix((np.float32([1, 2, 4, 8, 16]), [3, 0, 3, 1, 0], [0, 3, 3, 5, 5]), (4, 5))
    rows = CsrTensors(*(torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data)), 5)
    distinct, expected = rows.without_duplicates(), matrix.copy()
    expected.sum_duplicates()
    for part, wanted in (("crow_indices", "indptr"), ("col_indices", "indices"), ("values", "data")):
        assert getattr(distinct, part).tolist() == getattr(expected, wanted).tolist()
    assert distinct.without_duplicates() is distinct
    assert rows.totals.tolist() == matrix.sum(1).ravel().tolist()[0]
    assert Log1p().on_batch(rows).to_dense().tolist() == np.log1p(matrix.toarray()).tolist()


def test_a_column_that_a_batch_lacks_is_not_replaced_by_something_else() -> None:
    with pytest.raises(ParameterError, match=r"total='obs/n_counts'\) needs obs/n_counts.*give it as transform="):
        Compose([Log1p(), NormalizeTotal(total="obs/n_counts")]).on_batch(torch.ones(2, 3))
