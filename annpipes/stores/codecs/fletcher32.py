"""HDF5's checksum Fletcher-32."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from annpipes.stores.codecs.base import Buffer, Codec, Parameters

__all__ = ["Fletcher32"]


class Fletcher32(Codec):
    """A checksum in four bytes at the end."""

    name: ClassVar[str] = "fletcher32"
    number: ClassVar[int | None] = 3
    zarr: ClassVar[tuple[str, ...]] = ("fletcher32", "numcodecs.fletcher32")
    compresses = False
    added_bytes = 4

    def decode(self, encoded: Buffer, size: int, parameters: Parameters) -> Buffer:
        content, stored = memoryview(encoded)[:-4], bytes(memoryview(encoded)[-4:])
        if len(memoryview(encoded)) < 4 or int.from_bytes(stored, "little") != _checksum(content):
            raise ValueError("has a wrong fletcher32 checksum")
        return content


def _checksum(content: Buffer) -> int:
    """Over big-endian 16-bit words, an odd byte padded with zero (H5checksum.c)."""
    octets = np.frombuffer(content, np.uint8)
    padded = np.append(octets, np.uint8(0)) if len(octets) % 2 else octets
    words = padded.view(">u2").astype(np.uint64)
    first = second = 0
    for start in range(0, len(words), 65_536):  # so that no sum overflows 64 bits
        part = words[start : start + 65_536]
        weights = np.arange(len(part), 0, -1, dtype=np.uint64)
        second = (second + first * len(part) + int(part @ weights)) % 65_535
        first = (first + int(part.sum())) % 65_535
    # The C code folds carries instead of dividing: a multiple of 65,535 other than zero stays 65,535.
    nonzero = bool(words.any())
    return ((second or 65_535) << 16 | (first or 65_535)) if nonzero else 0
