from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch
from builders import adata_of, dense
from contracts import all_rows, rows_seen
from hypothesis import given
from hypothesis import strategies as st
from small_loaders import SHARED, batches, loader_of

from annpipes import Batch, CsrTensors, IndexSource, Loader, Log1p, NormalizeTotal, stream
from annpipes.errors import FieldError, ParameterError, ParameterTypeError, PipelineError, RowIndexError


class TestOrder:
    @pytest.mark.parametrize("num_workers", [0, 1, 2])
    @pytest.mark.parametrize("prefetch", [0, 1, 4])
    @pytest.mark.parametrize("data", ["memory", "file"])
    def test_the_same_batches_however_they_are_run(
        self, h5ad: Path, data: str, num_workers: int, prefetch: int
    ) -> None:
        source = h5ad if data == "file" else anndata.read_h5ad(h5ad)
        options = {
            "fields": ["X", "rows", "obs/donor"],
            "transform": NormalizeTotal(9),
            "block_size": 2,
            "chunk_size": 8,
        }
        plain = list(stream(source, 3, **options, prefetch=0))
        other = list(stream(source, 3, **options, num_workers=num_workers, prefetch=prefetch))
        assert len(plain) == len(other) == 10
        for one, two in zip(plain, other, strict=True):
            assert torch.equal(one["X"], two["X"])
            assert torch.equal(one["rows"], two["rows"])
            assert one["obs_donor"] == two["obs_donor"]

    def test_memory_and_file_have_one_order(self, h5ad: Path) -> None:
        options = {"fields": ["rows"], "block_size": 2, "chunk_size": 8}
        assert batches(stream(h5ad, 3, **options)) == batches(stream(anndata.read_h5ad(h5ad), 3, **options))

    def test_every_pass_is_another_epoch(self) -> None:
        loader = loader_of()
        epochs = [batches(loader) for _ in range(5)]
        assert loader.epoch == 5
        assert all(sorted(row for batch in epoch for row in batch) == list(range(40)) for epoch in epochs)
        assert all(epochs.count(epoch) == 1 for epoch in epochs)

    def test_an_epoch_can_be_repeated(self) -> None:
        loader = loader_of()
        first, second = batches(loader), batches(loader)
        loader.set_epoch(0)
        assert (batches(loader), batches(loader)) == (first, second)
        fresh = loader_of()
        fresh.set_epoch(1)
        assert batches(fresh) == second

    def test_seed_0_is_a_seed_and_seeds_differ(self) -> None:
        orders = {seed: batches(loader_of(seed=seed)) for seed in (0, 1, 2, 2**40)}
        assert all(batches(loader_of(seed=seed)) == order for seed, order in orders.items())
        assert len({str(order) for order in orders.values()}) == 4
        assert batches(loader_of(seed=np.int64(1))) == orders[1]

    def test_seed_and_epoch_do_not_run_into_each_other(self) -> None:
        one, two = loader_of(seed=0), loader_of(seed=1)
        one.set_epoch(1)
        two.set_epoch(0)
        assert batches(one) != batches(two)

    def test_ambient_randomness_is_neither_read_nor_moved(self) -> None:
        expected = batches(loader_of())
        torch.manual_seed(99)
        state = torch.get_rng_state()
        assert batches(loader_of()) == expected
        assert torch.equal(torch.get_rng_state(), state)

    def test_two_passes_at_once_are_two_epochs(self) -> None:
        loader = loader_of(num_workers=1)
        pairs = [(rows_seen(one), rows_seen(two)) for one, two in zip(loader, loader, strict=True)]
        loader.set_epoch(0)
        assert [one for one, _ in pairs] == batches(loader)
        assert [two for _, two in pairs] == batches(loader)

    def test_a_batch_is_not_made_of_whole_blocks(self) -> None:
        for rows in batches(loader_of(48, batch_size=8, chunk_size=48, block_size=8)):
            assert len({row // 8 for row in rows}) > 2

    def test_an_unshuffled_pipe_stays_in_order(self) -> None:
        loader = Loader(IndexSource(SHARED).sort_within_chunks(7).read_rows(["rows"]).batch_rows(5), num_workers=2)
        for _ in range(2):
            assert all_rows(loader) == list(range(60))


class TestLength:
    @given(
        n_obs=st.integers(0, 60),
        batch_size=st.integers(1, 70),
        chunk_size=st.integers(1, 80),
        block_size=st.integers(1, 70),
        drop_last=st.booleans(),
    )
    def test_len_is_exact_and_every_row_comes_once(
        self, n_obs: int, batch_size: int, chunk_size: int, block_size: int, drop_last: bool
    ) -> None:
        loader = loader_of(n_obs, batch_size, chunk_size, block_size, drop_last, prefetch=0)
        seen = batches(loader)
        assert len(loader) == len(seen)
        rows = [row for batch in seen for row in batch]
        assert len(set(rows)) == len(rows)
        assert all(len(batch) == batch_size for batch in seen[:-1])
        if drop_last:
            assert len(rows) == n_obs // batch_size * batch_size
            assert all(len(batch) == batch_size for batch in seen)
        else:
            assert sorted(rows) == list(range(n_obs))

    @pytest.mark.parametrize("n_obs", [0, 1, 3, 4, 5, 12, 13, 40])
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_with_threads_too(self, n_obs: int, num_workers: int) -> None:
        loader = loader_of(n_obs, num_workers=num_workers, prefetch=3)
        assert len(loader) == len(batches(loader)) == -(-n_obs // 4)

    def test_what_is_dropped_changes_with_the_epoch(self) -> None:
        loader = loader_of(41, batch_size=4, drop_last=True)
        assert len({frozenset(all_rows(loader)) for _ in range(10)}) > 3

    @pytest.mark.parametrize("filtering", ["filter", "map"])
    def test_stages_that_drop_rows_before_batching_do_not_make_the_length_a_lie(self, filtering: str) -> None:
        chunks = IndexSource(SHARED).sort_within_chunks(10).read_rows(["rows"])
        pipe = chunks.filter(is_even) if filtering == "filter" else chunks.map(first_half)
        loader = Loader(pipe.batch_rows(4))
        try:
            seen = list(loader)
        except PipelineError:
            return
        assert len(seen) == len(loader)


def is_even(batch: Batch) -> bool:
    return int(batch.rows[0]) // 10 % 2 == 0


def first_half(batch: Batch) -> Batch:
    return batch[: len(batch) // 2]


class TestStream:
    def test_it_is_the_default_pipe_in_one_line(self) -> None:
        adata = adata_of()
        loader = stream(
            adata, 5, fields=["X", "obs/cell_type:code"], transform=Log1p(), block_size=2, chunk_size=10, seed=4
        )
        pipe = IndexSource(adata, block_size=2).shuffle_blocks().sort_within_chunks(10)
        pipe = pipe.read_rows(["X", "obs/cell_type:code"]).batch_rows(5).transform(Log1p()).collate_rows()
        assert repr(loader) == repr(Loader(pipe, seed=4))
        for ours, theirs in zip(loader, Loader(pipe, seed=4), strict=True):
            assert torch.equal(ours["X"], theirs["X"])
            assert torch.equal(ours["obs_cell_type"], theirs["obs_cell_type"])

    def test_every_value_is_anndatas(self, h5ad: Path) -> None:
        expected = anndata.read_h5ad(h5ad)
        fields = ["X", "rows", "obs_names", "obs/int16", "layers/counts", "obsm/X_pca"]
        for batch in stream(h5ad, 6, fields=fields):
            rows = batch["rows"].numpy()
            np.testing.assert_array_equal(batch["X"], dense(expected.X)[rows])
            np.testing.assert_array_equal(batch["layers_counts"], dense(expected.layers["counts"])[rows])
            np.testing.assert_array_equal(batch["obsm_X_pca"], expected.obsm["X_pca"][rows].astype(np.float32))
            assert batch["obs_names"] == expected.obs_names[rows].tolist()
            assert batch["obs_int16"].tolist() == expected.obs["int16"].iloc[rows].tolist()

    def test_sparse_batches_on_request(self) -> None:
        batch = next(iter(stream(adata_of(), 5, form="csr")))
        assert isinstance(batch["X"], CsrTensors)

    def test_some_rows_only(self) -> None:
        loader = stream(SHARED, 4, rows=["c7", "c1", "c9"], fields=["rows"])
        assert sorted(all_rows(loader)) == [1, 7, 9]
        assert sorted(all_rows(stream(SHARED, 4, rows=[5, 5, 6], fields="rows"))) == [5, 5, 6]

    @pytest.mark.parametrize("n_obs", [0, 1])
    def test_hardly_any_rows(self, n_obs: int) -> None:
        loader = stream(SHARED[:n_obs], 4, fields=["X", "rows"], num_workers=2)
        for _ in range(2):
            assert all_rows(loader) == list(range(n_obs))
        assert len(loader) == n_obs

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"batch_size": 0}, ParameterError, "batch_size must be at least 1, got 0"),
            ({"chunk_size": 0}, ParameterError, "chunk_size must be at least 1, got 0"),
            ({"block_size": 0}, ParameterError, "block_size must be at least 1, got 0"),
            ({"fields": ["obs/x"]}, FieldError, "no obs column 'x' in AnnData.*; columns: number"),
            ({"rows": [60]}, RowIndexError, "rows must lie in 0 … 59"),
            ({"transform": Log1p}, ParameterTypeError, "transform takes instances: Log1p"),
            ({"form": "coo"}, ParameterError, "form must be 'dense' or 'csr', got 'coo'"),
        ],
    )
    def test_a_wrong_argument_is_named(self, options: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            stream(SHARED, **options)
