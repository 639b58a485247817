"""Epochs over many files: one order over all of them, resumed and shared as of one file."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import tiny, write
from passes import ids, joined, loader_of
from torch.utils.data import DataLoader

from annpipes import AnnDataset, Collection, IndexSource, Loader, Log1p
from annpipes.errors import StateError

LENGTHS = (30, 1, 0, 45, 25)
N = sum(LENGTHS)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five files of which one has a single row and one has none; together ``X[i, j] = 100 i + j``."""
    folder, whole = tmp_path_factory.mktemp("parts"), tiny(N)
    edges = np.cumsum([0, *LENGTHS])
    return [
        write(whole[start:stop].copy(), folder / f"{number}.h5ad", "gzip" if number % 2 else None)
        for number, (start, stop) in enumerate(pairwise(edges))
    ]


def loader_with_files(data: Any, **how: Any) -> Loader:
    return loader_of(data, fields=["X", "rows", "file", "obs/number"], **how)


class TestLoader:
    def test_every_row_comes_once_with_its_values(self, paths: list[Path]) -> None:
        rows = []
        for batch in loader_with_files(paths):
            rows += batch["rows"].tolist()
            assert batch["X"][:, 2].tolist() == (100 * batch["rows"] + 2).tolist()
            assert batch["obs_number"].tolist() == batch["rows"].tolist()
            files = np.searchsorted(np.cumsum(LENGTHS), batch["rows"].numpy(), side="right")
            assert batch["file"].tolist() == files.tolist()
        assert sorted(rows) == list(range(N))

    def test_the_shuffle_goes_over_all_files(self, paths: list[Path]) -> None:
        mixed = [len(set(batch["file"].tolist())) for batch in loader_with_files(paths)]
        assert sum(count > 1 for count in mixed) > len(mixed) / 2

    def test_the_order_is_that_of_one_file_with_the_same_rows(self, paths: list[Path]) -> None:
        one, many = loader_of(tiny(N), seed=3), loader_of(paths, seed=3)
        for _ in range(2):
            assert ids(many) == ids(one)

    @pytest.mark.parametrize(
        "how", [{"num_workers": 2}, {"prefetch": 0}, {"prefetch": 3}, {"method": "process", "num_workers": 2}], ids=str
    )
    def test_one_order_however_it_is_run(self, paths: list[Path], how: dict[str, Any]) -> None:
        if "method" in how:
            how = {**how, "multiprocessing_context": "fork"}
        expected = [
            (batch["rows"].tolist(), batch["file"].tolist(), batch["X"].tolist()) for batch in loader_with_files(paths)
        ]
        seen = [
            (batch["rows"].tolist(), batch["file"].tolist(), batch["X"].tolist())
            for batch in loader_with_files(paths, **how)
        ]
        assert seen == expected

    @pytest.mark.parametrize("received", [0, 1, 5, 12, 13])
    def test_goes_on_where_it_was_left(self, paths: list[Path], received: int) -> None:
        whole = ids(loader_of(paths))
        loader = loader_of(paths)
        running = iter(loader)
        assert ids(islice(running, received)) == whole[:received]
        state = json.loads(json.dumps(loader.state_dict()))
        resumed = loader_of(paths, num_workers=2)
        resumed.load_state_dict(state)
        if received < len(whole):
            assert ids(resumed) == whole[received:]
        else:
            assert resumed.epoch == 1

    def test_ranks_share_the_rows(self, paths: list[Path]) -> None:
        seen = [joined(ids(loader_of(paths, rank=rank, world_size=2, tail="drop"))) for rank in range(2)]
        assert not set(seen[0]) & set(seen[1])
        assert len(seen[0]) == len(seen[1]) == N // 16 * 8

    def test_a_pipe_of_a_collection_pickles(self, paths: list[Path]) -> None:
        pipe = (
            IndexSource(Collection(paths, join="outer"), block_size=4).sort_within_chunks(24).read_rows(["X", "rows"])
        )
        expected = [batch["X"].tolist() for batch in pipe]
        assert [batch["X"].tolist() for batch in pickle.loads(pickle.dumps(pipe))] == expected


