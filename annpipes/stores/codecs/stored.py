"""No encoding: what lets bytes that are stored as they are pass where storage chunks are decoded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from annpipes.stores.codecs.base import Buffer, Codec, Parameters, Step
from annpipes.stores.compiled.calling import address_of

__all__ = ["Stored"]


class Stored(Codec):
    """Bytes as they are; its one parameter is how many the last storage chunk has, which zeros fill up."""

    name = "stored"
    compresses = False

    @property
    def work(self) -> str:
        return "taking bytes as they are stored"

    def decode(self, encoded: Buffer, size: int, parameters: Parameters) -> Buffer:
        octets = np.frombuffer(encoded, np.uint8)
        if len(octets) == size:
            return octets
        if len(octets) > size or len(octets) != parameters[0]:
            raise ValueError(f"has {len(octets)} bytes in place of {size}")
        return np.concatenate([octets, np.zeros(size - len(octets), np.uint8)])

    def step(self, parameters: Parameters) -> Step | None:
        return Step(address_of(_entry), (parameters[0],))


def _entry(parameters: Any, scratch: Any, encoded: Any, encoded_size: int, decoded: Any, decoded_size: int) -> int:
    last = carray(parameters, 1, np.int64)[0]
    if encoded_size != decoded_size and not encoded_size == last < decoded_size:
        return 0
    source, target = carray(encoded, encoded_size, np.uint8), carray(decoded, decoded_size, np.uint8)
    target[:encoded_size] = source
    target[encoded_size:] = 0
    return 1
