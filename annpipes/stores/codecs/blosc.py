"""Blosc buffers: shuffled and compressed by one of several compressors.

The package ``numcodecs`` carries the C library, so compiled code calls it by address. Where it cannot be reached,
there is still the way through Python.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from importlib import import_module
from typing import Any, ClassVar

import numba
import numpy as np
from numba import carray
from numcodecs import blosc
from numpy.typing import NDArray

from annpipes.errors import FormatError
from annpipes.stores.codecs.base import Buffer, Codec, Encoding, Output, Parameters, Step, decompressed
from annpipes.stores.compiled.calling import address_of, addresses_in, call
from annpipes.stores.compiled.kernels import Bytes

__all__ = ["Blosc", "blosc_functions"]

_HEADER_BYTES = 16
_SMALL_SHARE = 2  # up to half of it, only the blocks that are wanted are decoded
_PLUGIN = "hdf5plugin"
_LEVEL = {"lz4": 5, "zstd": 3}
_COMPRESSORS = {  # https://github.com/Blosc/hdf5-blosc
    "blosclz": 0,
    "lz4": 1,
    "lz4hc": 2,
    "snappy": 3,
    "zlib": 4,
    "zstd": 5,
}
_QUICK = (0, 1, 2)


class Blosc(Codec):
    """Blosc buffers; the seventh of its parameters is the compressor's number."""

    name: ClassVar[str] = "blosc"
    number: ClassVar[int | None] = 32001
    zarr: ClassVar[tuple[str, ...]] = ("blosc",)

    def parameters_of(self, configuration: Mapping[str, Any]) -> Parameters:
        number = _COMPRESSORS.get(str(configuration.get("cname")))
        return () if number is None else (0, 0, 0, 0, 0, 0, number)  # all else stands in each buffer

    def refusal(self, parameters: Parameters) -> str:
        names = [name for name, number in _COMPRESSORS.items() if parameters[6:7] == (number,)]
        missing = names and names[0] not in blosc.list_compressors()
        return f"blosc with {names[0]}, which numcodecs lacks here" if missing else ""

    def quick(self, parameters: Parameters) -> bool:
        return len(parameters) > 6 and parameters[6] in _QUICK

    def decode(self, encoded: Buffer, size: int, parameters: Parameters) -> Buffer:
        view = memoryview(encoded)
        if len(view) < _HEADER_BYTES:
            raise ValueError("ends inside a Blosc header")
        decoded, _, length = struct.unpack_from("<III", view, 4)
        if decoded != size or length != len(view):  # the library trusts both
            raise ValueError("has an impossible Blosc header")
        return decompressed(blosc.decompress, encoded)

    def step(self, parameters: Parameters) -> Step | None:
        functions = blosc_functions()
        return None if functions is None else Step(address_of(_entry), functions, window=address_of(_window))

    def outputs(self) -> Sequence[Output]:
        return [Output(name, place, partial(_encoding, name), _PLUGIN) for place, name in enumerate(_LEVEL)]


def _encoding(name: str) -> Encoding:
    try:
        import_module(_PLUGIN)  # registers the filter, which HDF5 needs to make the dataset
    except ImportError:
        raise FormatError(f"codec {name!r} needs the filter Blosc: pip install hdf5plugin, or choose 'gzip'") from None
    filters = (0, 0, 0, 0, _LEVEL[name], blosc.SHUFFLE, _COMPRESSORS[name])  # the filter itself fills in the first four
    options = {"compression": Blosc.number, "compression_opts": filters}
    return Encoding(name, options, partial(_shrink, name.encode(), _LEVEL[name]))


def _shrink(name: bytes, level: int, values: NDArray[Any]) -> bytes:
    encoded: bytes = blosc.compress(np.ascontiguousarray(values), name, level, blosc.SHUFFLE)
    return encoded


@lru_cache(1)
def blosc_functions() -> tuple[int, int] | None:
    """Where ``blosc_decompress_ctx`` and ``blosc_getitem`` (blosc.h) lie in this process.

    None if they cannot be called from here.
    """
    found = addresses_in(blosc.__file__, "blosc_decompress_ctx", "blosc_getitem")
    if found is None or not all(found) or sys.byteorder != "little":
        return None
    content = np.arange(100_000, dtype=np.int32)  # two blocks at least
    encoded = np.frombuffer(blosc.compress(content, b"lz4", 5, blosc.SHUFFLE), np.uint8)
    whole, part = np.zeros_like(content), np.zeros_like(content)
    understood = (
        _decompress(found[0], encoded, whole.view(np.uint8))
        and _get(found[1], encoded, part.view(np.uint8), 398_001, 399_998)
        and (whole == content).all()
        and (part[99_500:99_999] == content[99_500:99_999]).all()
    )
    return (found[0], found[1]) if understood else None


def _entry(parameters: Any, scratch: Any, encoded: Any, encoded_size: int, decoded: Any, decoded_size: int) -> int:
    functions = carray(parameters, 2, np.int64)
    done = _decompress(functions[0], carray(encoded, encoded_size, np.uint8), carray(decoded, decoded_size, np.uint8))
    return 1 if done else 0


def _window(
    parameters: Any,
    scratch: Any,
    encoded: Any,
    encoded_size: int,
    decoded: Any,
    decoded_size: int,
    first: int,
    last: int,
) -> int:
    functions = carray(parameters, 2, np.int64)
    source, target = carray(encoded, encoded_size, np.uint8), carray(decoded, decoded_size, np.uint8)
    if (last - first) * _SMALL_SHARE > decoded_size:
        return 1 if _decompress(functions[0], source, target) else 0
    return 1 if _get(functions[1], source, target, first, last) else 0


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _decompress(function: int, encoded: Bytes, decoded: Bytes) -> bool:
    """Whether ``encoded`` is a Blosc buffer of just as much as ``decoded``, which gets it."""
    if not _fits(encoded, decoded):
        return False
    done: int = call(function, encoded.ctypes.data, decoded.ctypes.data, len(decoded), 1, 0, 0, 0, 0)
    return done == len(decoded)


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _get(function: int, encoded: Bytes, decoded: Bytes, first: int, last: int) -> bool:
    """Whether the bytes ``first … last-1`` could be decoded, with the blocks of the Blosc buffer that they lie in."""
    if not _fits(encoded, decoded):
        return False
    width = np.int64(encoded[3])  # of the items that a block has whole numbers of
    if width == 0:
        return False
    item, items = first // width, -(-last // width) - first // width
    if (item + items) * width > len(decoded):  # the last one is not whole
        return False
    done: int = call(function, encoded.ctypes.data, item, items, decoded.ctypes.data + item * width, 0, 0, 0, 0)
    return done == items * width


@numba.njit(nogil=True, cache=True, inline="always")  # type: ignore[untyped-decorator]
def _fits(encoded: Bytes, decoded: Bytes) -> bool:
    """Whether both sizes are those in the header, which the library trusts (README_CHUNK_FORMAT.rst of c-blosc)."""
    if len(encoded) < _HEADER_BYTES:
        return False
    fits: bool = _number_at(encoded, 4) == len(decoded) and _number_at(encoded, 12) == len(encoded)
    return fits


@numba.njit(nogil=True, cache=True, inline="always")  # type: ignore[untyped-decorator]
def _number_at(encoded: Bytes, place: int) -> int:
    number = 0
    for i in range(place + 3, place - 1, -1):
        number = (number << 8) + encoded[i]
    return number
