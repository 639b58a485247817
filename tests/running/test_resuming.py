"""Positions saved and restored by torchdata's own loaders."""

from __future__ import annotations

from itertools import islice
from typing import Any

import anndata
import numpy as np
import pytest
import torchdata.nodes as nodes
from torchdata.stateful_dataloader import StatefulDataLoader

import annpipes as ap
from annpipes.errors import PipelineError, StateError

ADATA = anndata.AnnData(np.arange(200, dtype=np.float32).reshape(100, 2))


def pipe_of(adata: anndata.AnnData, chunk_size: int = 24, batch_size: int = 7) -> Any:
    source = ap.IndexSource(adata, block_size=4).shuffle_blocks().sort_within_chunks(chunk_size)
    return source.read_rows(["rows"]).batch_rows(batch_size).collate_rows()


def stateful(num_workers: int, **options: Any) -> StatefulDataLoader:
    return StatefulDataLoader(ap.ResumableDataset(pipe_of(ADATA)), batch_size=None, num_workers=num_workers, **options)


def rows(batches: Any) -> list[list[int]]:
    return [batch["rows"].tolist() for batch in batches]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_five_interruptions_lose_and_repeat_nothing(num_workers: int) -> None:
    loader = stateful(num_workers)
    batches = iter(loader)
    seen = rows(islice(batches, 2))
    state = loader.state_dict()
    expected = seen + rows(batches)
    for count in (3, 1, 4, 0, 99):
        loader = stateful(num_workers)
        loader.load_state_dict(state)
        seen += rows(islice(iter(loader), count))
        state = loader.state_dict()
    assert seen == expected


def half_read() -> dict[str, Any]:
    dataset = ap.ResumableDataset(pipe_of(ADATA))
    assert len(rows(islice(dataset, 2))) == 2
    return dataset.state_dict()


def test_a_state_of_other_data_or_parameters_is_refused() -> None:
    others = {
        "n_obs was 100 and is 99": pipe_of(ADATA[1:].copy()),
        "chunk_size was 24 and is 12": pipe_of(ADATA, chunk_size=12),
        "batch_size was 7 and is 8": pipe_of(ADATA, batch_size=8),
        "order was": ap.IndexSource(ADATA, block_size=4).sort_within_chunks(24).read_rows(["rows"]).batch_rows(7),
    }
    for difference, pipe in others.items():
        with pytest.raises(StateError, match=difference):
            ap.ResumableDataset(pipe).load_state_dict(half_read())


@pytest.mark.parametrize(
    "spoilt", [{"row": -1}, {"row": None}, {"seed": "x"}, {"version": 1}, {"belongs_to": []}, {"belongs_to": {}}]
)
def test_a_spoilt_state_is_refused(spoilt: dict[str, Any]) -> None:
    dataset = ap.ResumableDataset(pipe_of(ADATA))
    with pytest.raises(StateError):
        dataset.load_state_dict({**half_read(), **spoilt})


def test_a_pipe_of_others_has_no_state() -> None:
    with pytest.raises(PipelineError, match="ends with a stage of annpipes"):
        ap.ResumableDataset(pipe_of(ADATA).map(len))


@pytest.mark.parametrize(
    "options", [{"num_workers": 0}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}]
)
def test_every_row_once_and_a_new_order_in_each_epoch(options: dict[str, Any]) -> None:
    loader = stateful(**options)
    epochs = [[row for batch in rows(loader) for row in batch] for _ in range(3)]
    assert all(sorted(epoch) == list(range(100)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_a_loader_can_be_the_source_of_nodes() -> None:
    def node() -> nodes.Loader[Any]:
        return nodes.Loader(
            nodes.Prefetcher(nodes.IterableWrapper(ap.stream(ADATA, 8, fields=["rows"])), prefetch_factor=2)
        )

    loader = ap.stream(ADATA, 8, fields=["rows"])
    expected = rows(loader) + rows(loader)
    first = node()
    seen = rows(islice(iter(first), 5))
    second = node()
    second.load_state_dict(first.state_dict())
    assert seen + rows(second) + rows(second) == expected
