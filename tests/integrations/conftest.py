"""Fixtures that tests of frameworks share; what they need of a framework is imported where it is used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anndata
import pytest
import torch


@pytest.fixture(scope="session")
def counts() -> anndata.AnnData:
    """300 cells with counts."""
    from scvi_models import cells_of

    return cells_of()


@pytest.fixture(scope="session")
def counts_file(counts: anndata.AnnData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file."""
    path = tmp_path_factory.mktemp("scvi") / "counts.h5ad"
    counts.copy().write_h5ad(path, compression="gzip")
    return path


@pytest.fixture
def scvi_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """scvi-tools writes nothing elsewhere, and computes in one thread: models are too small for two."""
    import scvi

    monkeypatch.setattr(scvi.settings, "logging_dir", tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
