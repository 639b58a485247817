"""Decoding storage chunks outside HDF5.

HDF5 applies filters in the order of the pipeline when writing and in reverse when reading; a
storage chunk's filter mask has a bit set for each filter that was left out of it
(HDF5 File Format Specification, "Data Storage - Filter Pipeline Message").
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from isal import igzip_lib
from numcodecs import blosc, lz4, zstd

__all__ = ["Filters", "filters_of"]

Buffer = Any  # bytes, memoryview or array: whatever exports a buffer
Decoder = Callable[[Buffer, int], Buffer]
"""A storage chunk's bytes and its decoded size to its decoded bytes; raises ValueError if damaged."""


def _inflate(encoded: Buffer, size: int) -> Buffer:
    try:
        stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)
        decoded = stream.decompress(encoded, size + 1)
    except igzip_lib.error as error:  # type: ignore[misc] # an exception, published without types
        raise ValueError(f"cannot be inflated ({error})") from None
    if not stream.eof:
        raise ValueError("cannot be inflated (too long or not ended)")
    return decoded


def _unshuffle(element_size: int) -> Decoder:
    def unshuffle(encoded: Buffer, size: int) -> Buffer:
        planes = np.frombuffer(encoded, np.uint8)
        whole = len(planes) // element_size * element_size  # a remainder is stored as it is
        elements = planes[:whole].reshape(element_size, -1).T.reshape(-1)
        return elements if whole == len(planes) else np.concatenate([elements, planes[whole:]])

    return unshuffle


def _verify_fletcher32(encoded: Buffer, size: int) -> Buffer:
    content, stored = memoryview(encoded)[:-4], bytes(memoryview(encoded)[-4:])
    if len(memoryview(encoded)) < 4 or int.from_bytes(stored, "little") != fletcher32(content):
        raise ValueError("has a wrong fletcher32 checksum")
    return content


def fletcher32(content: Buffer) -> int:
    """HDF5's checksum: over big-endian 16-bit words, an odd byte padded with zero (H5checksum.c)."""
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


def _blosc(encoded: Buffer, size: int) -> Buffer:
    view = memoryview(encoded)
    if len(view) < 16:
        raise ValueError("ends inside a Blosc header")
    decoded, _, length = struct.unpack_from("<III", view, 4)
    if decoded != size or length != len(view):  # the library trusts both
        raise ValueError("has an impossible Blosc header")
    return _call(blosc.decompress, encoded)


def _zstd(encoded: Buffer, size: int) -> Buffer:
    stated = _zstd_size(memoryview(encoded))
    if stated not in (None, size):
        raise ValueError(f"holds {stated} bytes in place of {size}")
    return _call(partial(zstd.decompress, dest=np.empty(size, np.uint8)), encoded)


def _zstd_size(frame: memoryview) -> int | None:
    """The decoded size in a frame's header, if it is there (RFC 8878, 3.1.1.1)."""
    if len(frame) < 5:
        raise ValueError("ends inside a Zstd header")
    single = frame[4] >> 5 & 1
    width = (single, 2, 4, 8)[frame[4] >> 6]
    start = 6 - single + (0, 1, 2, 4)[frame[4] & 3]
    return int.from_bytes(frame[start : start + width], "little") + 256 * (width == 2) if width else None


def _lz4(encoded: Buffer, size: int) -> Buffer:
    """HDF5's LZ4 frame: total and block size, then length and content of each block, big-endian."""
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
                decoded += _call(lz4.decompress, struct.pack("<I", expected) + block)
    except struct.error:
        raise ValueError("ends inside an LZ4 frame") from None
    return decoded


def _call(decompress: Callable[[Buffer], Buffer], encoded: Buffer) -> Buffer:
    try:
        return decompress(encoded)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"cannot be decompressed ({error})") from None


_BY_NUMBER: dict[int, Callable[[tuple[int, ...]], Decoder]] = {
    # Numbers of https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md
    1: lambda values: _inflate,
    2: lambda values: _unshuffle(values[0]),
    3: lambda values: _verify_fletcher32,
    32001: lambda values: _blosc,
    32004: lambda values: _lz4,
    32015: lambda values: _zstd,
}


@dataclass(frozen=True, eq=False)
class Filters:
    """The filter pipeline of a dataset."""

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    parameters: tuple[tuple[int, ...], ...]

    @cached_property
    def _undoing(self) -> list[tuple[int, Decoder, list[int]]]:
        """Decoders in the order to apply them, each with its bit of the mask."""
        decoders = [_BY_NUMBER[number](values) for number, values in zip(self.numbers, self.parameters, strict=True)]
        sums = [1 << place for place, number in enumerate(self.numbers) if number == 3]
        return [
            (1 << place, decoder, [bit for bit in sums if bit < 1 << place])
            for place, decoder in reversed(list(enumerate(decoders)))
        ]

    def decode(self, encoded: Buffer, mask: int, size: int) -> Buffer:
        """A storage chunk decoded to ``size`` bytes; a ValueError says what is wrong with it."""
        decoded = encoded
        for bit, decoder, before in self._undoing:
            if not mask & bit:
                sums = sum(1 for other in before if not mask & other)
                decoded = decoder(decoded, size + 4 * sums)
        if (found := memoryview(decoded).nbytes) != size:
            raise ValueError(f"decodes to {found} bytes in place of {size}")
        return decoded


def filters_of(pipeline: Sequence[tuple[int, int, tuple[int, ...], bytes]]) -> Filters | str:
    """The filters as h5py lists them, or the reason why they cannot be decoded here."""
    names = tuple(_NAMES.get(number, name.decode() or str(number)) for number, _, _, name in pipeline)
    for (number, _, _, _), name in zip(pipeline, names, strict=True):
        if number not in _BY_NUMBER:
            return f"filter {name} ({number}) is decoded by HDF5 alone"
    if any(item[0] == 2 and not (item[2] and item[2][0]) for item in pipeline):
        return "shuffle of unknown elements"
    if sum(item[0] not in (2, 3) for item in pipeline) > 1:
        return "compressed twice"
    return Filters(names, tuple(item[0] for item in pipeline), tuple(tuple(item[2]) for item in pipeline))


_NAMES = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32001: "blosc", 32004: "lz4", 32015: "zstd", 32000: "lzf"}
