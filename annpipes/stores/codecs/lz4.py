"""HDF5's LZ4 frames: total and block size, then length and content of each block, big-endian."""

from __future__ import annotations

import struct
from typing import ClassVar

from numcodecs import lz4

from annpipes.stores.codecs.base import Buffer, Codec, Parameters, decompressed

__all__ = ["Lz4"]


class Lz4(Codec):
    """LZ4 in HDF5's own frames; what Zarr calls lz4 has others."""

    name: ClassVar[str] = "lz4"
    number: ClassVar[int | None] = 32004

    def quick(self, parameters: Parameters) -> bool:
        return True

    def decode(self, encoded: Buffer, size: int, parameters: Parameters) -> Buffer:
        view = memoryview(encoded)
        try:
            total, block_size = struct.unpack_from(">QI", view)
            if total != size or not block_size:
                raise ValueError("has an impossible LZ4 header")
            decoded, place = bytearray(), 12
            while len(decoded) < total:
                (length,) = struct.unpack_from(">I", view, place)
                block, place = view[place + 4 : place + 4 + length], place + 4 + length
                expected = min(block_size, total - len(decoded))
                if length == expected:  # stored as it is
                    decoded += block
                else:  # numcodecs wants the decoded size in front
                    decoded += decompressed(lz4.decompress, struct.pack("<I", expected) + block)
        except struct.error:
            raise ValueError("ends inside an LZ4 frame") from None
        return decoded
