"""Executes the notebook whose outputs are kept, where scvi-tools is installed, and writes it with them.

::

    python docs/tutorials/keep.py

What libraries say on stderr is left out: it is about this machine.
"""

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

KEPT = Path(__file__).parent / "scvi.ipynb"


def executed(path: Path, folder: str) -> nbformat.NotebookNode:
    """The notebook with new outputs; what it writes lies in the folder."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(executed(KEPT, folder), KEPT)
