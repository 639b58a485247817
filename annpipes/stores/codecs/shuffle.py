"""HDF5's shuffle: the first bytes of all elements, then all second ones, and so on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numba
import numpy as np
from numba import carray

from annpipes.stores.codecs.base import Buffer, Codec, Parameters, Step
from annpipes.stores.compiled.calling import address_of
from annpipes.stores.compiled.kernels import Bytes

__all__ = ["Shuffle"]


class Shuffle(Codec):
    """Bytes arranged so that they compress better; its one parameter is the size of an element."""

    name: ClassVar[str] = "shuffle"
    number: ClassVar[int | None] = 2
    zarr: ClassVar[tuple[str, ...]] = ("shuffle", "numcodecs.shuffle")
    compresses = False

    def parameters_of(self, configuration: Mapping[str, Any]) -> Parameters:
        return (int(configuration.get("elementsize", 4)),)

    def refusal(self, parameters: Parameters) -> str:
        return "" if parameters and parameters[0] else "shuffle of unknown elements"

    def decode(self, encoded: Buffer, size: int, parameters: Parameters) -> Buffer:
        planes, width = np.frombuffer(encoded, np.uint8), parameters[0]
        whole = len(planes) // width * width  # a remainder is stored as it is
        elements = planes[:whole].reshape(width, -1).T.reshape(-1)
        return elements if whole == len(planes) else np.concatenate([elements, planes[whole:]])

    def step(self, parameters: Parameters) -> Step | None:
        return Step(address_of(_entry), (parameters[0],))


def _entry(parameters: Any, scratch: Any, encoded: Any, encoded_size: int, decoded: Any, decoded_size: int) -> int:
    if encoded_size != decoded_size:
        return 0
    width = carray(parameters, 1, np.int64)[0]
    _unshuffle(carray(encoded, encoded_size, np.uint8), carray(decoded, decoded_size, np.uint8), width)
    return 1


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _unshuffle(planes: Bytes, decoded: Bytes, width: int) -> None:
    """Put the bytes of each element together again; written out for each width, so that it becomes vector code."""
    n = len(decoded) // width
    if width == 4:
        words4 = decoded[: 4 * n].view(np.uint32)
        a, b, c, d = planes[:n], planes[n : 2 * n], planes[2 * n : 3 * n], planes[3 * n : 4 * n]
        for i in range(n):
            words4[i] = (
                np.uint32(a[i])
                | np.uint32(b[i]) << np.uint32(8)
                | np.uint32(c[i]) << np.uint32(16)
                | np.uint32(d[i]) << np.uint32(24)
            )
    elif width == 2:
        words2 = decoded[: 2 * n].view(np.uint16)
        a, b = planes[:n], planes[n : 2 * n]
        for i in range(n):
            words2[i] = np.uint16(a[i]) | np.uint16(b[i]) << np.uint16(8)
    else:
        for j in range(width):
            for i in range(n):
                decoded[i * width + j] = planes[j * n + i]
    for i in range(n * width, len(decoded)):  # a remainder is stored as it is
        decoded[i] = planes[i]
