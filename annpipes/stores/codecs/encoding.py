"""Encoding storage chunks outside HDF5, as the filters of a dataset would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from isal import isal_zlib
from numcodecs import blosc
from numpy.typing import NDArray

from annpipes.errors import FormatError, ParameterError

__all__ = ["CODECS", "Encoding", "codec_of"]

_Encode = Callable[[NDArray[Any]], bytes]

_LEVEL = {"lz4": 5, "zstd": 3}  # Blosc's
_NUMBER = {"lz4": 1, "zstd": 5}  # Blosc's numbers for these: https://github.com/Blosc/hdf5-blosc


@dataclass(frozen=True, eq=False)
class Encoding:
    """How a dataset is stored.

    Parameters
    ----------
    name
        What the caller chose.
    options
        Of `h5py.Group.create_dataset`: the same filters.
    encode
        A storage chunk of values to its bytes in the file; None for a dataset that is not cut into storage chunks.
    """

    name: str
    options: Mapping[str, Any]
    encode: _Encode | None


def codec_of(codec: str) -> Encoding:
    """The encoding of this name.

    Raises
    ------
    ParameterError
        There is none.
    FormatError
        Its filter is missing here.
    """
    if codec not in CODECS:
        raise ParameterError(f"codec must be one of {', '.join(CODECS)}, got {codec!r}")
    return CODECS[codec]()


def _plain() -> Encoding:
    return Encoding("none", {}, None)


def _gzip() -> Encoding:
    return Encoding("gzip", {"compression": "gzip", "compression_opts": 1, "shuffle": True}, _deflate)


def _deflate(values: NDArray[Any]) -> bytes:
    octets = np.ascontiguousarray(values).view(np.uint8).reshape(-1, values.itemsize)  # (elements, bytes)
    encoded: bytes = isal_zlib.compress(np.ascontiguousarray(octets.T), 1)
    return encoded


def _blosc(name: str) -> Encoding:
    try:
        import_module("hdf5plugin")  # registers the filter, which HDF5 needs to make the dataset
    except ImportError:
        raise FormatError(f"codec {name!r} needs the filter Blosc: pip install hdf5plugin, or choose 'gzip'") from None
    filters = (0, 0, 0, 0, _LEVEL[name], blosc.SHUFFLE, _NUMBER[name])  # the filter itself fills in the first four
    options = {"compression": 32001, "compression_opts": filters}
    return Encoding(name, options, partial(_shrink, name.encode(), _LEVEL[name]))


def _shrink(name: bytes, level: int, values: NDArray[Any]) -> bytes:
    encoded: bytes = blosc.compress(np.ascontiguousarray(values), name, level, blosc.SHUFFLE)
    return encoded


CODECS: Mapping[str, Callable[[], Encoding]] = {
    "lz4": partial(_blosc, "lz4"),
    "zstd": partial(_blosc, "zstd"),
    "gzip": _gzip,
    "none": _plain,
}
