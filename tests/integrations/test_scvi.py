"""scvi-tools' own AnnData path is the oracle: the same registry, batches, losses and latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest

scvi = pytest.importorskip("scvi", reason="scvi-tools is not installed")

from scvi_models import COVARIATES, SMALL, OwnBatches, counts, counts_file, scvi_alone, setup, trained  # noqa: E402, F401

from annpipes.integrations.scvi import ScviDataModule  # noqa: E402

pytestmark = pytest.mark.usefixtures("scvi_alone")

SCVI_KEYS: list[dict[str, Any]] = [
    {},
    {"batch_key": "batch"},
    {"batch_key": "lane", "labels_key": "label", "layer": "doubled"},
    {"batch_key": "donor", "labels_key": "donor", **COVARIATES},
]
SCANVI_KEYS: list[dict[str, Any]] = [
    {"labels_key": "label", "unlabeled_category": "Unknown"},
    {"batch_key": "batch", "labels_key": "donor", "unlabeled_category": "none such", **COVARIATES},
    {"batch_key": "label", "labels_key": "label", "unlabeled_category": "B", "layer": "doubled"},
    {"labels_key": "label", "unlabeled_category": "none such"},  # and there is a label that no cell has
]
CASES = [
    *((scvi.model.SCVI, keys) for keys in SCVI_KEYS),
    *((scvi.model.SCANVI, keys) for keys in SCANVI_KEYS),
]


@pytest.fixture(scope="session")
def halves(counts: anndata.AnnData, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("halves")
    for number in range(2):
        counts[number::2].copy().write_h5ad(folder / f"{number}.h5ad", compression="gzip")
    return [str(folder / f"{number}.h5ad") for number in range(2)]


def same(mine: Any, theirs: Any) -> bool:
    if isinstance(theirs, dict):
        return mine.keys() >= theirs.keys() and all(same(mine[key], theirs[key]) for key in theirs)
    if isinstance(theirs, np.ndarray):
        return mine.dtype == theirs.dtype and mine.tolist() == theirs.tolist()
    return bool(mine == theirs)


@pytest.mark.parametrize(("kind", "keys"), CASES)
def test_the_registry_is_what_setup_anndata_makes(
    kind: Any, keys: Any, counts: anndata.AnnData, counts_file: Path
) -> None:
    model, registry = setup(kind, counts, **keys), ScviDataModule(counts_file, **keys).registry
    theirs = {name: dict(entry) for name, entry in model.registry["field_registries"].items()}
    if keys.get("unlabeled_category") == "none such":  # SCANVI itself leaves it out, where it knows the AnnData
        theirs["labels"] = {**theirs["labels"], "summary_stats": {"n_labels": model.n_labels}}
    for name, entry in theirs.items():
        assert same(registry["field_registries"][name], entry), name
    theirs_args = {
        name: value for name, value in model.registry["setup_args"].items() if name in registry["setup_args"]
    }
    assert same(registry["setup_args"], theirs_args)
    assert registry["scvi_version"] == scvi.__version__


@pytest.mark.parametrize(("kind", "keys"), CASES)
def test_batches_are_those_of_scvi_tools(kind: Any, keys: Any, counts: anndata.AnnData, counts_file: Path) -> None:
    dataset = setup(kind, counts, **keys).adata_manager.create_torch_dataset()
    for batch in ScviDataModule(counts_file, batch_size=50, **keys).train_dataloader():
        theirs = dataset[batch["ind_x"].ravel().tolist()]
        assert batch.keys() == {*theirs, "ind_x"}
        for name, values in theirs.items():
            assert batch[name].numpy().dtype == values.dtype, name
            np.testing.assert_array_equal(batch[name].numpy(), values, err_msg=name)


@pytest.mark.parametrize("keys", SCVI_KEYS)
@pytest.mark.parametrize("source", ["file", "memory"])
def test_scvi_trains_as_from_memory(source: str, keys: Any, counts: anndata.AnnData, counts_file: Path) -> None:
    dm = ScviDataModule(counts_file if source == "file" else counts, batch_size=27, **keys)
    mine, theirs = scvi.model.SCVI(registry=dm.registry, **SMALL), setup(scvi.model.SCVI, counts, **keys)
    weights = {name: value.clone() for name, value in theirs.module.state_dict().items()}
    seen = trained(mine, dm, weights)
    again = trained(theirs, OwnBatches(theirs, seen.rows, dm.n_train), weights)
    assert len(seen.losses) == 10
    np.testing.assert_allclose(seen.losses, again.losses, rtol=1e-5)
    latents = mine.get_latent_representation(dataloader=dm.inference_dataloader())
    np.testing.assert_allclose(latents, theirs.get_latent_representation(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("keys", SCANVI_KEYS)
def test_scanvi_trains_as_from_memory(keys: Any, counts: anndata.AnnData, counts_file: Path) -> None:
    dm = ScviDataModule(counts_file, batch_size=27, **keys)
    mine = scvi.model.SCANVI(registry=dm.registry, datamodule=dm, **SMALL)
    theirs = setup(scvi.model.SCANVI, counts, **keys)
    assert mine.n_labels == theirs.n_labels
    weights = {name: value.clone() for name, value in theirs.module.state_dict().items()}
    seen = trained(mine, dm, weights)
    again = trained(theirs, OwnBatches(theirs, seen.rows, dm.n_train), weights)
    assert len(seen.losses) == 10
    np.testing.assert_allclose(seen.losses, again.losses, rtol=1e-5)
    labels = mine.predict(dataloader=dm.inference_dataloader())
    assert labels.tolist() == theirs.predict().tolist()
    assert mine.labels_.tolist() == theirs.labels_.tolist()


def test_a_list_of_files_is_what_anndata_concatenates(halves: list[str]) -> None:
    keys = {"batch_key": "batch", "labels_key": "label", **COVARIATES}
    whole = anndata.concat([anndata.read_h5ad(path) for path in halves])
    dm = ScviDataModule(halves, batch_size=27, **keys)
    mine, theirs = scvi.model.SCVI(registry=dm.registry, **SMALL), setup(scvi.model.SCVI, whole, **keys)
    mine.module.load_state_dict(theirs.module.state_dict())
    mine.is_trained_ = theirs.is_trained_ = True
    mine.module.eval(), theirs.module.eval()
    latents = mine.get_latent_representation(dataloader=dm.inference_dataloader())
    np.testing.assert_allclose(latents, theirs.get_latent_representation(), rtol=1e-4, atol=1e-5)
