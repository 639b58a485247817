"""Batches on their way to a GPU; the GPU's part is played by stand-ins that say what was asked of them, in order."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, NamedTuple

import anndata
import numpy as np
import pytest
import torch
from builders import write
from scipy import sparse

import annpipes
from annpipes import Loader
from annpipes.errors import DamageError, FormatError
from annpipes.running.placing import Placer
from annpipes.stages.collating import collate
from annpipes.tensors import CsrTensors
from annpipes.types import Batch, SparseRows

HERE = torch.device("cpu")


class Pair(NamedTuple):
    x: Any
    y: Any


class Stream:
    """In place of a stream of CUDA."""

    def __init__(self, told: list[str], name: str) -> None:
        self.told, self.name, self.events = told, name, 0
        self.device = torch.device("cuda", 3)

    def record_event(self) -> str:
        self.events += 1
        self.told.append(f"{self.name} records {self.events}")
        return f"event {self.events}"

    def wait_event(self, event: str) -> None:
        self.told.append(f"{self.name} waits for {event}")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of streams and tensors, whose "GPU" is the machine's own memory."""
    told: list[str] = []
    own, consumers = Stream(told, "own"), Stream(told, "consumer's")
    before: Any = torch.Tensor.to

    @contextmanager
    def within(stream: Stream) -> Iterator[None]:
        assert stream is own
        assert current_thread() is not main_thread()
        told.append("in own")
        yield
        told.append("out of own")

    def to(self: torch.Tensor, target: Any, **options: Any) -> torch.Tensor:
        moved: torch.Tensor = before(self, HERE if getattr(target, "type", "") == "cuda" else target)
        if getattr(target, "type", "") == "cuda":
            assert target.index == 3, "the caller's GPU"
            assert options == {"non_blocking": True}
            told.append("copied")
        return moved

    def pinned(self: torch.Tensor) -> torch.Tensor:
        told.append("pinned")
        return self

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: own)
    monkeypatch.setattr(torch.cuda, "stream", within)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: consumers)
    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: told.append(f"held for {stream.name}"))
    return told


def batches_of(*tensors: Any) -> Iterator[dict[str, Any]]:
    return ({"rows": tensor} for tensor in tensors)


def twice(batch: dict[str, Any]) -> dict[str, Any]:
    return {"X": batch["X"] * 2}


