"""The tutorial on scVI, executed anew: it shows what is kept, and what its text says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scvi", reason="the tutorial trains a model of scvi-tools")
nbformat = pytest.importorskip("nbformat", reason="notebooks are run by nbclient, and by ipykernel")
nbclient = pytest.importorskip("nbclient", reason="notebooks are run by nbclient, and by ipykernel")
pytest.importorskip("ipykernel", reason="notebooks are run by nbclient, and by ipykernel")

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tutorials" / "scvi.ipynb"


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """As it is kept, and as it comes out now; an error in a cell ends this."""
    folder = str(tmp_path_factory.mktemp("tutorial"))
    kept, new = (nbformat.read(NOTEBOOK, as_version=4) for _ in range(2))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OMP_NUM_THREADS", "1")  # small matrices: threads would wait for each other
        nbclient.NotebookClient(new, timeout=300, resources={"metadata": {"path": folder}}).execute()
    return kept, new


def shown(notebook: Any) -> list[list[str]]:
    """The kinds of what each cell shows, but for what libraries say on stderr."""
    cells = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    return [[form for output in cell for form in sorted(output.get("data", {}))] for cell in cells]


def test_it_shows_what_is_kept(notebooks: tuple[Any, Any]) -> None:
    kept, new = notebooks
    assert shown(new) == shown(kept)


def test_labs_mix_and_cell_types_stay_together(notebooks: tuple[Any, Any]) -> None:
    said = "".join(output.text for output in notebooks[1].cells[-2].outputs if output.get("name") == "stdout")
    plain, latent = ([float(share) for share in re.findall(r"0\.\d\d", line)] for line in said.strip().splitlines())
    assert plain[0] > 0.9 > 0.8 > latent[0]
    assert latent[1] > plain[1] - 0.05
