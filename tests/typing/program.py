"""A program as a user writes it: `tox -e types` checks it strictly, and what each part of it is."""

from collections.abc import Iterator
from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

import annpipes as ap
from annpipes.errors import AnnpipesError, ParameterError
from annpipes.reports import FoundGenes, Inspection, Route, Statistics


class SquareRoot(ap.Transform):
    """The square root of each value."""

    batched = True

    def __call__(self, x: Tensor) -> Tensor:
        return torch.sqrt(x)

    def on_sparse(self, rows: ap.SparseRows) -> ap.SparseRows:
        return rows.with_data(rows.data**0.5)


class Backwards(ap.Plan):
    """The rows of another plan, the last one first."""


def trained(loader: ap.Loader, model: torch.nn.Module) -> Tensor:
    """The loss of one epoch."""
    loss = torch.zeros(())
    for batch in loader:
        loss = torch.nn.functional.cross_entropy(model(batch["X"]), batch["obs_louvain"])
    return loss


def batches_of(loader: ap.Loader) -> Iterator[Tensor]:
    """X of each batch."""
    for batch in loader:
        yield batch["X"]


many = ap.Collection("atlas/*.h5ad", join="outer", on="feature_id", gene_versions="drop", missing_genes="fill")
remote = ap.Remote("s3://atlas/cells.h5ad", region="eu-central-1")
cache = ap.Cache("cache", size="200GB")

source = ap.IndexSource(many, rows="n_genes > 500", cache=cache)
assert_type(source.n_obs, int)
assert_type(source.block_size, int)
assert_type(source.fields, tuple[str, ...])
assert_type(source.route("X"), Route)

parts = ap.split(many, {"train": 0.8, "test": 0.2}, stratify="louvain")
assert_type(parts, dict[str, NDArray[np.int64]])

loader = ap.stream(
    remote,
    64,
    rows=parts["train"],
    fields=["X", "obs/louvain:code"],
    transform=[ap.NormalizeTotal(1e4), torch.log1p, SquareRoot()],
    cache="cache",
    memory="2GB",
)
assert_type(loader, ap.Loader)
assert_type(len(loader), int)
assert_type(loader.seed, int)
assert_type(loader.stats(), Statistics)
assert_type(loader.found_genes, FoundGenes)
state = assert_type(loader.state_dict(), dict[str, Any])
loader.load_state_dict(state)
node = loader.to_node()

dataset = ap.AnnDataset("pbmc.h5ad", transform=ap.Compose([ap.Clip(low=0), SquareRoot()]), rows=[3, 1])
assert_type(dataset.shape, tuple[int, int])
assert_type(dataset.fields, tuple[str, ...])
assert_type(dataset.rows, range | NDArray[np.int64])
assert_type(dataset.transform, ap.Transform | None)
assert_type(dataset[0], dict[str, Any])
assert_type(dataset[[1, 0]], dict[str, Any])
assert_type(dataset[0:2], list[dict[str, Any]])
assert_type(dataset.get_optimized_dataloader(32), DataLoader[dict[str, Any]])

sparse = next(iter(ap.stream("pbmc.h5ad", form="csr")))["X"]
assert isinstance(sparse, ap.CsrTensors)
assert_type(sparse.to("cuda").to_dense(), Tensor)

try:
    assert_type(ap.inspect("pbmc.h5ad"), Inspection)
except ParameterError as error:
    assert_type(error.remedy, str)
except AnnpipesError:
    pass

ap.stream("pbmc.h5ad", bath_size=64)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
ap.Cache(size="200GB")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
