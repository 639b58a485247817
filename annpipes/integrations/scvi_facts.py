"""What models of scvi-tools ask of a data module beside batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.integrations.scvi_registry import Registered
from annpipes.plans.rows import RowArray, Rows
from annpipes.stores import Store

__all__ = ["ScviFacts"]


class ScviFacts:
    """Sizes, labels and parts of the data, under the names by which ``train`` and SCANVI look for them."""

    store: Store
    registered: Registered
    parts: Mapping[str, Rows]
    var_names: Sequence[str]
    """The names of a model's genes."""

    @property
    def n_obs(self) -> int:
        """How many cells the data has."""
        return self.store.n_obs

    @property
    def n_vars(self) -> int:
        """How many genes a model has."""
        return len(self.var_names)

    @property
    def n_batch(self) -> int:
        """How many batches, in the sense of `batch_key`, there are."""
        return len(self.registered.batch.table)

    @property
    def n_labels(self) -> int:
        """How many labels a model knows."""
        return self.registered.n_labels(self.store)

    @property
    def n_continuous_cov(self) -> int:
        """How many continuous covariates there are."""
        return len(self.registered.continuous)

    @property
    def n_cats_per_cov(self) -> list[int] | None:
        """How many categories each categorical covariate has; None without any."""
        return [len(labels.table) for labels in self.registered.categorical] or None

    @property
    def unlabeled_category(self) -> Any:
        """The label of cells that have none."""
        return self.registered.unlabeled

    @property
    def labels(self) -> NDArray[Any]:
        """The label of each cell, ``(n_obs,)``."""
        labels: NDArray[Any] = self.registered.labels.mapping[self.registered.labels.codes_of(self.store).numpy()]
        return labels

    @property
    def n_train(self) -> int:
        """How many cells are trained on."""
        return len(self.parts["train"])

    @property
    def n_val(self) -> int:
        """How many cells are validated on."""
        return len(self.parts.get("val", ()))

    @property
    def train_idx(self) -> RowArray:
        """The cells that are trained on."""
        return np.asarray(self.parts["train"], np.int64)

    @property
    def val_idx(self) -> RowArray:
        """The cells that are validated on."""
        return np.asarray(self.parts.get("val", ()), np.int64)

    @property
    def test_idx(self) -> RowArray:
        """The cells that are tested on."""
        return np.asarray(self.parts.get("test", ()), np.int64)
