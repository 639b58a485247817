from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from builders import adata_of, dense, tiny, write
from contracts import StageContract, all_rows
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data.datapipes.iter import IterableWrapper

from annpipes import Batch, Chunk, IndexSource, RowBatcher, RowReader
from annpipes.errors import FieldError, FormatError, ParameterError, ParameterTypeError, PipelineError


class TestRowReader(StageContract):
    shuffled = True

    def chained(self, path: Path) -> Any:
        chunks = IndexSource(path, block_size=3).shuffle_blocks().sort_within_chunks(7)
        return chunks.read_rows(["rows", "X", "layers/counts", "obs/cell_type:code", "obs/note"])

    def constructed(self, path: Path) -> Any:
        pipe = self.chained(path)
        return RowReader(pipe.source_datapipe, ("rows", "X", "layers/counts", "obs/cell_type:code", "obs/note"))


class TestRowBatcher(StageContract):
    shuffled = True

    def chained(self, path: Path) -> Any:
        chunks = IndexSource(path, block_size=3).shuffle_blocks().sort_within_chunks(7)
        return chunks.read_rows(["rows", "X"]).batch_rows(3)

    def constructed(self, path: Path) -> Any:
        return RowBatcher(self.chained(path).source_datapipe, 3)


def chunks_of(adata: Any, rows: Any = None, chunk_size: int = 4) -> Any:
    return IndexSource(adata, rows=rows).sort_within_chunks(chunk_size)


class TestReading:
    def test_a_chunk_becomes_its_rows_in_the_drawn_order(self) -> None:
        pipe = chunks_of(tiny(10), [9, 2, 5, 2, 7]).read_rows(["X", "obs/number", "obs_names"])
        first, second = pipe
        assert first.rows.tolist() == first["obs_number"].tolist() == [9, 2, 5, 2]
        assert first["X"].tolist() == [[100 * row, 100 * row + 1, 100 * row + 2] for row in (9, 2, 5, 2)]
        assert second["obs_names"].tolist() == ["c7"]
        assert list(first.keys()) == ["X", "obs_number", "obs_names"]

    def test_one_field_may_be_given_by_itself(self) -> None:
        assert list(next(iter(chunks_of(tiny(3)).read_rows("obs/number"))).keys()) == ["obs_number"]

    def test_x_alone_is_read_by_default(self) -> None:
        assert list(next(iter(chunks_of(tiny(3)).read_rows())).keys()) == ["X"]

    @pytest.mark.parametrize(
        ("fields", "error", "message"),
        [
            (["obs/celltype"], FieldError, "no obs column 'celltype' in AnnData.*; columns: number"),
            (["layers/raw"], FieldError, "no field 'layers/raw' in AnnData.*; fields: X, obs/number, obs_names, rows"),
            (["uns/neighbors"], FieldError, "'uns/neighbors' has no rows along obs"),
            (["X", 3], ParameterTypeError, "fields must be strings such as 'X' or 'obs/cell_type', got 3"),
            (["X", "X"], ParameterError, "fields name 'X' twice: X, X"),
            (["obs/a", "obs/a:code"], ParameterError, "fields name 'obs_a' twice"),
        ],
    )
    def test_a_wrong_field_is_told_before_anything_is_read(
        self, fields: Any, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            chunks_of(tiny(3)).read_rows(fields)

    def test_columns_on_disk_are_told_before_anything_is_read(self, tmp_path: Path) -> None:
        path = write(adata_of(x="csc"), tmp_path / "cells.h5ad")
        with pytest.raises(FormatError, match=r"CSC.*tocsr\(\)"):
            chunks_of(path).read_rows()

    def test_it_needs_a_source(self) -> None:
        chunks = IterableWrapper([Chunk(np.array([0]), np.array([0]))])
        with pytest.raises(PipelineError, match=r"read_rows needs a pipe with one Source, and .* has none"):
            RowReader(chunks)

    def test_stages_of_ones_own_may_stand_before_it(self) -> None:
        pipe = chunks_of(tiny(10)).filter(odd_first).read_rows("rows")
        assert all_rows(pipe) == [4, 5, 6, 7]


def odd_first(chunk: Chunk) -> bool:
    return bool(chunk.rows[0] // 4 % 2)


class TestBatching:
    @given(sizes=st.lists(st.integers(0, 9), max_size=8), batch_size=st.integers(1, 12), drop_last=st.booleans())
    def test_batches_do_not_depend_on_chunks(self, sizes: list[int], batch_size: int, drop_last: bool) -> None:
        edges = np.cumsum([0, *sizes])
        parts = [Batch(np.arange(a, b), {"a": np.arange(a, b)}) for a, b in pairwise(edges)]
        pipe = RowBatcher(IterableWrapper(parts, deepcopy=False), batch_size, drop_last=drop_last)
        batches = [batch.rows.tolist() for batch in pipe]
        whole = list(range(sum(sizes)))
        expected = [whole[start : start + batch_size] for start in range(0, len(whole), batch_size)]
        if drop_last and expected and len(expected[-1]) < batch_size:
            expected.pop()
        assert batches == expected == [batch["a"].tolist() for batch in pipe]

    def test_rows_of_every_field_stay_together_over_the_edge_of_a_chunk(self, adata: anndata.AnnData) -> None:
        fields = ["X", "layers/logged", "obsm/near", "obs/barcode", "obs/int64"]
        for batch in chunks_of(adata, chunk_size=7).read_rows(fields).batch_rows(5):
            expected = adata[batch.rows]
            np.testing.assert_array_equal(dense(batch["X"]), dense(expected.X))
            np.testing.assert_array_equal(batch["layers_logged"], expected.layers["logged"])
            np.testing.assert_array_equal(dense(batch["obsm_near"]), dense(expected.obsm["near"]))
            assert batch["obs_barcode"].tolist() == expected.obs["barcode"].tolist()
            assert batch["obs_int64"].tolist() == expected.obs["int64"].tolist()

    def test_a_batch_within_a_chunk_copies_nothing(self) -> None:
        pipe = chunks_of(tiny(8), chunk_size=8).read_rows()
        (chunk,) = pipe
        first, second = RowBatcher(IterableWrapper([chunk], deepcopy=False), 4)
        assert np.shares_memory(first["X"], chunk["X"])
        assert np.shares_memory(second["X"], chunk["X"])

    @pytest.mark.parametrize(
        ("batch_size", "error", "message"),
        [
            (0, ParameterError, "batch_size must be at least 1, got 0"),
            (None, ParameterTypeError, "batch_size must be an integer, got None"),
            (True, ParameterTypeError, "batch_size must be an integer, got True"),
        ],
    )
    def test_a_wrong_batch_size_is_named(self, batch_size: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            chunks_of(tiny(3)).read_rows().batch_rows(batch_size)
