"""What a model of scvi-tools is told of the data: its registry, and batches under the names that it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from annpipes.errors import FieldError, ParameterError
from annpipes.stores import Store, field_key

__all__ = ["Registered", "ScviLabels", "cell_labels_of", "labels_of"]


@dataclass(frozen=True, eq=False)
class ScviLabels:
    """What the codes of an obs column stand for; without a column every cell has code 0, as in scvi-tools.

    Parameters
    ----------
    column
        The obs column, if there is one.
    table
        The labels in the order of their codes.
    code_of
        For each code of the data the code in this table, and at the end that of a missing label.
    """

    column: str | None = None
    table: tuple[Any, ...] = (0,)
    code_of: Tensor | None = None

    @property
    def field(self) -> str:
        """The field that is read, in the data's own codes."""
        return f"obs/{self.column}:code"

    @property
    def mapping(self) -> NDArray[Any]:
        """The labels as scvi-tools keeps them, ``(labels,)``."""
        return np.array(self.table, object if any(isinstance(label, str) for label in self.table) else None)

    def codes(self, own: Tensor) -> Tensor:
        """Codes of this table ``(n,)`` for those of the data."""
        return torch.zeros_like(own) if self.code_of is None else self.code_of[own.long()]

    def codes_of(self, store: Store) -> Tensor:
        """The code of every cell of the data, ``(n_obs,)``."""
        if self.column is None:
            return torch.zeros(store.n_obs, dtype=torch.int64)
        return self.codes(torch.from_numpy(np.array(store.codes(self.column), np.int64)))

    def column_of(self, batch: Mapping[str, Any]) -> Tensor:
        """The codes of a batch's cells, ``(n, 1)``."""
        own = batch["rows"] if self.column is None else batch[field_key(self.field)]
        return self.codes(own)[:, None]


def labels_of(
    store: Store, column: str, argument: str, table: Sequence[Any] | None = None, missing: Any = None
) -> ScviLabels:
    """The labels of an obs column, each known to the table: a given one, or the data's own.

    Parameters
    ----------
    store, column
        The data, and the obs column.
    argument
        What errors call the column.
    table
        The labels in the order of their codes; the data's own when None.
    missing
        What cells without a label have in place of one.

    Raises
    ------
    FieldError
        No such column, or one of floats.
    ParameterError
        Cells have no label, or one that is not in the table.
    """
    own = store.categories(column)
    known = own if table is None else tuple(label.item() if isinstance(label, np.generic) else label for label in table)
    place = {label: code for code, label in enumerate(known)}
    code_of = np.array([*(place.get(label, -1) for label in own), place.get(missing, -1)], np.int64)
    present = np.unique(store.codes(column))  # of the data, -1 where missing
    unknown = present[code_of[present] < 0]
    if len(unknown):
        some = ", ".join("none" if code < 0 else repr(own[code]) for code in unknown[:5].tolist())
        raise ParameterError(
            f"{argument} {column!r}: every cell needs a label among {', '.join(map(str, known[:10]))}"
            f"{' …' if len(known) > 10 else ''}, but some have {some}"
        )
    return ScviLabels(column, known, torch.from_numpy(code_of))


def cell_labels_of(store: Store, column: str | None, unlabeled: Any, given: Mapping[str, Sequence[Any]]) -> ScviLabels:
    """The labels of cells, among which that of unlabeled ones, if there is one, comes last.

    It changes places with the last label, as in scvi-tools; cells whose label is missing have it, too.

    Raises
    ------
    ParameterError
        There is a label of unlabeled cells, and no column; or what `labels_of` raises.
    """
    if column is None:
        if unlabeled is not None:
            raise ParameterError(f"unlabeled_category={unlabeled!r} needs labels_key, but there is none")
        return ScviLabels()
    if unlabeled is None:
        return labels_of(store, column, "labels_key", given.get(column))
    table = [*given.get(column, store.categories(column))]
    table += [] if unlabeled in table else [unlabeled]
    place = table.index(unlabeled)
    table[place], table[-1] = table[-1], table[place]
    return labels_of(store, column, "labels_key", table, missing=unlabeled)


