"""AnnDataset in torch's DataLoader: samplers, workers, collating."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch
from builders import adata_of, dense, expected_column, tiny
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    Subset,
    WeightedRandomSampler,
    default_collate,
    random_split,
)

from annpipes import AnnDataset, Compose, Log1p, NormalizeTotal, Transform
from annpipes.errors import RowIndexError

SHARED = tiny(10)


class PlainShare(Transform):
    """Written for one cell; pickles to a process that spawns because it stands in a module."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x / max(float(x.sum()), 1.0)


def numbers(batches: Any) -> list[list[int]]:
    return [batch["obs_number"].tolist() for batch in batches]


def flat(batches: Any) -> list[int]:
    return [number for batch in numbers(batches) for number in batch]


def assert_same(one: Any, other: Any) -> None:
    """Whether two batches agree in keys, types and values."""
    assert list(one) == list(other)
    for key, values in one.items():
        assert type(values) is type(other[key])
        if torch.is_tensor(values):
            assert values.dtype == other[key].dtype
            assert values.shape == other[key].shape
            np.testing.assert_array_equal(values.numpy(), other[key].numpy())
        else:
            assert values == other[key]


class TestOrder:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_sampler_decides_the_order(self, workers: int) -> None:
        ds, order = AnnDataset(SHARED, chunk_size=2), [7, 0, 3, 3, 9, 1, 7]
        loader = DataLoader(ds, batch_size=3, sampler=order, num_workers=workers)
        assert numbers(loader) == [[7, 0, 3], [3, 9, 1], [7]]
        loader = DataLoader(ds, batch_sampler=[[5, 5], [2], [9, 0, 4]], num_workers=workers)
        assert numbers(loader) == [[5, 5], [2], [9, 0, 4]]

    @pytest.mark.parametrize("batch_size", [1, 4, 10, 64])
    def test_shuffling_visits_every_cell_once_in_a_new_order_each_epoch(self, batch_size: int) -> None:
        loader = DataLoader(AnnDataset(SHARED), batch_size=batch_size, shuffle=True)
        orders = [flat(loader) for _ in range(3)]
        assert all(sorted(order) == list(range(10)) for order in orders)
        assert orders[0] != orders[1] != orders[2]
        assert len(loader) == -(-10 // batch_size)

    def test_weights_draw_cells_as_torch_does(self) -> None:
        weights = torch.tensor([0.0, 1, 0, 0, 1, 0, 0, 0, 0, 0])
        sampler = WeightedRandomSampler(weights, 50)
        seen = flat(DataLoader(AnnDataset(SHARED), batch_size=7, sampler=sampler))
        assert set(seen) == {1, 4}

    def test_samplers_of_whole_batches(self) -> None:
        ds = AnnDataset(SHARED)
        batches = BatchSampler(SequentialSampler(ds), 4, drop_last=True)
        assert numbers(DataLoader(ds, batch_sampler=batches)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
        whole = DataLoader(ds, sampler=BatchSampler(RandomSampler(ds), 5, drop_last=False), batch_size=1)
        with pytest.raises(TypeError):  # torch wants batch_size=None for a sampler of lists
            next(iter(whole))

    def test_torchs_own_wrappers_work(self) -> None:
        ds = AnnDataset(SHARED)
        assert numbers(DataLoader(Subset(ds, [8, 1, 1]), batch_size=2)) == [[8, 1], [1]]
        parts = random_split(ds, [6, 4])
        assert sorted(chain(*(flat(DataLoader(part, batch_size=3)) for part in parts))) == list(range(10))
        both = ConcatDataset([AnnDataset(SHARED, obs_subset=[3]), AnnDataset(SHARED, obs_subset=[5, 6])])
        assert numbers(DataLoader(both, batch_size=2)) == [[3, 5], [6]]

    def test_without_batching_items_come_one_by_one(self) -> None:
        items = list(DataLoader(AnnDataset(SHARED), batch_size=None))
        assert [int(item["obs_number"]) for item in items] == list(range(10))
        assert items[0]["X"].shape == (3,)

    def test_a_sampler_that_runs_out_of_the_data_is_an_index_error(self) -> None:
        with pytest.raises(RowIndexError, match="index 10 is out of range for 10 cells"):
            list(DataLoader(AnnDataset(SHARED), batch_size=2, sampler=[0, 10]))


class TestCollating:
    @pytest.mark.parametrize("batch_size", [1, 7, 29])
    def test_ours_and_torchs_agree(self, batch_size: int) -> None:
        ds = AnnDataset(adata_of(), transform=Log1p())
        for rows in torch.arange(29).split(batch_size)[:5]:
            items = ds.__getitems__(rows)
            ours = ds.get_collate_fn()(items)
            assert_same(ours, default_collate(items))
            assert_same(ours, default_collate([ds[row] for row in rows]))
            assert_same(ours, ds.get_collate_fn()([ds[row] for row in rows]))
            assert_same(ours, ds.get_collate_fn()(ds[int(rows[0]) : int(rows[-1]) + 1]))

    def test_strings_become_lists_and_numbers_keep_their_type(self) -> None:
        adata = adata_of()
        batch = AnnDataset(adata).get_collate_fn()(AnnDataset(adata)[3:8])
        assert batch["X"].shape == (5, 11)
        assert batch["obs_donor"] == expected_column(adata.obs["donor"])[3:8].tolist()
        assert batch["obs_int8"].dtype == torch.int8
        assert batch["obs_int64"].tolist() == adata.obs["int64"].tolist()[3:8]
        assert batch["obs_bool"].dtype == torch.bool
        assert batch["obs_float32"].dtype == torch.float32

    def test_a_batch_of_one(self) -> None:
        for loader in (
            DataLoader(AnnDataset(adata_of()), batch_size=1),
            AnnDataset(adata_of()).get_optimized_dataloader(batch_size=1),
        ):
            batches = list(loader)
            assert len(batches) == 29
            assert batches[0]["X"].shape == (1, 11)
            assert isinstance(batches[0]["obs_donor"], list)


class TestOptimizedDataLoader:
    def test_its_batches_are_those_of_a_plain_one(self) -> None:
        ds = AnnDataset(adata_of(), transform=Compose([NormalizeTotal(9), Log1p()]))
        fast, plain = ds.get_optimized_dataloader(8, shuffle=False), DataLoader(ds, batch_size=8)
        assert len(fast) == len(plain) == 4
        for one, other in zip(fast, plain, strict=True):
            assert_same(one, other)

    def test_its_defaults(self) -> None:
        loader = AnnDataset(tiny(70)).get_optimized_dataloader()
        assert (loader.batch_size, loader.num_workers, len(loader)) == (32, 0, 3)
        first = flat(loader)
        assert sorted(first) == list(range(70))
        assert first != flat(loader) != sorted(first)

    def test_anything_that_dataloader_takes_is_passed_on(self) -> None:
        ds = AnnDataset(SHARED)
        assert len(ds.get_optimized_dataloader(batch_size=4, drop_last=True)) == 2
        loader = ds.get_optimized_dataloader(batch_size=3, sampler=[2, 2, 5, 0])
        assert numbers(loader) == [[2, 2, 5], [0]]
        assert numbers(ds.get_optimized_dataloader(batch_sampler=[[1, 0], [7]])) == [[1, 0], [7]]
        seeded = [
            numbers(ds.get_optimized_dataloader(batch_size=3, generator=torch.Generator().manual_seed(1)))
            for _ in range(2)
        ]
        assert seeded[0] == seeded[1]
        named = ds.get_optimized_dataloader(batch_size=5, shuffle=False, collate_fn=len)
        assert list(named) == [5, 5]
        with pytest.raises(TypeError, match="no_such_option"):
            ds.get_optimized_dataloader(no_such_option=1)

    def test_workers_may_be_given_options_of_their_own(self) -> None:
        ds = AnnDataset(SHARED)
        for options in ({}, {"persistent_workers": False}, {"prefetch_factor": 1}):
            loader = ds.get_optimized_dataloader(batch_size=4, num_workers=2, **options)
            for _ in range(2):
                assert sorted(flat(loader)) == list(range(10))

    def test_without_batching_items_come_one_by_one(self) -> None:
        items = list(AnnDataset(SHARED).get_optimized_dataloader(batch_size=None, shuffle=False))
        assert [int(item["obs_number"]) for item in items] == list(range(10))

    @pytest.mark.filterwarnings("ignore:.*chooses no row")
    @pytest.mark.parametrize("workers", [0, 2])
    def test_no_cells_no_batches(self, workers: int) -> None:
        for ds in (AnnDataset(SHARED, obs_subset=[]), AnnDataset(SHARED[:0])):
            assert list(ds.get_optimized_dataloader(num_workers=workers)) == []
            assert list(DataLoader(ds, batch_size=4, num_workers=workers)) == []


MODES = [
    pytest.param({"num_workers": 0}, id="no workers"),
    pytest.param({"num_workers": 2, "multiprocessing_context": "fork"}, id="fork"),
    pytest.param({"num_workers": 2, "multiprocessing_context": "spawn", "persistent_workers": True}, id="spawn"),
    pytest.param({"num_workers": 1, "multiprocessing_context": "forkserver"}, id="forkserver"),
]


@pytest.mark.parametrize("mode", MODES)
def test_workers_give_the_same_batches_however_they_start(h5ad: Path, mode: dict[str, Any]) -> None:
    adata = anndata.read_h5ad(h5ad)
    ds = AnnDataset(h5ad, transform=PlainShare())
    ds[0]  # the file has been looked at before any process starts
    order = [*range(28, -1, -1), 3, 3, 14]
    x = dense(adata.X)[order]
    expected = torch.from_numpy(x / np.maximum(x.sum(axis=1, keepdims=True), 1))
    loader = DataLoader(ds, batch_size=5, sampler=order, **mode)
    for _ in range(2 if mode.get("persistent_workers") else 1):
        batches = list(loader)
        torch.testing.assert_close(torch.cat([batch["X"] for batch in batches]), expected)
        for column in ("donor", "cell_type", "note"):
            seen = [value for batch in batches for value in batch[f"obs_{column}"]]
            assert seen == expected_column(adata.obs[column])[order].tolist()
        assert torch.cat([batch["obs_int64"] for batch in batches]).tolist() == adata.obs["int64"].iloc[order].tolist()


@pytest.mark.parametrize("kind", ["memory", "view", "backed"])
def test_objects_cross_to_workers_too(h5ad: Path, kind: str) -> None:
    data = anndata.read_h5ad(h5ad, backed="r" if kind == "backed" else None)
    ds = AnnDataset(data[::-1] if kind == "view" else data)
    expected = dense(anndata.read_h5ad(h5ad).X)[:: -1 if kind == "view" else 1]
    for _ in range(2):
        seen = torch.cat([batch["X"] for batch in DataLoader(ds, batch_size=4, num_workers=2)])
        np.testing.assert_array_equal(seen.numpy(), expected)
    if kind == "backed":
        data.file.close()


def test_a_batch_is_read_once_not_cell_by_cell(h5ad: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds, reads = AnnDataset(h5ad), []
    read = ds.store.read
    monkeypatch.setattr(ds.store, "read", lambda chunk, *rest: reads.append(chunk) or read(chunk, *rest))
    next(iter(DataLoader(ds, batch_size=16, shuffle=True)))
    assert len(reads) == 1
    assert (np.diff(reads[0].rows) > 0).all()  # sorted for the disk
    assert len(AnnDataset(h5ad).__getitems__(range(29))) == 29


def test_workers_leave_the_parents_file_alone(h5ad: Path) -> None:
    ds = AnnDataset(h5ad)
    expected = ds[17]["X"]
    for _ in range(3):
        list(DataLoader(ds, batch_size=4, num_workers=2))
        assert torch.equal(ds[17]["X"], expected)
    assert os.path.exists(h5ad)
