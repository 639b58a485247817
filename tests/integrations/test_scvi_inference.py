"""What trained models of scvi-tools make of cells from a file, against the same from an AnnData in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch

scvi = pytest.importorskip("scvi", reason="scvi-tools is not installed")

from scvi_models import COVARIATES, SMALL, OwnBatches, counts, counts_file, scvi_alone, setup, trained  # noqa: E402, F401

from annpipes.errors import FieldError, ParameterError  # noqa: E402
from annpipes.integrations.scvi import ScviDataModule  # noqa: E402

pytestmark = pytest.mark.usefixtures("scvi_alone")

KEYS: dict[str, Any] = {"batch_key": "batch", "labels_key": "label", **COVARIATES}


@pytest.fixture
def pair(counts: anndata.AnnData, counts_file: Path) -> tuple[Any, Any, ScviDataModule]:
    """A model for the file and one for the AnnData, with equal weights."""
    dm = ScviDataModule(counts_file, **KEYS)
    mine, theirs = scvi.model.SCVI(registry=dm.registry, **SMALL), setup(scvi.model.SCVI, counts, **KEYS)
    mine.module.load_state_dict(theirs.module.state_dict())
    for model in (mine, theirs):
        model.is_trained_ = True
        model.module.eval()
    return mine, theirs, dm


def plain(result: Any) -> Any:
    if isinstance(result, dict):
        return np.concatenate([np.ravel(plain(value)) for _, value in sorted(result.items())])
    return result.todense() if hasattr(result, "todense") else np.asarray(result)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("get_latent_representation", {}),
        ("get_latent_representation", {"give_mean": False}),
        ("get_elbo", {}),
        ("get_reconstruction_error", {}),
        ("get_marginal_ll", {"n_mc_samples": 10}),
        ("get_normalized_expression", {}),
        ("posterior_predictive_sample", {}),
        ("get_likelihood_parameters", {}),
        ("get_latent_library_size", {"give_mean": False}),
    ],
)
def test_methods_take_the_loader(method: str, options: Any, pair: tuple[Any, Any, ScviDataModule]) -> None:
    mine, theirs, dm = pair
    torch.manual_seed(3)
    found = getattr(mine, method)(dataloader=dm.inference_dataloader(batch_size=100), **options)
    own = OwnBatches(theirs, [(range(start, start + 100),) for start in (0, 100, 200)])
    torch.manual_seed(3)
    expected = getattr(theirs, method)(dataloader=own.batches, **options)
    np.testing.assert_allclose(plain(found), plain(expected), rtol=1e-4, atol=1e-5)


def test_some_rows_in_any_order(pair: tuple[Any, Any, ScviDataModule]) -> None:
    mine, theirs, dm = pair
    found = mine.get_latent_representation(dataloader=dm.inference_dataloader([7, 3, 200], batch_size=2))
    np.testing.assert_allclose(found, theirs.get_latent_representation(indices=[7, 3, 200]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"encode_covariates": True, "dispersion": "gene-batch", "use_layer_norm": "both"}]
)
def test_a_saved_scvi_gives_the_same(options: Any, counts_file: Path, tmp_path: Path) -> None:
    dm = ScviDataModule(counts_file, **KEYS)
    model = scvi.model.SCVI(registry=dm.registry, **options, **SMALL)
    trained(model, dm)
    model.save(str(tmp_path / "model"), datamodule=dm)
    again = scvi.model.SCVI.load(str(tmp_path / "model"), accelerator="cpu")
    new = ScviDataModule.from_registry(again.registry, counts_file)
    for method in ("get_latent_representation", "get_normalized_expression"):
        found = []
        for one, cells in ((model, dm), (again, dm), (again, new)):
            torch.manual_seed(0)
            found.append(getattr(one, method)(dataloader=cells.inference_dataloader()))
        assert np.array_equal(found[0], found[1])
        assert np.array_equal(found[0], found[2])


@pytest.mark.parametrize("unlabeled", ["Unknown", "none such"])
def test_a_saved_scanvi_predicts_the_same(unlabeled: str, counts_file: Path, tmp_path: Path) -> None:
    dm = ScviDataModule(counts_file, batch_key="batch", labels_key="label", unlabeled_category=unlabeled)
    first = scvi.model.SCVI(registry=dm.registry, **SMALL)
    trained(first, dm)
    model = scvi.model.SCANVI.from_scvi_model(first, unlabeled, datamodule=dm)
    trained(model, dm)
    model.save(str(tmp_path / "model"))
    before = model.predict(dataloader=dm.inference_dataloader())
    assert unlabeled not in before
    few = anndata.read_h5ad(counts_file, backed="r")[:60].to_memory()  # scvi-tools asks for some
    again = scvi.model.SCANVI.load(str(tmp_path / "model"), adata=few, accelerator="cpu")
    assert before.tolist() == again.predict(dataloader=dm.inference_dataloader()).tolist()


class Module(scvi.module.SCANVAE):
    """As on the page."""

    def on_load(self, model: Any, **kwargs: Any) -> None:
        pass


class Loadable(scvi.model.SCANVI):
    _module_cls = Module


@pytest.mark.parametrize("options", [{}, {"dispersion": "gene-batch", "use_layer_norm": "both"}])
def test_a_saved_scanvi_is_loaded_without_an_anndata(options: Any, counts_file: Path, tmp_path: Path) -> None:
    dm = ScviDataModule(counts_file, unlabeled_category="Unknown", **KEYS)
    model = scvi.model.SCANVI(registry=dm.registry, datamodule=dm, **options, **SMALL)
    trained(model, dm)
    model.save(str(tmp_path / "model"))
    with pytest.raises(AttributeError, match="_source_registry"):  # once this loads, the page can be shorter
        scvi.model.SCANVI.load(str(tmp_path / "model"), adata=False, datamodule=dm, accelerator="cpu")
    again = Loadable.load(str(tmp_path / "model"), adata=False, datamodule=dm, accelerator="cpu")
    weights = again.module.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in model.module.state_dict().items())
    found, expected = (one.predict(dataloader=dm.inference_dataloader()) for one in (again, model))
    assert found.tolist() == expected.tolist()
    for one in (again, model):
        one.module.train()  # it is loaded, and has predicted, for evaluation
    assert trained(again, dm).losses == trained(model, dm).losses


def test_a_saved_scanvi_holds_no_cells(counts: anndata.AnnData, tmp_path: Path) -> None:
    large = counts.copy()
    large.obsm["X_large"] = np.random.default_rng(0).normal(size=(300, 5_000))
    dm = ScviDataModule(large, labels_key="label", unlabeled_category="Unknown")
    model = scvi.model.SCANVI(registry=dm.registry, datamodule=dm, **SMALL)
    trained(model, dm)
    model.save(str(tmp_path / "model"))
    assert (tmp_path / "model" / "model.pt").stat().st_size < 200_000


@pytest.mark.parametrize("kind", [scvi.model.SCVI, scvi.model.SCANVI])
def test_a_saved_model_takes_an_anndata(kind: Any, counts: anndata.AnnData, counts_file: Path, tmp_path: Path) -> None:
    dm = ScviDataModule(counts_file, unlabeled_category="Unknown", **KEYS)
    model = kind(registry=dm.registry, **SMALL, **({"datamodule": dm} if kind is scvi.model.SCANVI else {}))
    trained(model, dm)
    model.save(str(tmp_path / "model"))
    again = kind.load(str(tmp_path / "model"), adata=counts.copy(), accelerator="cpu")
    found = again.get_latent_representation()
    expected = model.get_latent_representation(dataloader=dm.inference_dataloader())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(model.get_latent_representation(adata=counts[:30].copy())) == 30
    groups = again.differential_expression(groupby="batch", group1="first", group2="second", silent=True)
    assert len(groups) == counts.n_vars


def test_other_cells_have_the_codes_of_the_model(
    pair: tuple[Any, Any, ScviDataModule], counts: anndata.AnnData
) -> None:
    mine, theirs, _ = pair
    rows = np.flatnonzero(counts.obs["batch"] == "second")
    few = counts[rows, np.arange(counts.n_vars)[::-1]].copy()  # one batch, and genes in another order
    del few.obs["label"]
    for registry in (mine.registry, theirs.registry):
        dm = ScviDataModule.from_registry(registry, few, batch_size=16)
        found = mine.get_latent_representation(dataloader=dm.inference_dataloader())
        np.testing.assert_allclose(found, theirs.get_latent_representation(indices=rows), rtol=1e-4, atol=1e-5)


def test_cells_that_a_model_cannot_know_are_refused(
    pair: tuple[Any, Any, ScviDataModule], counts: anndata.AnnData
) -> None:
    mine, _, _ = pair
    other = counts.copy()
    other.obs["batch"] = "third"
    with pytest.raises(
        ParameterError, match=r"batch_key 'batch': every cell needs a label among first, second, .*'third'"
    ):
        ScviDataModule.from_registry(mine.registry, other)
    with pytest.raises(FieldError, match="no gene 'gene-11'"):
        ScviDataModule.from_registry(mine.registry, counts[:, :11].copy())
