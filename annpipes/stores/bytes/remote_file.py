"""A remote object as the only one of its address: its bytes, and a file for h5py."""

from __future__ import annotations

from annpipes.stores.bytes.blocks import BlockFile, Blocks
from annpipes.stores.bytes.objects import RemoteObjects
from annpipes.stores.bytes.remote import Remote
from annpipes.stores.bytes.requesting import Requests

__all__ = ["RemoteFile"]

_BEGINNING = 4096


class RemoteFile(RemoteObjects):
    """The object at an address, as it was when it was first seen.

    Parameters
    ----------
    remote
        The address, and how it is reached.
    """

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        requests = Requests(remote)
        super().__init__(requests, [""], [requests.head("")])
        self.name: str = remote.name
        self.path: str = remote.name
        self.blocks: Blocks = Blocks()

    @property
    def beginning(self) -> bytes:
        """The first bytes."""
        return self.blocks.block(self, self.size, 0)[:_BEGINNING] if self.size else b""

    @property
    def name_in_hdf5(self) -> str:
        """What h5py calls `as_file`: it has no other letters than those of ASCII."""
        return self.name.encode("ascii", "replace").decode()

    def as_file(self) -> BlockFile:
        """A file of Python."""
        return BlockFile(self.name_in_hdf5, self, self.size, self.blocks)
