"""Which cells a model of scvi-tools is trained on, in which order, and what is refused before it is."""

from __future__ import annotations

import json
from itertools import chain, islice
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

scvi = pytest.importorskip("scvi", reason="scvi-tools is not installed")

from scvi_models import SMALL, counts, counts_file, scvi_alone, trained  # noqa: E402, F401

import annpipes as ap  # noqa: E402
from annpipes.errors import FieldError, ParameterError, ParameterTypeError, StateError  # noqa: E402
from annpipes.integrations.scvi import ScviDataModule  # noqa: E402
from annpipes.integrations.scvi_parts import LabeledBeside  # noqa: E402

pytestmark = pytest.mark.usefixtures("scvi_alone")


def rows_of(batches: Any) -> list[list[int]]:
    return [batch["ind_x"].ravel().tolist() for batch in batches]


def by_epoch(seen: Any, part: int = 0) -> list[list[int]]:
    epochs: dict[int, list[int]] = {}
    for epoch, rows in zip(seen.epochs, seen.rows, strict=True):
        epochs.setdefault(epoch, []).extend(rows[part])
    return list(epochs.values())


def test_each_epoch_has_the_training_cells_once_in_another_order(counts_file: Path) -> None:
    dm = ScviDataModule(counts_file, batch_size=40)
    seen = trained(scvi.model.SCVI(registry=dm.registry, **SMALL), dm, epochs=3, check_val_every_n_epoch=1)
    epochs = by_epoch(seen)
    assert len(epochs) == 3
    assert all(sorted(rows) == dm.train_idx.tolist() for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) == 3
    again = trained(scvi.model.SCVI(registry=dm.registry, **SMALL), dm, epochs=3)
    assert by_epoch(again) == epochs


def test_parts_are_disjoint_and_whole(counts_file: Path) -> None:
    dm = ScviDataModule(counts_file, split={"train": 0.4, "val": 0.3, "test": 0.3}, groupby="donor", batch_size=45)
    parts = [
        np.concatenate(rows_of(loader())) for loader in (dm.train_dataloader, dm.val_dataloader, dm.test_dataloader)
    ]
    assert sorted(np.concatenate(parts).tolist()) == list(range(300))
    assert [sorted(part.tolist()) for part in parts] == [
        dm.train_idx.tolist(),
        dm.val_idx.tolist(),
        dm.test_idx.tolist(),
    ]
    donors = anndata.read_h5ad(counts_file).obs["donor"].to_numpy()
    assert sum(len(set(donors[part])) for part in parts) == 3
    assert (dm.n_train, dm.n_val) == (len(dm.train_idx), len(dm.val_idx))


def test_given_rows_are_the_parts(counts_file: Path) -> None:
    train, val = ap.split(counts_file, [0.5, 0.5], seed=4)
    dm = ScviDataModule(counts_file, split={"train": train, "val": val[:20]}, batch_size=10)
    assert sorted(chain(*rows_of(dm.train_dataloader()))) == train.tolist()
    assert [*chain(*rows_of(dm.val_dataloader()))] == val[:20].tolist()
    chosen = ScviDataModule(counts_file, split={"train": "donor == 'x'"})
    assert chosen.train_idx.tolist() == np.flatnonzero(anndata.read_h5ad(counts_file).obs["donor"] == "x").tolist()
    assert chosen.val_dataloader() == []


@pytest.mark.parametrize(("rest", "left_out"), [(0, 0), (1, 1), (2, 2), (3, 0)])
def test_a_last_batch_too_small_for_batch_norm_is_left_out(rest: int, left_out: int, counts_file: Path) -> None:
    dm = ScviDataModule(counts_file, split={"train": range(50 + rest)}, batch_size=25)
    found = rows_of(dm.train_dataloader())
    assert sum(map(len, found)) == 50 + rest - left_out
    trained(scvi.model.SCVI(registry=dm.registry, **SMALL), dm)


def test_labeled_cells_stand_beside_all(counts: anndata.AnnData, counts_file: Path) -> None:
    dm = ScviDataModule(counts_file, labels_key="label", unlabeled_category="Unknown", batch_size=40)
    seen = trained(scvi.model.SCANVI(registry=dm.registry, datamodule=dm, **SMALL), dm, epochs=3)
    has_label = (counts.obs["label"] != "Unknown").to_numpy()
    labeled = set(np.flatnonzero(has_label)) & set(dm.train_idx.tolist())
    assert 0 < len(labeled) < dm.n_train
    for every, beside in zip(by_epoch(seen), by_epoch(seen, 1), strict=True):
        assert sorted(every) == dm.train_idx.tolist()
        assert set(beside) == labeled
        assert np.ptp(np.unique(beside, return_counts=True)[1]) <= 1
    again = trained(scvi.model.SCANVI(registry=dm.registry, datamodule=dm, **SMALL), dm, epochs=3)
    assert again.rows == seen.rows


def test_an_epoch_of_two_loaders_is_known_from_its_number(counts_file: Path) -> None:
    def pairs(epoch: int) -> list[Any]:
        loaders = [ap.stream(counts_file, 10, fields=["rows"], rows=range(stop)) for stop in (100, 25)]
        loaders[0].set_epoch(epoch)
        beside = LabeledBeside(*loaders)
        return [[(one["rows"].tolist(), two["rows"].tolist()) for one, two in beside] for _ in range(3 - epoch)]

    assert pairs(2) == pairs(0)[2:]
    assert pairs(1) == pairs(0)[1:]


