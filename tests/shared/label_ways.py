"""Codes of labels by every way to read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from builders import adata_of
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from annpipes import AnnDataset, IndexSource, Loader, stream

TABLES = {
    "in another order": ("cell_type", ["NK", "T", "B"]),
    "with more labels": ("cell_type", ["alpha", "B", "beta", "NK", "T", "omega"]),
    "with an unused one": ("cell_type", ["never seen", "B", "NK", "T"]),
    "against the order": ("stage", ["late", "early"]),
    "of numbers": ("lane", [10, 2, 7]),
    "of strings": ("donor", ["dritte Spenderin", "d2", "d1", "d0"]),
    "of strings, some missing": ("note", [f"note {i}" for i in range(28, -1, -1)]),
    "a tuple": ("cell_type", ("NK", "T", "B")),
    "an array": ("cell_type", np.array(["NK", "T", "B"])),
    "an index": ("cell_type", pd.CategoricalDtype(["NK", "T", "B"]).categories),
}


def pandas_table(adata: anndata.AnnData, column: str) -> tuple[str, ...]:
    return tuple(map(str, pd.Categorical(adata.obs[column]).categories))


def pandas_codes(adata: anndata.AnnData, column: str, table: Sequence[Any] | None = None) -> list[int]:
    """The code of each row in a table, the column's own when None."""
    values = pd.Categorical(adata.obs[column])
    if table is None:
        return values.codes.tolist()
    labels = values.rename_categories(list(map(str, values.categories)))
    return labels.set_categories(list(map(str, table))).codes.tolist()


def by_row(batches: Iterable[Any], column: str) -> list[int]:
    """The codes of batches in the order of rows."""
    found = {}
    for batch in batches:
        codes = batch[f"obs_{column}"]
        assert codes.dtype in (torch.int64, np.int64)
        found.update(zip(batch["rows"].tolist(), codes.tolist(), strict=True))
    return [found[row] for row in sorted(found)]


def reader_of(data: Any, fields: Sequence[str], rows: Any = None, **how: Any) -> Any:
    return IndexSource(data, rows=rows, block_size=3).shuffle_blocks().sort_within_chunks(7).read_rows(fields, **how)


def stream_of(data: Any, fields: Sequence[str], **how: Any) -> Loader:
    return stream(data, 4, fields=fields, block_size=3, chunk_size=8, **how)


def dataset_of(data: Any, fields: Sequence[str], rows: Any = None, **how: Any) -> AnnDataset:
    return AnnDataset(data, fields=fields, obs_subset=rows, **how)


def loaded(dataset: AnnDataset, workers: int = 0) -> DataLoader[Any]:
    return DataLoader(dataset, 4, collate_fn=dataset.get_collate_fn(), num_workers=workers)


WAYS: dict[str, Callable[..., Any]] = {"RowReader": reader_of, "stream": stream_of, "AnnDataset": dataset_of}


def codes_by(way: str, data: Any, column: str, **how: Any) -> list[int]:
    """The codes of a column as one way of reading gives them, in the order of rows."""
    read = WAYS[way](data, [f"obs/{column}:code", "rows"], **how)
    return by_row(loaded(read) if way == "AnnDataset" else read, column)


every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(params=["memory", "view", "file", "backed"])
def source(request: pytest.FixtureRequest, h5ad: Path) -> Any:
    if request.param == "file":
        yield h5ad
    elif request.param == "backed":
        adata = anndata.read_h5ad(h5ad, backed="r")
        yield adata
        adata.file.close()
    else:
        yield adata_of()[:] if request.param == "view" else adata_of()


@pytest.fixture
def adata(request: pytest.FixtureRequest) -> anndata.AnnData:
    """What the source holds if the test has one; a view, for instance, has fewer categories than the whole."""
    if "source" not in request.fixturenames:
        return adata_of()
    source = request.getfixturevalue("source")
    return anndata.read_h5ad(source) if isinstance(source, Path) else source


CODES = ["obs/cell_type:code", "obs/donor", "X"]


labels = st.sampled_from(["a", "b", "c", "d", ""])
