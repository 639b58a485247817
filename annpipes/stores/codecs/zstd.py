"""Zstandard frames (RFC 8878)."""

from __future__ import annotations

from functools import partial

import numpy as np
from numcodecs import zstd

from annpipes.stores.codecs.base import Buffer, Codec, Parameters, decompressed

__all__ = ["Zstd"]


class Zstd(Codec):
    """One Zstandard frame."""

    name, number = "zstd", 32015
    zarr = ("zstd", "numcodecs.zstd")

    def decode(self, encoded: Buffer, size: int, parameters: Parameters) -> Buffer:
        stated = _stated_size(memoryview(encoded))
        if stated not in (None, size):
            raise ValueError(f"holds {stated} bytes in place of {size}")
        return decompressed(partial(zstd.decompress, dest=np.empty(size, np.uint8)), encoded)


def _stated_size(frame: memoryview) -> int | None:
    """The decoded size in a frame's header, if it is there (RFC 8878, 3.1.1.1)."""
    if len(frame) < 5:
        raise ValueError("ends inside a Zstd header")
    single = frame[4] >> 5 & 1
    width = (single, 2, 4, 8)[frame[4] >> 6]
    start = 6 - single + (0, 1, 2, 4)[frame[4] & 3]
    return int.from_bytes(frame[start : start + width], "little") + 256 * (width == 2) if width else None
