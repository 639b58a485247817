from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch
from builders import adata_of, dense, expected_column, tiny
from contracts import StageContract

from annpipes import Collator, CsrTensors, IndexSource
from annpipes.errors import ParameterError
from annpipes.stages.collating import collate, tensor_of

FIELDS = ["rows", "X", "layers/counts", "obsm/X_pca", "obs/donor", "obs/int32"]


class TestCollator(StageContract):
    shuffled = True

    def chained(self, path: Path) -> Any:
        chunks = IndexSource(path, block_size=3).shuffle_blocks().sort_within_chunks(7)
        return chunks.read_rows(FIELDS).batch_rows(4).collate_rows()

    def constructed(self, path: Path) -> Any:
        return Collator(self.chained(path).source_datapipe)


class TestCollatorSparse(TestCollator):
    def chained(self, path: Path) -> Any:
        return super().chained(path).source_datapipe.collate_rows("csr")

    def constructed(self, path: Path) -> Any:
        return Collator(self.chained(path).source_datapipe, form="csr")


def collated(adata: anndata.AnnData, fields: list[str], x: Any = "dense", batch_size: int = 29) -> dict[str, Any]:
    pipe = IndexSource(adata).sort_within_chunks(29).read_rows(fields).batch_rows(batch_size)
    return next(iter(pipe.collate_rows(x)))


@pytest.mark.parametrize("form", ["csr", "csr_array", "dense"])
@pytest.mark.parametrize("kind", ["float32", "float64", "int64", "uint8", "uint16", "bool"])
@pytest.mark.parametrize("x", ["dense", "csr"])
def test_x_is_float32_however_it_is_stored(form: str, kind: str, x: str) -> None:
    adata = adata_of(x=form, dtype=kind)
    batch = collated(adata, ["X", "layers/counts", "layers/logged", "obsm/near", "obsm/X_pca"], x)
    expected = torch.from_numpy(dense(adata.X).astype(np.float32))
    assert isinstance(batch["X"], torch.Tensor if x == "dense" else CsrTensors)
    values = batch["X"] if x == "dense" else batch["X"].to_dense()
    assert values.dtype == torch.float32
    assert torch.equal(values, expected)
    assert isinstance(batch["obsm_near"], torch.Tensor if x == "dense" else CsrTensors)  # stored sparse
    for field in ("layers_logged", "obsm_X_pca"):  # stored dense
        assert batch[field].dtype == torch.float32
        np.testing.assert_allclose(batch[field], getattr(adata, field.split("_")[0])[field.split("_", 1)[1]], rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 29])
def test_the_width_is_always_that_of_the_data(adata: anndata.AnnData, batch_size: int) -> None:
    for x in ("dense", "csr"):
        pipe = IndexSource(adata).sort_within_chunks(10).read_rows().batch_rows(batch_size).collate_rows(x)
        assert {batch["X"].shape[1] for batch in pipe} == {11}


def test_obs_columns_become_tensors_of_their_own_type_or_lists(adata: anndata.AnnData) -> None:
    wider = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}
    batch = collated(adata, [f"obs/{column}" for column in adata.obs])
    for column in adata.obs:
        expected, values = expected_column(adata.obs[column]), batch[f"obs_{column}"]
        if expected.dtype == object:
            assert values == expected.tolist()
            assert all(type(value) is str for value in values)
        else:
            np.testing.assert_array_equal(values.numpy(), expected)
            own = torch.from_numpy(expected.copy()).dtype  # pandas 3 gives what is not to be written to
            assert values.dtype == wider.get(own, own), column


def test_codes_and_rows_are_int64(adata: anndata.AnnData) -> None:
    batch = collated(adata, ["obs/cell_type:code", "rows", "obs_names"])
    assert batch["obs_cell_type"].dtype == batch["rows"].dtype == torch.int64
    assert batch["obs_cell_type"].tolist() == adata.obs["cell_type"].cat.codes.tolist()
    assert batch["obs_names"] == adata.obs_names.tolist()


@pytest.mark.parametrize("kind", [">f4", ">i2", ">u2", "<f8", "float16"])
def test_foreign_byte_orders_become_our_own(kind: str) -> None:
    values = np.array([1, 2, 300]).astype(kind)
    assert tensor_of(values).tolist() == [1, 2, 300]


def test_a_number_too_large_for_torch_is_refused_not_wrapped() -> None:
    fits = np.array([1, 2**63 - 1], np.uint64)
    assert tensor_of(fits).tolist() == [1, 2**63 - 1]
    with pytest.raises(ParameterError, match=str(2**63 + 5)):
        tensor_of(np.array([1, 2**63 + 5], np.uint64))


def test_a_batch_of_views_is_made_whole() -> None:
    values = np.arange(12.0).reshape(3, 4)
    pipe = IndexSource(tiny(3)).sort_within_chunks(3).read_rows().batch_rows(3)
    (batch,) = pipe
    for odd in (values[::-1], values.T[:, ::-1].T, np.asfortranarray(values), np.broadcast_to(values[:1], (3, 4))):
        for x in ("dense", "csr"):
            got = collate(batch.replace(X=odd), x)["X"]
            assert (got if x == "dense" else got.to_dense()).tolist() == odd.tolist()
    assert collate(batch.replace(y=np.arange(3)[::-1]))["y"].tolist() == [2, 1, 0]


@pytest.mark.parametrize("x", ["sparse", None, "CSR", ["dense"]])
def test_another_form_is_refused(x: Any) -> None:
    with pytest.raises(ParameterError, match="form must be 'dense' or 'csr', got "):
        IndexSource(tiny(3)).sort_within_chunks(3).read_rows().batch_rows(3).collate_rows(x)
