"""All damage of a file, found by reading everything in it once.

`ledgers`   what a check finds, in stretches of rows
`matrices`  whether the parts of a sparse matrix fit together
`passes`    one pass through everything that a file holds
`hdf5`      that of an `.h5ad` file
`zarr`      that of a Zarr store
"""

from __future__ import annotations

import os

from annpipes.messages.progress import Progress
from annpipes.stores.bytes.remote import Remote, as_remote
from annpipes.stores.checking.hdf5 import check_h5ad
from annpipes.stores.checking.passes import Found
from annpipes.stores.checking.zarr import check_zarr
from annpipes.stores.containers.zarr_places import Places, is_zarr
from annpipes.stores.containers.zarr_remote import found_at
from annpipes.stores.refusals import at_home, refuse_address

__all__ = ["Found", "check_file"]


def check_file(path: str | os.PathLike[str] | Remote, progress: Progress) -> Found:
    """All that is wrong with a file, or a Zarr store, here or at an address.

    Raises
    ------
    SourceError, FormatError
        No such file, a directory, or a file of another kind.
    BusyError, ChangedError
        Somebody has it open for writing, or wrote to it meanwhile: nothing can be said of it.
    RemoteError
        It cannot be read from there.
    """
    remote = as_remote(path)
    if remote is not None:
        found = found_at(remote)
        return check_zarr(found, progress) if isinstance(found, Places) else check_h5ad(found, progress)
    assert not isinstance(path, Remote)
    where = at_home(path)
    if is_zarr(where):
        return check_zarr(where, progress)
    refuse_address(where)
    return check_h5ad(where, progress)
