"""gzip members (RFC 1952), as Zarr has them."""

from __future__ import annotations

from typing import ClassVar

from isal import igzip_lib

from annpipes.stores.codecs.base import Buffer, Codec, Parameters
from annpipes.stores.codecs.gzip import COSTS, WORK, inflated

__all__ = ["GzipMember"]


class GzipMember(Codec):
    """One gzip member; what HDF5 calls gzip is a zlib stream."""

    name = "gzip member"
    zarr: ClassVar[tuple[str, ...]] = ("gzip", "numcodecs.gzip")
    costs = COSTS

    @property
    def work(self) -> str:
        return WORK

    def decode(self, encoded: Buffer, size: int, parameters: Parameters) -> Buffer:
        return inflated(encoded, size, igzip_lib.DECOMP_GZIP)