@dataclass(frozen=True, eq=False)
class Registered:
    """What is read of each cell, and what it is to the model. Called with a batch it gives the model's own.

    Parameters
    ----------
    layer
        The layer that holds the counts; X when None.
    batch, labels, sample
        Their labels.
    categorical
        The labels of each categorical covariate.
    continuous
        The obs columns of continuous covariates.
    size_factor
        The obs column of size factors.
    unlabeled
        The label of cells that have none, if there may be such cells.
    """

    layer: str | None
    batch: ScviLabels
    labels: ScviLabels
    sample: ScviLabels
    categorical: tuple[ScviLabels, ...]
    continuous: tuple[str, ...]
    size_factor: str | None
    unlabeled: Any

    @property
    def counts(self) -> str:
        """The field that holds the counts."""
        return "X" if self.layer is None else f"layers/{self.layer}"

    @property
    def fields(self) -> tuple[str, ...]:
        """All that is read of each cell."""
        labels = [some.field for some in (self.batch, self.labels, self.sample, *self.categorical) if some.column]
        numbers = [f"obs/{column}" for column in (self.size_factor, *self.continuous) if column]
        return tuple(dict.fromkeys([self.counts, "rows", *labels, *numbers]))

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """A batch of tensors under the names that models of scvi-tools look for, each ``(n, …)``."""
        named = {
            "X": batch[field_key(self.counts)],
            "batch": self.batch.column_of(batch),
            "labels": self.labels.column_of(batch),
            "ind_x": batch["rows"][:, None],
        }
        if self.size_factor is not None:
            named["size_factor"] = batch[field_key(f"obs/{self.size_factor}")].float()[:, None]
        if self.categorical:
            named["extra_categorical_covs"] = torch.cat([some.column_of(batch) for some in self.categorical], dim=1)
        if self.continuous:
            columns = [batch[field_key(f"obs/{column}")].float() for column in self.continuous]
            named["extra_continuous_covs"] = torch.stack(columns, dim=1)
        if self.sample.column is not None:
            named["sample"] = self.sample.column_of(batch)
        return named

    def check(self, store: Store) -> None:
        """Raise the error that a column of numbers would make in the middle of training."""
        for column in (self.size_factor, *self.continuous):
            if column is None:
                continue
            values = store.column_values(column)
            if values.dtype.kind not in "biuf":
                raise FieldError(f"obs column {column!r} of {store.name} holds labels, but numbers are needed")
            if not np.isfinite(values).all():
                raise ParameterError(f"obs column {column!r} of {store.name} has values that are missing or infinite")
            if column == self.size_factor and not (values > 0).all():
                raise ParameterError(f"size_factor_key {column!r}: size factors must be above 0, got {values.min()}")

    def is_labeled(self, store: Store) -> NDArray[np.bool_]:
        """Whether a cell has a label, ``(n_obs,)``."""
        codes = self.labels.codes_of(store).numpy()
        return np.ones(len(codes), bool) if self.unlabeled is None else codes < len(self.labels.table) - 1

    def n_labels(self, store: Store) -> int:
        """How many labels there are; that of unlabeled cells is left out if cells have all others, as in SCANVI."""
        known = len(self.labels.table)
        if self.unlabeled is None:
            return known
        present = np.unique(self.labels.codes_of(store).numpy())
        return known - bool(np.array_equal(present, np.arange(known - 1)))

    def registry(self, store: Store, var_names: Sequence[str]) -> dict[str, Any]:
        """What ``registry=`` of a model takes, as its ``setup_anndata`` would have it.

        It also names ``setup_anndata`` as the method that made it. If that were ``setup_datamodule``, scvi-tools 1.4
        would load a model without size factors and the module's own options, and one covariate in place of several.
        """
        categorical, continuous = self.categorical, self.continuous
        mappings = {some.column: some.mapping for some in categorical}
        asked = {"sample_key": self.sample.column, "unlabeled_category": self.unlabeled}  # not of every model
        return {
            "setup_method_name": "setup_anndata",
            "setup_args": {
                "layer": self.layer,
                "batch_key": self.batch.column,
                "labels_key": self.labels.column,
                "size_factor_key": self.size_factor,
                "categorical_covariate_keys": [some.column for some in categorical] or None,
                "continuous_covariate_keys": [*continuous] or None,
                **{name: value for name, value in asked.items() if value is not None},
            },
            "field_registries": {
                "X": {
                    "data_registry": {"attr_name": "layers" if self.layer else "X", "attr_key": self.layer},
                    "state_registry": {
                        "n_obs": store.n_obs,
                        "n_vars": len(var_names),
                        "column_names": np.array(var_names, object),
                    },
                    "summary_stats": {"n_vars": len(var_names), "n_cells": store.n_obs},
                },
                "batch": _labels_entry("batch", self.batch),
                "labels": _labels_entry(
                    "labels",
                    self.labels,
                    self.n_labels(store),
                    unlabeled_category=self.unlabeled,
                ),
                "sample": {
                    **_labels_entry("sample", self.sample),
                    "n_obs_per_sample": {"n_obs_per_sample": self._cells_of_samples(store)},
                },
                "ind_x": _entry("_indices", "obs"),
                "size_factor": _entry(self.size_factor, "obs"),
                "extra_categorical_covs": _entry(
                    "_scvi_extra_categorical_covs" if categorical else None,
                    "obsm",
                    {
                        "field_keys": [some.column for some in categorical],
                        "mappings": mappings,
                        # scvi-tools 1.5 looks for them by this name when it decodes the batches of a loader.
                        "mapping": mappings,
                        "n_cats_per_key": [len(some.table) for some in categorical],
                    },
                    n_extra_categorical_covs=len(categorical),
                ),
                "extra_continuous_covs": _entry(
                    "_scvi_extra_continuous_covs" if continuous else None,
                    "obsm",
                    {"columns": np.array(continuous, object)},
                    n_extra_continuous_covs=len(continuous),
                ),
            },
        }

    def _cells_of_samples(self, store: Store) -> Tensor:
        """How many cells each sample has, ``(samples,)``; of none without a sample's column."""
        if self.sample.column is None:
            return torch.tensor([])
        return torch.bincount(self.sample.codes_of(store), minlength=len(self.sample.table)).float()


def _entry(key: str | None, slot: str, state: Mapping[str, Any] | None = None, **summary: int) -> dict[str, Any]:
    """What a registry says of one field; of one that is not there it says nothing."""
    there = key is not None
    return {
        "data_registry": {"attr_name": slot, "attr_key": key} if there else {},
        "state_registry": dict(state or {}) if there else {},
        "summary_stats": summary,
    }


def _labels_entry(name: str, labels: ScviLabels, count: int | None = None, **state: Any) -> dict[str, Any]:
    """What a registry says of an obs column of labels, of which the model shall have ``count``."""
    mapping = {"categorical_mapping": labels.mapping, "original_key": labels.column or f"_scvi_{name}", **state}
    return _entry(f"_scvi_{name}", "obs", mapping, **{f"n_{name}": len(labels.table) if count is None else count})
