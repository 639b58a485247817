"""Models of scvi-tools trained from files, without loading them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Self

import numpy as np

from annpipes.integrations.scvi_facts import ScviFacts
from annpipes.integrations.scvi_parts import LabeledBeside, parts_of
from annpipes.integrations.scvi_registry import Registered, ScviLabels, cell_labels_of, labels_of
from annpipes.messages.warning import warn
from annpipes.plans.rows import RowArray, Rows, as_count, as_natural
from annpipes.running.loader import Loader
from annpipes.running.ranks import find_ranks
from annpipes.stages.sources import IndexSource
from annpipes.stores import Store

try:
    import scvi
    from lightning.pytorch import LightningDataModule
    from scvi.train import SemiSupervisedTrainingPlan

    from annpipes.integrations.lightning_epochs import Evaluation, ResumingDataModule
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "annpipes.integrations.scvi needs scvi-tools: pip install 'annpipes[scvi]'", name=_missing.name
    ) from _missing

__all__ = ["ScviDataModule"]

_KEYS = (
    "layer",
    "batch_key",
    "labels_key",
    "size_factor_key",
    "categorical_covariate_keys",
    "continuous_covariate_keys",
    "sample_key",
)
_LOOKED_AT = 128  # cells in which counts are looked for
_LEAST = 3  # cells in a last batch, as in scvi-tools


class ScviDataModule(ScviFacts, ResumingDataModule, LightningDataModule):  # type: ignore[misc] # published without types
    """Data for scvi-tools to train from, in place of an AnnData in memory with ``setup_anndata``.

    >>> import anndata
    >>> adata = anndata.AnnData(np.random.default_rng(0).poisson(1.0, (700, 50)))
    >>> adata.write_h5ad("counts.h5ad", compression="gzip")
    >>> dm = ScviDataModule("counts.h5ad", batch_size=64, split={"train": 0.8, "val": 0.2})
    >>> dm.n_obs, dm.n_vars, dm.n_batch, len(dm.train_dataloader()), len(dm.val_dataloader())
    (700, 50, 1, 9, 3)

    ``SCVI(registry=dm.registry)`` makes a model for it, ``model.train(datamodule=dm)`` trains the model, and its
    methods take ``dataloader=dm.inference_dataloader()``. For SCANVI, which is also given ``datamodule=dm``, each
    batch is a pair, as with ``setup_anndata``: any cells, and as many labeled ones. Every checkpoint has the position
    of training, and ``model.train(datamodule=dm, ckpt_path=…)`` continues with the very next batch.

    Parameters
    ----------
    data
        As for `IndexSource`: a path, an AnnData, a list of these, a pattern, a `Collection`.
    batch_key, labels_key, layer, size_factor_key, categorical_covariate_keys, continuous_covariate_keys, sample_key
        As for ``setup_anndata``, which would give the same codes.
    unlabeled_category
        The label of unlabeled cells; cells whose label is missing get it, too.
    genes
        The genes of the model, as for `RowReader`: names, positions or a mask; all when None.
    categories
        For obs columns of labels, tables to use in place of the data's own, in the order of codes.
    split
        Shares of ``"train"``, ``"val"`` and ``"test"`` that add up to 1, or the rows of each, as for `IndexSource`.
    groupby, stratify
        As for `split`, for shares.
    batch_size
        Cells in each batch.
    seed
        Seed of the split and of the order, which depends only on it and on the trainer's epoch.
    block_size, cache
        As for `IndexSource`.
    chunk_size
        As for `ChunkSorter`.
    loading
        Any of ``num_workers``, ``method``, ``multiprocessing_context``, ``prefetch``, ``memory`` and
        ``pin_memory``, as for `Loader`.

    Raises
    ------
    FieldError
        There is no such column, layer or gene.
    ParameterError
        A cell lacks a label or a number that the model needs, or shares or rows are invalid.
    """

    def __init__(
        self,
        data: Any,
        *,
        batch_key: str | None = None,
        labels_key: str | None = None,
        layer: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        sample_key: str | None = None,
        unlabeled_category: Any = None,
        genes: Any = None,
        categories: Mapping[str, Sequence[Any]] | None = None,
        split: Mapping[str, Any] | None = None,
        groupby: str | None = None,
        stratify: str | None = None,
        batch_size: int = 128,
        seed: int = 0,
        block_size: int | None = None,
        chunk_size: int = 16_384,
        cache: Any = None,
        **loading: Any,
    ) -> None:
        super().__init__()
        self.source: IndexSource = IndexSource(data, cache=cache)
        self.store: Store = self.source.store
        self.genes: Any = genes
        self.block_size: int | None = block_size
        self.chunk_size: int = chunk_size
        self.loading: dict[str, Any] = loading
        self.batch_size: int = as_count(batch_size, "batch_size")
        self.seed: int = as_natural(seed, "seed")
        given = dict(categories or {})

        def known(column: str | None, argument: str) -> ScviLabels:
            return ScviLabels() if column is None else labels_of(self.store, column, argument, given.get(column))

        covariates = categorical_covariate_keys or ()
        self.registered: Registered = Registered(
            layer,
            known(batch_key, "batch_key"),
            cell_labels_of(self.store, labels_key, unlabeled_category, given),
            known(sample_key, "sample_key"),
            tuple(known(column, "categorical_covariate_keys") for column in covariates),
            tuple(continuous_covariate_keys or ()),
            size_factor_key,
            unlabeled_category,
        )
        self.registered.check(self.store)
        self.parts: dict[str, Rows] = parts_of(
            self.store, split or {"train": 0.9, "val": 0.1}, groupby, stratify, self.seed
        )
        looked_at = self.inference_dataloader(range(min(_LOOKED_AT, self.n_obs)), _LOOKED_AT)
        self.var_names: list[str] = [str(name) for name in looked_at.var.index]
        self._look_for_counts(looked_at)

    @classmethod
    def from_registry(cls, registry: Mapping[str, Any], data: Any, **options: Any) -> Self:
        """Other data with the columns, genes and codes of a trained model, for predictions and queries.

        Parameters
        ----------
        registry
            ``model.registry``, also from a model that was set up with an AnnData. Labels may be absent from the data.
        data
            As for the class.
        options
            Parameters of the class that a model does not know, such as ``batch_size``.

        Raises
        ------
        ParameterError
            The data has batches or categories that the model does not know.
        FieldError
            The data lacks a column or a gene.
        """
        asked, known = registry["setup_args"], registry["field_registries"]
        source = IndexSource(data, cache=options.get("cache"))
        keys = {key: asked.get(key) for key in _KEYS}
        if f"obs/{keys['labels_key']}" not in source.fields:
            keys["labels_key"] = None
        categories = dict(known["extra_categorical_covs"]["state_registry"].get("mappings", {}))
        for name, key in (("batch", "batch_key"), ("sample", "sample_key"), ("labels", "labels_key")):
            if keys[key] is not None:  # labels last: of the same column they may be in another order, for themselves
                categories.setdefault(keys[key], known[name]["state_registry"]["categorical_mapping"])
        unlabeled = known["labels"]["state_registry"].get("unlabeled_category") if keys["labels_key"] else None
        genes = [str(gene) for gene in known["X"]["state_registry"]["column_names"]]
        same = genes == [str(gene) for gene in source.var.index]
        keys |= {"genes": None if same else genes, "categories": categories, "unlabeled_category": unlabeled}
        return cls(source.store, **{"split": {"train": 1.0}, **options, **keys, "cache": None})

    def __reduce__(self) -> tuple[Any, ...]:
        """What a saved SCANVI, which keeps what it was made with, keeps of this: registry and labels, and no data."""
        return SimpleNamespace, (), {"registry": self.registry, "labels": self.labels}  # loaded without annpipes, too

    def _loader(self, rows: Rows, batch_size: int, *, shuffle: bool = False, **running: Any) -> Loader:
        """A loader of the model's batches."""
        source = IndexSource(self.store, rows=rows, block_size=self.block_size)
        ordered = source.shuffle_blocks() if shuffle else source
        chunks = ordered.sort_within_chunks(self.chunk_size).read_rows(self.registered.fields, genes=self.genes)
        batches = chunks.batch_rows(batch_size).collate_rows().map(self.registered)
        return Loader(batches, seed=self.seed, **self.loading, **running)

    def _look_for_counts(self, loader: Loader) -> None:
        """Warn of a matrix in which numbers are no counts, as scvi-tools does."""
        for batch in loader:
            wrong = batch["X"][(batch["X"] < 0) | (batch["X"] != batch["X"].round())]
            if len(wrong):
                warn(
                    f"{self.registered.counts} of {self.store.name} holds {wrong[0]:g}, but models of scvi-tools need "
                    f"counts: use layer= to say which layer has them"
                )

    def _part(self, name: str, *, shuffle: bool = False) -> Any:
        """The batches of one part of the split; for a semi-supervised model beside labeled ones, or None."""
        rows = np.asarray(self.parts.get(name, ()), np.int64)
        if len(rows) == 0:
            return []  # Lightning's "none"
        found: Any = self._shared(rows, shuffle)
        if self.trainer is not None and isinstance(self.trainer.lightning_module, SemiSupervisedTrainingPlan):
            labeled = rows[self.registered.is_labeled(self.store)[rows]]
            found = LabeledBeside(found, self._shared(labeled, shuffle) if len(labeled) else None)
        return self._epochs_of(found) if shuffle else Evaluation(found)

    def _shared(self, rows: RowArray, shuffle: bool) -> Loader:
        """A loader that ranks share."""
        rest = len(rows) % self.batch_size
        # Batch norm takes no batch of one cell while it is trained.
        small = shuffle and 0 < rest < _LEAST < len(rows) - rest and find_ranks(None, None).world_size == 1
        return self._loader(rows, self.batch_size, shuffle=shuffle, **({"tail": "drop"} if small else {}))

    def train_dataloader(self) -> Any:
        """Batches of the training part, in a new order each epoch; a last batch of one or two cells is left out."""
        return self._part("train", shuffle=True)

    def val_dataloader(self) -> Any:
        """Batches of the validation part, in the order of the data."""
        return self._part("val")

    def test_dataloader(self) -> Any:
        """Batches of the test part, in the order of the data."""
        return self._part("test")

    def inference_dataloader(self, rows: Any = None, batch_size: int = 1024) -> Loader:
        """Batches of all cells, or of some, in the order of the data, for ``dataloader=`` of a model's methods.

        Parameters
        ----------
        rows
            Which cells, as for `IndexSource`.
        batch_size
            Cells in each batch.
        """
        return self._loader(self.store.rows(rows), batch_size, rank=0, world_size=1)  # each process wants all

    @property
    def registry(self) -> dict[str, Any]:
        """What ``registry=`` of a model takes, as its ``setup_anndata`` would have it.

        It has no ``model_name``, so a model can be loaded by another class, such as SCANVI made of SCVI.
        """
        return {"scvi_version": scvi.__version__, **self.registered.registry(self.store, self.var_names)}
