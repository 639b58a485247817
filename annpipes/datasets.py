"""The map-style facade: cells by position."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from annpipes.errors import ParameterError, ParameterTypeError, RowIndexError
from annpipes.messages.brevity import brief_named
from annpipes.messages.showing import Labelled, Part, Shown, Title
from annpipes.plans.rows import RowArray, Rows, as_count, take_rows
from annpipes.stages.collating import collate
from annpipes.stores import (
    Answers,
    GeneVersions,
    Matching,
    MissingGenes,
    Obs,
    Request,
    Store,
    Unknown,
    as_fields,
    open_store,
)
from annpipes.transforms.applying import Applied, needed_by
from annpipes.transforms.base import Transform, as_transform
from annpipes.types import Batch, Chunk

__all__ = ["AnnDataset", "RowItems", "collate_items"]

Item = dict[str, Any]


class RowItems(Sequence[Item]):
    """Items that were fetched at once: looks like a list, and is split only where looked at.

    Parameters
    ----------
    collated
        For each key the values of all rows: a tensor ``(n, …)`` or a list of n strings.
    length
        How many rows.
    """

    def __init__(self, collated: Mapping[str, Any], length: int) -> None:
        self.collated = collated
        self.length = length

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[place] for place in range(self.length)[index]]
        return self._items[index]

    @cached_property
    def _items(self) -> list[Item]:
        return [dict(zip(self.collated, values, strict=True)) for values in zip(*self.collated.values(), strict=True)]


def collate_items(items: Sequence[Item]) -> dict[str, Any]:
    """Items as one batch: tensors stacked ``(n, …)``, strings in lists.

    >>> collate_items([{"X": torch.zeros(3), "obs_donor": "a"}])
    {'X': tensor([[0., 0., 0.]]), 'obs_donor': ['a']}
    """
    if isinstance(items, RowItems):
        return dict(items.collated)
    columns = {key: [item[key] for item in items] for key in items[0]}
    return {key: torch.stack(values) if torch.is_tensor(values[0]) else values for key, values in columns.items()}


class AnnDataset(Answers, Shown, Dataset[Item]):
    """Cells as a torch `Dataset`: ``ds[i]`` is one cell's X and obs.

    >>> ds = AnnDataset("pbmc.h5ad", obs_subset=[5, 3])
    >>> len(ds), ds.shape, ds[0]["X"].shape, ds[0]["obs_louvain"]
    (2, (2, 765), torch.Size([765]), '8')

    An item is a dict with ``X``, a float32 tensor ``(n_vars,)``, and ``obs_<column>`` for
    every obs column: numbers and booleans as tensors of their own type, strings and
    categories as strings. A missing string or category is ``""``; a missing number is NaN,
    and nullable integers or booleans with missing values are float64.

    Indexing with a mask, or with positions in a list, array or tensor, gives a batch: ``ds[[3, 1]]`` is a dict of
    tensors ``(2, …)`` and lists. The rows of a batch that torch's `DataLoader` asks for are read together, sorted for
    the disk, and returned in the order asked for. Nothing stays open across processes, so any number of workers
    and any start method works.

    Parameters
    ----------
    adata
        An `anndata.AnnData` in memory (dense, CSR, a view) or backed, the path of an ``.h5ad`` file or a Zarr store, a
        list of these, a pattern, or a `Collection`.
    transform
        Applied to X; an instance of `annpipes.Transform`.
    obs_subset
        The cells to keep: positions in any order (duplicates are kept), a mask of length
        ``n_obs``, obs names, or an expression over obs columns, as ``rows`` of `IndexSource`. All when None.
    rows
        Another name for ``obs_subset``, as used elsewhere.
    fields
        What an item has, as for `RowReader`; X and all obs columns when None.
    genes, genes_from, missing_genes, gene_versions, categories, unknown
        As for `RowReader`.
    chunk_size
        How many rows one read fetches at most; larger batches take several reads.
    cache
        As for `IndexSource`.

    Raises
    ------
    ParameterTypeError
        ``transform`` is not a `Transform`, or ``adata`` is neither AnnData nor path.
    ParameterError, RowIndexError, FieldError
        ``obs_subset`` has the wrong length, a position out of range or an unknown obs name, or is an
        expression that pandas refuses.
    FormatError
        The file's X cannot be read by rows.
    """

    def __init__(
        self,
        adata: Any,
        *,
        transform: Transform | None = None,
        obs_subset: Any = None,
        rows: Any = None,
        fields: Sequence[str] | None = None,
        genes: Any = None,
        genes_from: str | None = None,
        missing_genes: MissingGenes = "error",
        gene_versions: GeneVersions = "keep",
        categories: Mapping[str, Sequence[Any]] | None = None,
        unknown: Unknown = "error",
        chunk_size: int = 6000,
        cache: Any = None,
    ) -> None:
        self.store: Store = open_store(adata, cache)
        self.transform: Transform | None = None if transform is None else as_transform(transform)
        if rows is not None and obs_subset is not None:
            raise ParameterError("rows and obs_subset are two names for the same parameter: give only one")
        named = "rows" if obs_subset is None else "obs_subset"
        self.rows: Rows = self.store.rows(rows if obs_subset is None else obs_subset, argument=named)
        self.chunk_size: int = as_count(chunk_size, "chunk_size")
        every = ("X", *(field for field in self.store.fields if field.startswith("obs/")))
        self.fields: tuple[str, ...] = every if fields is None else as_fields(fields)
        if transform is not None and "X" not in self.fields:
            raise ParameterError(f"transform is applied to X, which is not among fields ({', '.join(self.fields)})")
        known = Matching.of(genes_from, missing_genes, gene_versions)
        self.request: Request = Request.of(
            self.store, self.fields, genes=genes, matching=known, categories=categories, unknown=unknown, rows=self.rows
        )
        self._applied: Applied | None = None
        if self.transform is not None:
            self._applied = Applied(self.transform)
            needed = needed_by(self.transform, "X", some_genes=self.request.has_some_genes("X"))
            self.request = self.request.knowing(needed)

    @property
    def shape(self) -> tuple[int, int]:
        """``(n_obs, n_vars)`` of the cells kept."""
        return len(self), self.request.n_vars

    @property
    def obs(self) -> Obs:
        """The columns of obs for the cells kept, in their order, each loaded when it is asked for.

        >>> AnnDataset("pbmc.h5ad", rows=[5, 3]).obs["phase"].tolist()
        ['G1', 'G2M']
        """
        return Obs(self.store, self.rows)

    @property
    def n_obs(self) -> int:
        """How many cells are kept."""
        return len(self)

    def _answering(self, needed_for: str) -> Request:
        return self.request

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        shape = f"n_obs={len(self)}, n_vars={self.shape[1]}"
        transform = f", transform={self.transform!r}" if self.transform else ""
        return f"AnnDataset({self.store!r}, {shape}{transform}, chunk_size={self.chunk_size})"

    def _shown(self) -> Sequence[Part]:
        applied = [] if self.transform is None else [("transform", repr(self.transform))]
        chosen = [] if self.request.chosen is None else [("genes", self.found_genes.line)]
        return [
            Title(f"{type(self).__name__}: {len(self):,} cells × {self.shape[1]:,} genes"),
            Labelled([("data", repr(self.store)), ("fields", brief_named(self.fields)), *chosen, *applied]),
        ]

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    @overload
    def __getitem__(self, index: Any) -> Item: ...
    def __getitem__(self, index: Any) -> Item | list[Item]:
        if isinstance(index, slice):
            return list(self.__getitems__(range(len(self))[index]))
        if _is_one(index):  # as _places would have it, which takes longer
            if not -len(self) <= (place := operator.index(index)) < len(self):
                raise RowIndexError(f"index {index} is out of range for {len(self)} cells")
            return self._fetched(np.array([place % len(self)]))[0]
        return collate_items(self._fetched(self._places(index)))

    def __getitems__(self, indices: Sequence[int] | RowArray) -> RowItems:
        """Several items with one read; torch's `DataLoader` calls this for each batch."""
        return self._fetched(self._places(indices))

    def _fetched(self, places: RowArray) -> RowItems:
        batch = self._read(take_rows(self.rows, places))
        if self._applied is not None:
            batch = self._applied(batch)
        return RowItems(collate(batch), len(batch))

    def _places(self, indices: Any) -> RowArray:
        """Positions as an array, those that count from the end resolved; a mask as the positions it marks."""
        given = indices.cpu() if isinstance(indices, torch.Tensor) else indices
        places = np.asarray(given if len(given) else np.zeros(0, np.int64))
        if places.dtype == object and places.ndim == 1 and all(map(_is_one, places)):  # some beyond 64 bits
            places = np.clip(places, -(2**63), 2**63 - 1).astype(np.int64)
        if places.ndim != 1 or places.dtype.kind not in "biu":
            raise ParameterTypeError(
                f"cells are chosen by integers or a mask, got {indices!r:.80} (a DataLoader whose sampler yields lists "
                f"of integers needs batch_size=None)"
            )
        if places.dtype == bool:
            if len(places) != len(self):
                raise ParameterError(f"the mask has {len(places)} cells, but there are {len(self)}")
            return np.flatnonzero(places)
        places = places.astype(np.int64)
        wrong = np.flatnonzero((places < -len(self)) | (places >= len(self)))
        if len(wrong):
            raise RowIndexError(f"index {list(given)[wrong[0]]} is out of range for {len(self)} cells")
        places[places < 0] += len(self)
        return places

    def _read(self, rows: RowArray) -> Batch:
        if len(rows) <= self.chunk_size:
            return self.request.read(Chunk.of(rows))
        parts = np.split(rows, range(self.chunk_size, len(rows), self.chunk_size))
        return Batch.concat([self.request.read(Chunk.of(part)) for part in parts])

    def get_collate_fn(self) -> Callable[[Sequence[Item]], Item]:
        """The function that makes a batch from items: tensors stacked, strings in lists."""
        return collate_items

    def get_optimized_dataloader(
        self, batch_size: int | None = 32, shuffle: bool = True, num_workers: int = 0, **kwargs: Any
    ) -> DataLoader[Item]:
        """A `DataLoader` over this dataset that takes batches as they were read, without splitting them into items.

        >>> loader = AnnDataset("pbmc.h5ad").get_optimized_dataloader(batch_size=64)
        >>> next(iter(loader))["X"].shape
        torch.Size([64, 765])

        Parameters
        ----------
        batch_size, shuffle, num_workers
            As for `torch.utils.data.DataLoader`.
        **kwargs
            Anything else that `DataLoader` takes; a ``sampler`` or ``batch_sampler`` among
            them decides the order.
        """
        options: dict[str, Any] = {"persistent_workers": num_workers > 0}
        if batch_size is not None:
            options["collate_fn"] = collate_items
        if "batch_sampler" not in kwargs:
            options["batch_size"] = batch_size
            if "sampler" not in kwargs:
                options["shuffle"] = shuffle and len(self) > 0  # torch has no random order of nothing
        return DataLoader(self, num_workers=num_workers, **{**options, **kwargs})


def _is_one(index: Any) -> bool:
    """Whether it is a single position."""
    try:
        operator.index(index)
    except TypeError:
        return False
    return not isinstance(index, np.ndarray | torch.Tensor) or index.ndim == 0