def placed(placer: Placer, batches: Iterator[Any]) -> list[Any]:
    with placer.open(batches) as found:
        return list(found)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 cells of 50 genes."""
    values = sparse.random(1000, 50, 0.2, "csr", np.float32, random_state=0)
    return write(anndata.AnnData(values), tmp_path_factory.mktemp("placing") / "cells.h5ad", "gzip")


@pytest.fixture
def pipe(path: Path) -> Any:
    return annpipes.IndexSource(path).sort_within_chunks(100).read_rows(["X", "rows"]).batch_rows(100)


class TestOnAStreamOfItsOwn:
    def test_a_batch_is_pinned_and_copied_there_and_waited_for_before_it_is_handed_on(
        self, told: list[str], pipe: Any
    ) -> None:
        placer = Placer(pipe, False, "cuda")
        assert placed(placer, batches_of(torch.tensor([1]))) == [{"rows": torch.tensor([1])}]
        assert told == [
            *("in own", "pinned", "copied", "own records 1", "out of own"),
            *("consumer's waits for event 1", "held for consumer's"),
        ]

    def test_the_next_two_are_under_way_when_one_is_handed_on(self, told: list[str], pipe: Any) -> None:
        drawn: list[int] = []

        def batches() -> Iterator[dict[str, Any]]:
            for number in range(5):
                drawn.append(number)
                yield {"rows": torch.tensor([number])}

        with Placer(pipe, False, "cuda").open(batches()) as found:
            for number, batch in enumerate(found):
                assert batch["rows"].item() == number
                assert drawn == list(range(min(number + 3, 5)))
        waits = [line for line in told if line.startswith("consumer's waits")]
        assert waits == [f"consumer's waits for event {number}" for number in range(1, 6)]

    def test_every_tensor_is_held_and_nothing_else_is_touched(self, told: list[str], pipe: Any) -> None:
        rows = CsrTensors(torch.tensor([0, 1]), torch.tensor([2]), torch.tensor([4.0]), 5)
        batch = {"X": rows, "names": ["a"], "more": {"code": torch.tensor([1])}, "number": 7}
        (found,) = placed(Placer(pipe, False, "cuda"), iter([batch]))
        assert (found["names"], found["number"]) == (["a"], 7)
        assert told.count("held for consumer's") == told.count("pinned") == 4

    @pytest.mark.parametrize("kind", ["to_sparse_csr", "to_sparse_csc", "to_sparse_coo"])
    def test_torchs_own_sparse_tensors_are_not_pinned_and_held_by_their_parts(
        self, told: list[str], pipe: Any, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        held: list[torch.layout] = []
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: held.append(self.layout))
        eye = getattr(torch.eye(3), kind)()
        (found,) = placed(Placer(pipe, False, "cuda"), batches_of(eye))
        assert found["rows"].layout is eye.layout
        assert "pinned" not in told
        assert held == [torch.strided] * (2 if kind == "to_sparse_coo" else 3)

    def test_what_is_on_a_gpu_already_is_not_pinned(
        self, told: list[str], pipe: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.Tensor, "to", lambda self, *given, **options: self)
        placed(Placer(pipe, False, "cuda"), batches_of(torch.empty(2, device="meta")))
        assert "pinned" not in told

    def test_all_passes_of_a_loader_have_one_stream_whose_memory_each_can_use_again(
        self, told: list[str], path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[Any] = []
        make: Any = torch.cuda.Stream
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: made.append(device) or make(device))
        loader = annpipes.stream(path, batch_size=64, device="cuda", fields=["rows"])
        for _ in range(3):
            next(iter(loader))
        assert made == [torch.device("cuda", 3)]
        pickle.loads(pickle.dumps(loader))

    def test_tensors_in_lists_and_tuples_go_along(self, told: list[str], pipe: Any) -> None:
        pair, named = (torch.tensor([1]), ["a", "b"]), Pair(torch.tensor([2]), [torch.tensor([3])])
        found = placed(Placer(pipe, False, "cuda"), iter([pair, named]))
        assert found == [pair, named]
        assert [type(batch) for batch in found] == [tuple, Pair]
        assert told.count("pinned") == told.count("copied") == told.count("held for consumer's") == 3

    def test_an_error_on_the_way_is_the_consumers(self, told: list[str], pipe: Any) -> None:
        def batches() -> Iterator[dict[str, Any]]:
            yield {"rows": torch.tensor([0])}
            raise DamageError("no more")

        with pytest.raises(DamageError, match="no more"):
            placed(Placer(pipe, False, "cuda"), batches())

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_a_loader_hands_on_the_batches_that_it_has_without_a_gpu(
        self, told: list[str], path: Path, num_workers: int
    ) -> None:
        options: dict[str, Any] = {"batch_size": 64, "num_workers": num_workers}
        here = annpipes.stream(path, **options)
        there = annpipes.stream(path, device="cuda", **options)
        for ours, theirs in zip(here, there, strict=True):
            assert torch.equal(ours["X"], theirs["X"])
        assert told.count("in own") == len(here)
        assert there.state_dict() == here.state_dict()

    def test_what_was_copied_ahead_comes_again_after_resuming(self, told: list[str], path: Path) -> None:
        loader, whole = (annpipes.stream(path, batch_size=64, device="cuda", fields=["rows"]) for _ in range(2))
        expected = [batch["rows"].tolist() for batch in whole]
        received = iter(loader)
        assert [next(received)["rows"].tolist() for _ in range(3)] == expected[:3]
        resumed = annpipes.stream(path, batch_size=64, device="cuda", fields=["rows"])
        resumed.load_state_dict(loader.state_dict())
        assert [batch["rows"].tolist() for batch in resumed] == expected[3:]


class TestDenseOnTheDevice:
    def test_sparse_rows_travel_sparse_and_are_dense_on_arrival(self, told: list[str], pipe: Any) -> None:
        expected = [batch["X"] for batch in Loader(pipe.collate_rows())]
        found = [batch["X"] for batch in Loader(pipe.collate_rows(), device="cuda")]
        assert all(torch.equal(*pair) for pair in zip(expected, found, strict=True))
        assert told.count("pinned") == 4 * len(found)  # where rows begin, columns, values; and positions

    def test_but_not_if_a_later_stage_is_to_see_them_dense(self, told: list[str], pipe: Any) -> None:
        doubled = pipe.collate_rows().map(twice)
        (found, *_) = Loader(doubled, device="cuda")
        assert torch.equal(found["X"], next(iter(Loader(doubled)))["X"])
        assert told[:4] == ["in own", "pinned", "copied", "own records 1"]  # one tensor: X as it is

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int64, np.uint64, np.float32, np.float64])
    def test_they_are_those_that_anndata_makes(self, told: list[str], dtype: Any) -> None:
        values = sparse.random(50, 30, 0.2, "csr", random_state=0)
        values.data = (values.data * 100).astype(dtype)
        adata = anndata.AnnData(sparse.csr_matrix(values))
        found = torch.cat([batch["X"] for batch in annpipes.stream(adata, batch_size=8, shuffle=False, device="cuda")])
        assert np.array_equal(found.numpy(), adata.X.toarray().astype(np.float32))

    @pytest.mark.parametrize("dtype", [bool, np.float32])
    def test_values_of_one_place_are_added_as_scipy_adds_them(self, dtype: Any) -> None:
        rows = SparseRows(np.ones(4, dtype), np.array([1, 1, 0, 2]), np.array([0, 3, 4]), 3)
        expected = sparse.csr_matrix((rows.data, rows.indices, rows.indptr), rows.shape).toarray()
        left = collate(Batch(np.arange(2), {"X": rows}), dense_later=True)["X"]
        assert left.to_dense().tolist() == expected.astype(float).tolist()

    def test_a_column_that_a_gpu_could_not_survive_is_refused_before(self) -> None:
        for column in (-1, 3):
            rows = SparseRows(np.ones(1, np.float32), np.array([column]), np.array([0, 1]), 3)
            with pytest.raises(DamageError, match=r"a column outside of 0 … 2"):
                collate(Batch(np.arange(1), {"X": rows}), dense_later=True)

    def test_so_are_rows_that_are_too_wide(self) -> None:
        rows = SparseRows(np.ones(1, np.float32), np.array([0]), np.array([0, 1]), 2**31)
        with pytest.raises(FormatError, match="too wide to be made dense"):
            collate(Batch(np.arange(1), {"X": rows}), dense_later=True)
