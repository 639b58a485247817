"""LZF, which comes with h5py: named, and decoded by HDF5 alone."""

from __future__ import annotations

from typing import ClassVar

from annpipes.stores.codecs.base import Buffer, Codec, Parameters

__all__ = ["Lzf"]


class Lzf(Codec):
    """Only h5py has its decoder, which cannot be called without HDF5."""

    name: ClassVar[str] = "lzf"
    number: ClassVar[int | None] = 32000

    def refusal(self, parameters: Parameters) -> str:
        return f"filter {self.name} ({self.number}) is decoded only by HDF5"

    def decode(self, encoded: Buffer, size: int, parameters: Parameters) -> Buffer:
        raise ValueError(f"cannot be decoded here: {self.refusal(parameters)}")
