"""What a Loader is told besides its order: memory, devices, and arguments that cannot work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch
from builders import tiny, write
from passes import ids, joined, loader_of
from scipy import sparse

from annpipes import CsrTensors, IndexSource, Loader
from annpipes.errors import ParameterError, ParameterTypeError, PipelineError

SHARED = tiny(101)
NO_GPU = not torch.cuda.is_available()


def chunk_size(loader: Loader) -> int:
    """The chunk size that counts, as a state names it."""
    size: int = loader.state_dict()["belongs_to"]["chunk_size"]
    return size


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 cells with 10 values each of 4 + 4 bytes, so 80 bytes a row."""
    values = np.tile(np.arange(1, 11, dtype=np.float32), 1000)
    indices = np.tile(np.arange(0, 50, 5, dtype=np.int32), 1000)
    x = sparse.csr_matrix((values, indices, np.arange(0, 10_001, 10, dtype=np.int32)), (1000, 50))
    return write(anndata.AnnData(x), tmp_path_factory.mktemp("memory") / "cells.h5ad", "gzip")


class TestMemory:
    @pytest.mark.parametrize(
        ("memory", "expected"),
        [
            ("160kB", 1000),  # two chunks of 80 bytes a row
            (160_000, 1000),
            ("0.16 MB", 1000),
            ("160 kiB", 1020),  # 1,024 would fit; a multiple of the batch
            ("16kB", 100),
            ("12345", 75),
            ("1GB", 6_250_000),
            (1, 5),  # never less than a batch
        ],
    )
    def test_chunks_follow_from_the_bytes_of_a_row(self, path: Path, memory: int | str, expected: int) -> None:
        assert chunk_size(loader_of(path, 5, fields=["X"], memory=memory)) == expected

    def test_all_fields_count_and_dense_rows_are_wide(self) -> None:
        assert chunk_size(loader_of(SHARED, 5, fields=["X"], memory=2400)) == 100  # three float32
        assert chunk_size(loader_of(SHARED, 5, fields=["X", "rows"], memory=2400)) == 60  # and an int64
        assert chunk_size(loader_of(tiny(101, 300), 5, fields=["X"], memory=12_000)) == 5

    def test_the_pipes_chunk_size_does_not_count_then(self, path: Path) -> None:
        for size in (5, 10_000):
            assert chunk_size(loader_of(path, 5, chunk_size=size, fields=["X"], memory="16kB")) == 100

    def test_every_row_once(self, path: Path) -> None:
        for memory in (1, "1kB", "30kB", "2GB"):
            assert sorted(joined(ids(loader_of(path, 64, memory=memory)))) == list(range(1000))

    @pytest.mark.parametrize("n_obs", [0, 5])
    def test_rows_that_take_no_memory(self, n_obs: int) -> None:
        empty = anndata.AnnData(sparse.csr_matrix((n_obs, 7), dtype=np.float32))
        assert len(list(loader_of(empty, 2, fields=["X"], memory="1MB"))) == -(-n_obs // 2)

    @pytest.mark.parametrize("memory", ["", "much", "2 XB", "GB", "-1GB", "2iB", "1e9", "2GB and more", 0, "0GB", -5])
    def test_what_is_no_amount_of_memory_is_refused(self, memory: Any) -> None:
        with pytest.raises(ParameterError, match="memory must be "):
            loader_of(SHARED, memory=memory)

    @pytest.mark.parametrize("memory", [1.5, True, ["2GB"]])
    def test_nor_is_anything_but_a_number_or_a_string(self, memory: Any) -> None:
        with pytest.raises(ParameterTypeError, match="memory must be an integer"):
            loader_of(SHARED, memory=memory)


class TestDevices:
    @pytest.mark.parametrize("device", [None, "cpu", torch.device("cpu")])
    def test_tensors_are_where_they_were_asked_to_be(self, path: Path, device: Any) -> None:
        for options in ({"form": "csr"}, {"form": "dense"}, {"num_workers": 2}):
            for batch in loader_of(path, 300, fields=["X", "rows", "obs_names"], device=device, **options):
                dense = batch["X"].to_dense() if isinstance(batch["X"], CsrTensors) else batch["X"]
                assert dense.device == batch["rows"].device == torch.device("cpu")
                assert dense.sum(dim=1).tolist() == [55.0] * len(dense)
                assert batch["obs_names"] == [str(row) for row in batch["rows"].tolist()]

    def test_a_batch_that_is_no_dict_of_tensors_passes_as_it_is(self) -> None:
        pipe = IndexSource(SHARED).sort_within_chunks(24).read_rows(["rows"]).batch_rows(50)
        batches = list(Loader(pipe, device="cpu"))
        assert [len(batch.rows) for batch in batches] == [50, 50, 1]

    @pytest.mark.skipif(NO_GPU, reason="no GPU")
    @pytest.mark.parametrize("form", ["dense", "csr"])
    def test_pinned_and_moved_to_a_gpu(self, path: Path, form: Any) -> None:
        expected = list(loader_of(path, 300, form=form))
        for options in ({"pin_memory": True}, {"device": "cuda"}, {"pin_memory": True, "device": "cuda"}):
            for ours, other in zip(expected, loader_of(path, 300, form=form, num_workers=2, **options), strict=True):
                place = "cuda" if "device" in options else "cpu"
                assert other["rows"].device.type == place
                assert other["rows"].is_pinned() == (place == "cpu")
                if form == "csr":
                    assert torch.equal(other["X"].values.cpu(), ours["X"].values)
                assert torch.equal(*(x.to_dense() if form == "csr" else x for x in (other["X"].to("cpu"), ours["X"])))

    @pytest.mark.parametrize("device", ["gpu", "cpu:x", "", 1.5])
    def test_what_is_no_device_is_refused(self, device: Any) -> None:
        with pytest.raises(ParameterError, match="device"):
            loader_of(SHARED, device=device)


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"method": "async"}, ParameterError, "method must be 'thread' or 'process', got 'async'"),
            (
                {"multiprocessing_context": "fork"},
                ParameterError,
                "multiprocessing_context='fork' needs method='process'",
            ),
            (
                {"method": "process", "multiprocessing_context": "vfork"},
                ParameterError,
                "multiprocessing_context must be 'fork', 'spawn' or 'forkserver', got 'vfork'",
            ),
            ({"num_workers": True}, ParameterTypeError, "num_workers must be an integer, got True"),
            ({"prefetch": -2}, ParameterError, "prefetch must be at least 0, got -2"),
            ({"seed": "0"}, ParameterTypeError, "seed must be an integer, got '0'"),
            ({"seed": -1}, ParameterError, "seed must be at least 0, got -1"),
        ],
    )
    def test_a_wrong_one_is_named(self, options: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            loader_of(SHARED, **options)

    def test_misspelled_ones_are_named(self) -> None:
        with pytest.raises(TypeError, match="num_worker"):
            loader_of(SHARED, num_worker=2)

    @pytest.mark.parametrize("pipe", ["cells.h5ad", None, SHARED, [1, 2]])
    def test_what_is_no_pipe_is_refused(self, pipe: Any) -> None:
        with pytest.raises(PipelineError, match="Loader"):
            Loader(pipe)

    @pytest.mark.parametrize("epoch", [-1, 1.0, None, "1"])
    def test_a_wrong_epoch_is_named_and_changes_nothing(self, epoch: Any) -> None:
        loader = loader_of(SHARED)
        loader.set_epoch(2)
        with pytest.raises((ParameterError, ParameterTypeError), match="epoch must be"):
            loader.set_epoch(epoch)
        assert loader.epoch == 2
