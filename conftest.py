"""Docstring examples and the code blocks of README and docs run as tests, in a folder with ``pbmc.h5ad``."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import anndata
import numpy as np
import pytest
import torch
from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser
from sybil.sybil import SybilCollection

import annpipes


@pytest.fixture(scope="session")
def pbmc_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``pbmc.h5ad``: 700 real cells of 765 genes, from scanpy's wheel."""
    import scanpy

    folder = tmp_path_factory.mktemp("pbmc")
    scanpy.datasets.pbmc68k_reduced().write_h5ad(folder / "pbmc.h5ad")
    return folder


@pytest.fixture(scope="session")
def atlas_folder(pbmc_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``atlas.h5ad``: the same cells sorted by type, in place of the large file of a page."""
    folder = tmp_path_factory.mktemp("atlas")
    adata = anndata.read_h5ad(pbmc_folder / "pbmc.h5ad").raw.to_adata()
    adata.obs["cell_type"] = adata.obs["louvain"]
    adata[adata.obs["louvain"].argsort()].write_h5ad(folder / "atlas.h5ad", compression="gzip")
    return folder


@pytest.fixture
def inside_pbmc_folder(pbmc_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory of every example."""
    monkeypatch.chdir(pbmc_folder)


@pytest.fixture
def inside_atlas_folder(atlas_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory of the examples on that page."""
    monkeypatch.chdir(atlas_folder)


@pytest.fixture
def inside_scvi_folder(inside_pbmc_folder: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory of examples that train a model of scvi-tools, which logs elsewhere."""
    import scvi

    monkeypatch.setattr(scvi.settings, "logging_dir", tmp_path)


def _import_public_names(namespace: dict[str, Any]) -> None:
    """What a docstring's reader has imported already; the module's own names come on top."""
    namespace.update({name: getattr(annpipes, name) for name in annpipes.__all__}, np=np, torch=torch)


class _Script(ModuleType):
    """A page as a module, so that classes in its code blocks pickle as those of a script do."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        super().__init__("page")
        self._namespace = namespace

    def __getattr__(self, name: str) -> Any:
        try:
            return self._namespace[name]
        except KeyError:
            raise AttributeError(name) from None


def _become_script(namespace: dict[str, Any]) -> None:
    namespace["__name__"] = "page"
    sys.modules["page"] = _Script(namespace)


_FRAMEWORKS = ("lightning", "scvi", "accelerate", "transformers")
_ABSENT = [framework for framework in _FRAMEWORKS if find_spec(framework) is None]
"""Frameworks that `tox -e integrations` installs: without one, what is about it does not run."""

_docstrings = Sybil(
    parsers=[DocTestParser()],
    path="annpipes",
    pattern="*.py",
    excludes=[f"integrations/{framework}*.py" for framework in _ABSENT],
    setup=_import_public_names,
    fixtures=["inside_pbmc_folder"],
    name="docstring",
)

_pages = Sybil(
    parsers=[PythonCodeBlockParser()],
    patterns=["README.md", "docs/*.md", "docs/integrations/*.md"],
    excludes=[
        "docs/waiting.md",
        "docs/integrations/scvi.md",
        *("docs/integrations/torchrun.md", "docs/integrations/ray.md"),  # in processes, by tests of these names
        *(f"docs/integrations/{framework}.md" for framework in _ABSENT),
    ],
    setup=_become_script,
    fixtures=["inside_pbmc_folder"],
    name="page",
)

_page_on_a_large_file = Sybil(
    parsers=[PythonCodeBlockParser()],
    patterns=["docs/waiting.md"],
    setup=_become_script,
    fixtures=["inside_atlas_folder"],
    name="page",
)

_page_on_scvi = Sybil(
    parsers=[PythonCodeBlockParser()],
    patterns=["docs/integrations/scvi.md"] if find_spec("scvi") else [],
    setup=_become_script,
    fixtures=["inside_scvi_folder"],
    name="page",
)

pytest_collect_file = SybilCollection([_docstrings, _pages, _page_on_a_large_file, _page_on_scvi]).pytest()
