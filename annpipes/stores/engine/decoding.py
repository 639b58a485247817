"""Storage chunks read, decoded and copied in one compiled loop, which never asks for Python's lock.

Through Python, each storage chunk takes the lock several times, and who finds it taken sleeps for longer than it is
held. So the loop calls what each codec has compiled by its address. Where a codec has nothing such, or a storage
chunk is not as it should be, there is still the way through Python.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from annpipes.stores.codecs.base import Step
from annpipes.stores.compiled.calling import call
from annpipes.stores.compiled.kernels import Bytes, Moves, Offsets, Output, largest, memcpy, read_whole
from annpipes.stores.containers.layout import Layout

__all__ = ["Chunks", "Decoder", "Scratch", "copy_decoded", "decode", "decoder_of", "read_decoded", "scratch_for"]

_PARAMETERS = 7
_WORD = 8


class Decoder(NamedTuple):
    """How the loop decodes, in this process: addresses are of no use in another.

    Parameters
    ----------
    steps
        The `Step` of each codec in the order of decoding: its entry point, then its parameters; shape ``(steps, 8)``.
    scratch_bytes
        Working memory that the neediest of them needs.
    """

    steps: NDArray[np.int64]
    scratch_bytes: int

    @classmethod
    def of(cls, steps: Sequence[Step]) -> Decoder:
        """These steps one after the other."""
        table = np.zeros((len(steps), 1 + _PARAMETERS), np.int64)
        for row, step in zip(table, steps, strict=True):
            row[0], row[1 : 1 + len(step.parameters)] = step.entry, step.parameters
        return cls(table, max(step.scratch_bytes for step in steps))


class Chunks(NamedTuple):
    """Storage chunks in a file.

    Parameters
    ----------
    descriptor
        Of the open file.
    offsets, sizes
        Where in the file each begins, and how many bytes it has; shape ``(storage chunks,)``.
    edges
        Where the pieces of each begin, and the end of the last; shape ``(storage chunks + 1,)``.
    steps
        How they are decoded (see `Decoder`).
    """

    descriptor: int
    offsets: Offsets
    sizes: Offsets
    edges: Offsets
    steps: NDArray[np.int64]


class Scratch(NamedTuple):
    """Working memory of one thread.

    Parameters
    ----------
    state
        For codecs.
    encoded, decoded
        For one storage chunk; ``decoded`` has just its size.
    between
        As large as ``decoded`` where it takes more than one step to get there.
    """

    state: NDArray[np.uint64]
    encoded: Bytes
    between: Bytes
    decoded: Bytes


def decoder_of(layout: Layout) -> Decoder | None:
    """How storage chunks of this layout are decoded in the loop; None if it cannot."""
    if layout.masks.any() or not hasattr(os, "pread"):  # which the loop calls, and Windows lacks
        return None
    steps = layout.filters.steps()
    return Decoder.of(steps) if steps else None


def scratch_for(decoders: Sequence[Decoder], encoded: int, decoded: int) -> Scratch:
    """Working memory for storage chunks of at most ``encoded`` bytes that decode to ``decoded``."""
    state = max(decoder.scratch_bytes for decoder in decoders)
    between = decoded if any(len(decoder.steps) > 1 for decoder in decoders) else 0
    sizes = [-(-size // _WORD) * _WORD for size in (state, encoded, between, decoded)]  # each at a multiple of 8
    parts = np.split(np.empty(sum(sizes) // _WORD, np.uint64), np.cumsum(sizes[:-1]) // _WORD)
    places = [part.view(np.uint8) for part in parts]
    return Scratch(parts[0], places[1], places[2], places[3][:decoded])


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def copy_decoded(chunks: Chunks, first: int, last: int, scratch: Scratch, moves: Moves, output: Output) -> int:
    """Copy the pieces of the storage chunks ``first … last-1``; the first that is not as it should be, or ``last``.

    Each decodes to all of ``scratch.decoded``, from where its pieces are moved, in bytes as for `copy_pieces`. If
    the output's limit is not negative, the words copied must be below it.
    """
    target, size = output.out.ctypes.data, output.words.itemsize
    for k in range(first, last):
        if not read_decoded(chunks, k, scratch):
            return k
        for i in range(chunks.edges[k], chunks.edges[k + 1]):
            to, length = moves.tos[i], moves.lengths[i]
            memcpy(target + to, scratch.decoded.ctypes.data + moves.froms[i], length)
            if output.limit >= 0 and largest(output.words, to // size, length // size) >= output.limit:
                return k
    return last


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def read_decoded(chunks: Chunks, number: int, scratch: Scratch) -> bool:
    """Whether a storage chunk could be read and decodes to just as much as ``scratch.decoded``, which gets it."""
    offset, size = chunks.offsets[number], chunks.sizes[number]
    if not read_whole(chunks.descriptor, scratch.encoded.ctypes.data, offset, size):
        return False
    decoded: bool = decode(chunks.steps, size, scratch)
    return decoded


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def decode(steps: NDArray[np.int64], size: int, scratch: Scratch) -> bool:
    """Whether the first ``size`` bytes decode to just as much as ``scratch.decoded``, which gets it."""
    source, total, table = scratch.encoded.ctypes.data, len(scratch.decoded), steps.ctypes.data
    for i in range(len(steps)):
        last = (len(steps) - 1 - i) % 2 == 0  # in turns, so that the last step ends where it should
        target = scratch.decoded.ctypes.data if last else scratch.between.ctypes.data
        parameters = table + i * steps.strides[0] + steps.itemsize
        if call(steps[i, 0], parameters, scratch.state.ctypes.data, source, size, target, total) == 0:
            return False
        source, size = target, total
    return True