def test_two_loaders_go_on_together(counts_file: Path) -> None:
    def beside(**options: Any) -> LabeledBeside:
        every, labeled = (ap.stream(counts_file, 10, fields=["rows"], rows=range(n), **options) for n in (100, 25))
        return LabeledBeside(every, labeled)

    def rows(batches: Any) -> list[Any]:
        return [(one["rows"].tolist(), two["rows"].tolist()) for one, two in batches]

    whole = [pair for running in [beside()] for _ in range(3) for pair in rows(running)]
    for taken in (0, 1, 4, 9, 10, 13, 20):
        running, seen = beside(), []
        while len(seen) < taken:
            seen += rows(islice(running, taken - len(seen)))
        resumed = beside(num_workers=2)
        resumed.load_state_dict(json.loads(json.dumps(running.state_dict())))
        assert seen + [pair for _ in range(3 - taken // 10) for pair in rows(resumed)] == whole
    with pytest.raises(StateError, match="seed was 0 and is 3"):
        beside(seed=3).load_state_dict(beside().state_dict())
    with pytest.raises(StateError, match="lacks labeled"):
        beside().load_state_dict(beside().every.state_dict())


def test_cells_without_a_label_are_unlabeled(counts: anndata.AnnData) -> None:
    adata, absent = counts.copy(), counts.obs["label"] == "Unknown"
    adata.obs["label"] = adata.obs["label"].astype(object).where(~absent, None)
    keys = {"labels_key": "label", "unlabeled_category": "Unknown"}
    mine, theirs = ScviDataModule(adata, **keys), ScviDataModule(counts, **keys)
    assert mine.labels.tolist() == counts.obs["label"].tolist() == theirs.labels.tolist()
    assert mine.n_labels == 4
    with pytest.raises(ParameterError, match=r"labels_key 'label': every cell needs a label among .*some have none"):
        ScviDataModule(adata, labels_key="label")


def test_a_model_without_registry_trains(counts_file: Path) -> None:
    dm = ScviDataModule(
        counts_file, batch_key="batch", categorical_covariate_keys=["lane"], continuous_covariate_keys=["age"]
    )
    with pytest.warns(UserWarning, match="initialized without `adata`"):
        model = scvi.model.SCVI(**SMALL)
    assert len(trained(model, dm).losses) == 3
    assert model.module.z_encoder.encoder.n_cat_list == []
    assert model.module.decoder.px_decoder.n_cat_list == [2, 2]


def test_some_genes(counts: anndata.AnnData, counts_file: Path) -> None:
    dm = ScviDataModule(counts_file, genes=["gene-7", "gene-2"], split={"train": 1.0})
    batch = next(iter(dm.inference_dataloader()))
    np.testing.assert_array_equal(batch["X"].numpy(), counts[:, ["gene-7", "gene-2"]].X.toarray())
    assert dm.registry["field_registries"]["X"]["state_registry"]["column_names"].tolist() == ["gene-7", "gene-2"]
    assert dm.n_vars == 2


def test_numbers_that_are_no_counts_are_told(counts: anndata.AnnData) -> None:
    adata = counts.copy()
    adata.X = adata.X / 3
    with pytest.warns(UserWarning, match=r"X of .* holds 0\.\d+, but models of scvi-tools need counts: use layer="):
        ScviDataModule(adata)
    ScviDataModule(adata, layer="doubled")


def changed(counts: anndata.AnnData, **columns: Any) -> anndata.AnnData:
    adata = counts.copy()
    adata.obs = adata.obs.assign(**columns)
    return adata


@pytest.mark.parametrize(
    ("options", "columns", "error", "message"),
    [
        ({"batch_key": "plate"}, {}, FieldError, "no obs column 'plate'"),
        ({"layer": "raw"}, {}, FieldError, "no field 'layers/raw'"),
        ({"unlabeled_category": "Unknown"}, {}, ParameterError, "needs labels_key"),
        ({"continuous_covariate_keys": ["donor"]}, {}, FieldError, "'donor' .* holds labels"),
        ({"continuous_covariate_keys": ["age"]}, {"age": np.nan}, ParameterError, "missing or infinite"),
        ({"size_factor_key": "factor"}, {"factor": 0.0}, ParameterError, "above 0, got 0"),
        ({"batch_key": "batch"}, {"batch": pd.NA}, ParameterError, "every cell needs a label"),
        ({"split": {"val": 1.0}}, {}, ParameterError, "split must name train"),
        ({"split": {"train": 0.5, "dev": 0.5}}, {}, ParameterError, "may name val and test, got train, dev"),
        ({"split": [0.5, 0.5]}, {}, ParameterTypeError, "split must be a dict"),
        ({"split": {"train": range(9), "val": range(8, 12)}}, {}, ParameterError, "1 rows in both train and val"),
        ({"split": {"train": range(9)}, "groupby": "donor"}, {}, ParameterError, "apply only to shares"),
        ({"split": {"train": 0.0, "val": 1.0}}, {}, ParameterError, "no rows to train on"),
        ({"categories": {"donor": ["x", "y"]}, "batch_key": "donor"}, {}, ParameterError, "some have 'z'"),
        ({"batch_size": 0}, {}, ParameterError, "batch_size must be at least 1"),
    ],
)
def test_what_cannot_be_right_is_refused(
    options: Any, columns: Any, error: Any, message: str, counts: anndata.AnnData
) -> None:
    with pytest.raises(error, match=message):
        ScviDataModule(changed(counts, **columns), **options)
