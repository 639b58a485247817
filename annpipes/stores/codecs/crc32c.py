"""Zarr's checksum CRC-32C (RFC 3720, appendix B.4), little-endian in four bytes at the end."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from annpipes.stores.codecs.base import Buffer, Codec, Parameters

__all__ = ["Crc32c", "checksum"]


class Crc32c(Codec):
    """A checksum in four bytes at the end."""

    name = "crc32c"
    zarr: ClassVar[tuple[str, ...]] = ("crc32c", "numcodecs.crc32c")
    compresses = False
    added_bytes = 4

    def decode(self, encoded: Buffer, size: int, parameters: Parameters) -> Buffer:
        content, stored = memoryview(encoded)[:-4], bytes(memoryview(encoded)[-4:])
        if len(stored) < 4 or int.from_bytes(stored, "little") != checksum(content):
            raise ValueError("has a wrong crc32c checksum")
        return content


def checksum(content: Buffer) -> int:
    """The CRC-32C of some bytes."""
    from google_crc32c import value  # comes with zarr, and is needed with it alone

    octets = np.frombuffer(content, np.uint8)
    octets.flags.writeable = False  # it takes nothing else
    found: int = value(octets)
    return found
