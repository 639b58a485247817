"""What a Loader refuses, what it leaves behind, and what survives it."""

from __future__ import annotations

import gc
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata
import pytest
import torch
from builders import dense
from small_loaders import SHARED, batches, loader_of
from torch.utils.data import IterDataPipe

import annpipes
from annpipes import Batch, IndexSource, Loader, Log1p, Transform, stream
from annpipes.errors import ParameterError, ParameterTypeError, PipelineError


class Broken(Transform):
    """A transform that fails at one row."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x[0] == 1700:
            raise ZeroDivisionError("cell 17 has no counts")
        return x


class TestErrors:
    def test_a_stage_that_drops_or_adds_batches_is_refused(self) -> None:
        pipe = IndexSource(SHARED).sort_within_chunks(8).read_rows(["rows"]).batch_rows(4)
        for odd, made in ((pipe.filter(never), 0), (Twice(pipe), 2)):
            with pytest.raises(PipelineError, match=f"stages after batch_rows made {made} items from one batch"):
                list(Loader(odd))
        assert len(list(Twice(pipe))) == 30  # the pipe itself may be iterated

    @pytest.mark.parametrize(
        ("cut", "message"),
        [
            (lambda pipe: pipe, "Loader needs a pipe with one RowBatcher"),
            (lambda pipe: pipe.sort_within_chunks(4), "Loader needs a pipe with one RowBatcher"),
            (lambda pipe: pipe.sort_within_chunks(4).read_rows(), "Loader needs a pipe with one RowBatcher"),
            (lambda pipe: pipe.sort_within_chunks(4).read_rows().batch_rows(2).batch_rows(2), "2 of them"),
        ],
    )
    def test_a_pipe_that_lacks_a_stage_is_refused(self, cut: Callable[[Any], Any], message: str) -> None:
        with pytest.raises(PipelineError, match=message):
            Loader(cut(IndexSource(SHARED)))

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"seed": -1}, ParameterError, "seed must be at least 0, got -1"),
            ({"seed": None}, ParameterTypeError, "seed must be an integer, got None"),
            ({"seed": 1.5}, ParameterTypeError, r"seed must be an integer, got 1\.5"),
            ({"num_workers": -1}, ParameterError, "num_workers must be at least 0, got -1"),
            ({"prefetch": "2"}, ParameterTypeError, "prefetch must be an integer, got '2'"),
        ],
    )
    def test_a_wrong_argument_is_named(self, options: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            loader_of(**options)
        with pytest.raises(error, match=message):
            stream(SHARED, 4, **options)

    def test_a_wrong_epoch_is_named(self) -> None:
        with pytest.raises(ParameterError, match="epoch must be at least 0, got -1"):
            loader_of().set_epoch(-1)

    @pytest.mark.parametrize("num_workers", [0, 2])
    @pytest.mark.parametrize("prefetch", [0, 2])
    def test_an_error_comes_out_as_it_is_and_leaves_no_thread(self, num_workers: int, prefetch: int) -> None:
        before = threading.active_count()
        loader = stream(SHARED, 4, transform=Broken(), num_workers=num_workers, prefetch=prefetch)
        for _ in range(5):  # and again: a loader survives it
            with pytest.raises(ZeroDivisionError, match="cell 17 has no counts"):
                list(loader)
        assert threads_end(before)


def never(batch: Batch) -> bool:
    return False


class Twice(IterDataPipe[Batch]):
    def __init__(self, source_datapipe: IterDataPipe[Batch]) -> None:
        self.source_datapipe = source_datapipe

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.source_datapipe:
            yield batch
            yield batch


def threads_end(before: int) -> bool:
    """Whether soon no threads are left but those there were ``before`` and one for each core.

    Those decode; they are started as they are needed and stay for the process's life. A loader that left
    threads would leave several each time.
    """
    allowed = before + len(os.sched_getaffinity(0))
    gc.collect()
    for _ in range(100):
        if threading.active_count() <= allowed:
            return True
        time.sleep(0.05)
    return False


class TestRunning:
    @pytest.mark.parametrize("num_workers", [0, 2])
    @pytest.mark.parametrize("prefetch", [1, 4])
    def test_a_pass_that_is_given_up_leaves_no_thread(self, h5ad: Path, num_workers: int, prefetch: int) -> None:
        loader = stream(h5ad, 2, chunk_size=4, num_workers=num_workers, prefetch=prefetch)
        before = threading.active_count()
        for _ in range(5):
            for _batch in loader:
                break
            running = iter(loader)
            next(running)
            del running
        assert threads_end(before)
        assert len(list(loader)) == 15

    def test_batches_stay_as_they_are_while_more_come(self, h5ad: Path) -> None:
        for x in ("dense", "csr"):
            held = list(stream(h5ad, 2, fields=["X", "rows"], form=x, chunk_size=4, prefetch=2))
            expected = torch.from_numpy(dense(anndata.read_h5ad(h5ad).X))
            for batch in held:
                rows = batch["X"] if x == "dense" else batch["X"].to_dense()
                assert torch.equal(rows, expected[batch["rows"]])

    def test_pickles_with_its_place(self) -> None:
        loader = loader_of(num_workers=1)
        list(loader)
        copy = pickle.loads(pickle.dumps(loader))
        assert copy.epoch == 1
        assert batches(copy) == batches(loader)

    def test_repr_could_be_typed_back(self, h5ad: Path) -> None:
        loader = stream(h5ad, 4, chunk_size=8, transform=Log1p(), seed=3, num_workers=1, prefetch=2)
        typed = eval(repr(loader), dict(vars(annpipes)))  # noqa: S307 (our own repr)
        assert repr(typed) == repr(loader)
        for ours, theirs in zip(typed, loader, strict=True):
            assert torch.equal(ours["X"], theirs["X"])


class Doubled(annpipes.Collator):
    """Derived from a stage of ours, with an iterator of its own."""

    def __iter__(self) -> Any:
        for batch in map(self.each, self.source_datapipe):
            yield {**batch, "X": 2 * batch["X"]}


def test_a_stage_derived_from_ours_iterates_in_its_own_way() -> None:
    read = IndexSource(SHARED).sort_within_chunks(12).read_rows().batch_rows(4)
    ours, derived = (next(iter(Loader(kind(read)))) for kind in (annpipes.Collator, Doubled))
    assert derived["X"].tolist() == (2 * ours["X"]).tolist()


class Paired(annpipes.RowBatcher):
    """Derived from the batcher, with an iterator of its own that a Loader would not call."""

    def __iter__(self) -> Any:
        yield from annpipes.RowBatcher(self.source_datapipe, 2 * self.batch_size)


def test_a_batcher_with_its_own_iterator_needs_a_cut() -> None:
    read = IndexSource(SHARED).sort_within_chunks(12).read_rows()
    with pytest.raises(PipelineError, match=r"Paired .* `cut`"):
        Loader(Paired(read, 2))