class TestFingerprint:
    def state(self, data: Any) -> Any:
        return loader_of(data).state_dict()

    def refused(self, data: Any, state: Any) -> str:
        with pytest.raises(StateError) as refusal:
            loader_of(data).load_state_dict(state)
        return str(refusal.value)

    def test_it_is_the_same_wherever_the_files_lie(
        self, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state = self.state(paths)
        for path in paths:
            (tmp_path / path.name).write_bytes(path.read_bytes())
        monkeypatch.chdir(tmp_path)
        for data in (sorted(path.name for path in paths), "*.h5ad", Collection("?.h5ad", max_open_files=2)):
            loader_of(data).load_state_dict(state)

    def test_another_value_of_missing_genes_is_refused(self, paths: list[Path]) -> None:
        zeros, filled = (Collection(paths, join="outer", fill_value=value) for value in (0, float("nan")))
        for data, other in ((zeros, filled), (filled, zeros)):
            assert "fill_value" in self.refused(other, self.state(data))
        loader_of(filled).load_state_dict(self.state(Collection(paths, join="outer", fill_value=np.nan)))

    def test_another_number_or_order_of_files_is_refused(self, paths: list[Path]) -> None:
        state = self.state(paths)
        assert "n_obs was 101 and is 76" in self.refused(paths[:4], state)
        assert "files was '5, crc" in self.refused(paths[::-1], state)

    def test_another_file_of_the_same_length_is_refused(self, paths: list[Path], tmp_path: Path) -> None:
        other = write(tiny(30, 4)[:, :3].copy(), tmp_path / "other.h5ad", "gzip")
        assert "files was '5, crc" in self.refused([other, *paths[1:]], self.state(paths))

    def test_another_join_is_refused(self) -> None:
        one, two = tiny(20), tiny(20)
        two.var_names = ["1", "2", "3"]
        state = self.state(Collection([one, two]))
        assert "genes was '2, crc" in self.refused(Collection([one, two], join="outer"), state)
        assert "genes was '2, crc" in self.refused(Collection([one, two], join=["2", "1"]), state)
        loader_of(Collection([one, two], join=["1", "2"])).load_state_dict(state)  # the same genes by name


class TestDataset:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_torchs_loader_reads_a_list_of_files(self, paths: list[Path], workers: int) -> None:
        ds = AnnDataset(paths)
        assert (len(ds), ds.shape) == (N, (N, 3))
        order = np.random.default_rng(1).permutation(N).tolist()
        seen: list[int] = []
        for batch in DataLoader(ds, batch_size=16, sampler=order, num_workers=workers):
            seen += batch["obs_number"].tolist()
            assert batch["X"][:, 0].tolist() == (100 * batch["obs_number"]).tolist()
        assert seen == order

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_its_own_loader_with_any_start_method(self, paths: list[Path], method: str) -> None:
        ds = AnnDataset(paths, fields=["X", "rows", "file"], transform=Log1p())
        loader = ds.get_optimized_dataloader(batch_size=40, shuffle=True, num_workers=2, multiprocessing_context=method)
        batches = list(loader)
        assert sorted(torch.cat([batch["rows"] for batch in batches]).tolist()) == list(range(N))
        for batch in batches:
            torch.testing.assert_close(batch["X"], torch.log1p(100.0 * batch["rows"][:, None] + torch.arange(3)))

    def test_an_item_tells_its_file(self, paths: list[Path]) -> None:
        ds = AnnDataset(paths, fields=["X", "file"], obs_subset=[31, 30, 0])
        assert [int(ds[place]["file"]) for place in range(3)] == [3, 1, 0]

    @pytest.mark.parametrize("read_first", [False, True])
    def test_it_pickles_fresh_and_used(self, paths: list[Path], read_first: bool) -> None:
        ds = AnnDataset(Collection(paths, missing="fill"))
        places: Sequence[int] = [100, 0, 31]
        if read_first:
            ds.__getitems__(places)
        copy = pickle.loads(pickle.dumps(ds))
        assert [item["obs_number"].item() for item in copy.__getitems__(places)] == places
