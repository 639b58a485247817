"""Where scvi-tools 1.5 differs from 1.4, and that the data module serves both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest

scvi = pytest.importorskip("scvi", reason="scvi-tools is not installed")

from scvi_models import COVARIATES, SMALL, OwnBatches, counts, counts_file, scvi_alone, setup, trained  # noqa: E402, F401

from annpipes.errors import StateError  # noqa: E402
from annpipes.integrations.scvi import ScviDataModule  # noqa: E402

pytestmark = pytest.mark.usefixtures("scvi_alone")

NEW = tuple(map(int, scvi.__version__.split(".")[:2])) >= (1, 5)
KEYS: dict[str, Any] = {"batch_key": "batch", "labels_key": "label", **COVARIATES}
SCANVI_KEYS: dict[str, Any] = {**KEYS, "unlabeled_category": "Unknown"}


def unlabeled(counts: anndata.AnnData) -> Any:
    return np.flatnonzero(counts.obs["label"] == "Unknown")


def scanvi(dm: ScviDataModule) -> Any:
    return scvi.model.SCANVI(registry=dm.registry, datamodule=dm, **SMALL)


def test_cells_without_labels_train_as_from_memory(counts: anndata.AnnData, counts_file: Path) -> None:
    dm = ScviDataModule(counts_file, batch_size=27, split={"train": unlabeled(counts)}, **SCANVI_KEYS)
    mine, theirs = scanvi(dm), setup(scvi.model.SCANVI, counts, **SCANVI_KEYS)
    weights = {name: value.clone() for name, value in theirs.module.state_dict().items()}
    seen = trained(mine, dm, weights)
    own = OwnBatches(theirs, seen.rows, dm.n_train)
    if NEW:  # it takes a batch with both kinds of covariates for labeled cells, whose label is beyond the last
        with pytest.raises(IndexError, match="out of bounds"):
            trained(theirs, own, weights)
        own.batches = [(batch, None) for batch in own.batches]
    again = trained(theirs, own, weights)
    assert len(seen.losses) == -(-dm.n_train // 27)
    np.testing.assert_allclose(seen.losses, again.losses, rtol=1e-5)


def test_cells_without_labels_are_validated_on(counts: anndata.AnnData, counts_file: Path) -> None:
    rows = unlabeled(counts)
    labeled = np.setdiff1d(np.arange(300), rows)
    dm = ScviDataModule(counts_file, split={"train": labeled, "val": rows}, **SCANVI_KEYS)
    model = scanvi(dm)
    trained(model, dm, check_val_every_n_epoch=1)
    assert np.isfinite(model.history["validation_loss"].to_numpy(float)).all()
    assert "train_classification_loss" in model.history
    assert "validation_classification_loss" not in model.history


def test_training_without_labels_goes_on(counts: anndata.AnnData, counts_file: Path, tmp_path: Path) -> None:
    def part(rows: Any) -> ScviDataModule:
        return ScviDataModule(counts_file, batch_size=27, split={"train": rows}, **SCANVI_KEYS)

    rows, path = unlabeled(counts), tmp_path / "one.ckpt"
    whole = trained(scanvi(part(rows)), part(rows), epochs=2)
    first = scanvi(part(rows))
    trained(first, part(rows), epochs=1)
    first.trainer.save_checkpoint(path)
    again = trained(scanvi(part(rows)), part(rows), epochs=2, ckpt_path=path)
    assert again.rows == whole.rows[len(whole.rows) // 2 :]
    with pytest.raises(StateError, match="from no labeled cells to train on, but the data have some"):
        trained(scanvi(part(range(100))), part(range(100)), epochs=2, ckpt_path=path)


@pytest.mark.parametrize("column", ["batch", "label", "lane", "donor"])
def test_differential_expression_takes_a_loader_since_1_5(
    column: str, counts: anndata.AnnData, counts_file: Path
) -> None:
    dm = ScviDataModule(counts_file, **KEYS)
    model = scvi.model.SCVI(registry=dm.registry, **SMALL)
    trained(model, dm)
    one, other = sorted(set(counts.obs[column]))[:2]
    options = {"groupby": column, "group1": one, "group2": other, "silent": True}
    if not NEW:
        with pytest.raises((AttributeError, TypeError)):
            model.differential_expression(dataloader=dm.inference_dataloader(), **options)
        return
    found = model.differential_expression(dataloader=dm.inference_dataloader(), **options)
    expected = model.differential_expression(adata=counts.copy(), **options).loc[found.index]
    for name in ("raw_mean1", "raw_mean2", "non_zeros_proportion1", "raw_normalized_mean2"):
        np.testing.assert_allclose(found[name].to_numpy(), expected[name].to_numpy(), rtol=1e-4, err_msg=name)
    for name in ("scale1", "scale2"):  # of cells drawn at random
        np.testing.assert_allclose(found[name].to_numpy(), expected[name].to_numpy(), rtol=0.1, atol=0.02, err_msg=name)


def test_soft_predictions_take_a_loader_since_1_5(counts: anndata.AnnData, counts_file: Path) -> None:
    dm = ScviDataModule(counts_file, **SCANVI_KEYS)
    model = scanvi(dm)
    trained(model, dm)
    if not NEW:
        with pytest.raises(AttributeError, match="obs_names"):
            model.predict(dataloader=dm.inference_dataloader(), soft=True)
        return
    found = model.predict(dataloader=dm.inference_dataloader([7, 3, 200]), soft=True)
    expected = model.predict(adata=counts.copy(), soft=True)
    assert found.columns.tolist() == expected.columns.tolist()
    assert found.index.tolist() == [0, 1, 2]
    np.testing.assert_allclose(found.to_numpy(), expected.to_numpy()[[7, 3, 200]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("present", [["Unknown", "B"], ["B", "T"], ["B", "T", "NK"]])
def test_a_saved_scanvi_is_loaded_with_any_few_cells(
    present: list[str], counts: anndata.AnnData, counts_file: Path, tmp_path: Path
) -> None:
    dm = ScviDataModule(counts_file, **SCANVI_KEYS)
    model = scanvi(dm)
    trained(model, dm)
    model.save(str(tmp_path / "model"))
    few = counts[counts.obs["label"].isin(present)]
    loaded = scvi.model.SCANVI.load(str(tmp_path / "model"), adata=few.copy(), datamodule=dm, accelerator="cpu")
    again, expected = (one.predict(dataloader=dm.inference_dataloader()).tolist() for one in (loaded, model))
    assert again == expected
    if NEW and "Unknown" not in present:  # it counts the labels of these cells, whatever was saved
        with pytest.raises(RuntimeError, match="size mismatch"):
            scvi.model.SCANVI.load(str(tmp_path / "model"), adata=few.copy(), accelerator="cpu")
    else:
        scvi.model.SCANVI.load(str(tmp_path / "model"), adata=few.copy(), accelerator="cpu")
