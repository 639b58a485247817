"""How a file is stored, whatever its format."""

from __future__ import annotations

from annpipes.errors import ParameterError
from annpipes.stores.bytes.remote import Remote
from annpipes.stores.describing.fields import FileFacts
from annpipes.stores.describing.hdf5 import describe_h5ad
from annpipes.stores.describing.zarr import describe_zarr
from annpipes.stores.h5ad import H5adStore
from annpipes.stores.opening import open_one
from annpipes.stores.zarr import ZarrStore

__all__ = ["describe_file"]


def describe_file(path: str | Remote) -> FileFacts:
    """How a file, or a Zarr store, is stored."""
    store = open_one(path)
    if isinstance(store, ZarrStore):
        return describe_zarr(store)
    if isinstance(store, H5adStore):
        return describe_h5ad(store)
    raise ParameterError(f"path must be the path of an .h5ad file or a Zarr store, got {path!r}")
