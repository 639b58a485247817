"""LZ4 blocks as Zarr has them: the decoded size, little-endian in four bytes, then one block of LZ4."""

from __future__ import annotations

import struct
from functools import partial
from typing import ClassVar

import numpy as np
from numcodecs import lz4

from annpipes.stores.codecs.base import Buffer, Codec, Parameters, decompressed

__all__ = ["Lz4Block"]


class Lz4Block(Codec):
    """One LZ4 block behind its decoded size; what HDF5 calls lz4 has frames of its own."""

    name = "lz4 block"
    zarr: ClassVar[tuple[str, ...]] = ("lz4", "numcodecs.lz4")

    def quick(self, parameters: Parameters) -> bool:
        return True

    def decode(self, encoded: Buffer, size: int, parameters: Parameters) -> Buffer:
        try:
            (stated,) = struct.unpack_from("<I", encoded)
        except struct.error:
            raise ValueError("ends inside its decoded size") from None
        if stated != size:
            raise ValueError(f"holds {stated} bytes instead of {size}")
        return decompressed(partial(lz4.decompress, dest=np.empty(size, np.uint8)), encoded)
