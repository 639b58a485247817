"""What works here, tried in a separate process, because a broken library may end it."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["ROUTES", "main"]

ROUTES = "routes"
"""The try that reads files, in place of a module's name."""


def main(tries: Sequence[str]) -> None:
    """Write what comes of importing each module, one line of JSON before and one after it.

    If the process ends in between, the last line says which module ended it.
    """
    for name in tries:
        _say(begun=name)
        try:
            found = _routes() if name == ROUTES else _imported(name)
            _say(tried=name, found=found)
        except BaseException as error:  # also what is raised by libraries that end the process
            _say(tried=name, error=f"{type(error).__name__}: {error}")


def _say(**line: Any) -> None:
    sys.stdout.write(f"\n{json.dumps(line)}\n")  # a library that prints does not end its line, perhaps
    sys.stdout.flush()


def _imported(name: str) -> dict[str, str]:
    module = import_module(name)
    return {"devices": ", ".join(_devices(module))} if name == "torch" else {}


def _devices(torch: Any) -> Iterator[str]:
    if torch.cuda.is_available():
        yield from map(torch.cuda.get_device_name, range(torch.cuda.device_count()))
    if torch.backends.mps.is_available():
        yield "MPS"


def _routes() -> dict[str, str]:
    """How X is read from files stored in each way; where that fails, the error in place of the route."""
    codecs = import_module("annpipes.stores").CODECS
    anndata, numpy, sparse = (import_module(name) for name in ("anndata", "numpy", "scipy.sparse"))
    adata = anndata.AnnData(sparse.csr_matrix(numpy.eye(64, dtype=numpy.float32)))
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "first.h5ad"
        adata.write_h5ad(first)
        rewrite = import_module("annpipes").rewrite_shuffled
        ways = {
            f".h5ad, {name}": (Path(folder) / f"{name}.h5ad", partial(rewrite, first, codec=name)) for name in codecs
        }
        ways["Zarr"] = Path(folder) / "cells.zarr", adata.write_zarr
        return {stored: _route(path, write, adata.n_obs) for stored, (path, write) in ways.items()}


def _route(path: Path, write: Callable[[Path], Any], total: int) -> str:
    annpipes = import_module("annpipes")
    try:
        write(path)
        batches = [batch["X"] for batch in annpipes.stream(path, 16)]
        if sum(float(x.sum()) for x in batches) != total:
            return "reads values other than those written"
        return str(annpipes.IndexSource(path).route("X"))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main(sys.argv[1:])
