"""Storage chunks read, decoded and copied in one compiled loop, which never asks for Python's lock.

In Python, each storage chunk takes the lock several times, and a thread that finds it taken sleeps for longer than it
is held. So the loop calls each codec's compiled function by its address. Where a codec has none, or a storage chunk
is damaged, Python decodes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from annpipes.stores.caching.loops import KEEP, RECALL, Shelf, keep, no_shelf, recall
from annpipes.stores.codecs.base import Step
from annpipes.stores.compiled.calling import call
from annpipes.stores.compiled.kernels import Bytes, Moves, Offsets, Output, largest, memcpy, read_whole
from annpipes.stores.containers.layout import Layout, OpenedChunks

__all__ = [
    "Chunks",
    "Decoder",
    "Loop",
    "Scratch",
    "copy_decoded",
    "decode",
    "decoder_of",
    "extent",
    "loop_of",
    "read_decoded",
    "scratch_for",
]

_ENTRIES, _PARAMETERS = 2, 7
_WORD = 8


class Decoder(NamedTuple):
    """How the loop decodes, in this process: addresses are of no use in another.

    Parameters
    ----------
    steps
        The `Step` of each codec in the order of decoding: its entry point, that for a window, then its parameters;
        shape ``(steps, 9)``.
    scratch_bytes
        Working memory that the neediest of them needs.
    """

    steps: NDArray[np.int64]
    scratch_bytes: int

    @classmethod
    def of(cls, steps: Sequence[Step]) -> Decoder:
        """These steps one after the other."""
        table = np.zeros((len(steps), _ENTRIES + _PARAMETERS), np.int64)
        for row, step in zip(table, steps, strict=True):
            row[:_ENTRIES] = step.entry, step.window
            row[_ENTRIES : _ENTRIES + len(step.parameters)] = step.parameters
        return cls(table, max(step.scratch_bytes for step in steps))


class Chunks(NamedTuple):
    """Storage chunks in files.

    Parameters
    ----------
    descriptors
        Of the open file that each lies in, -1 in memory; shape ``(storage chunks,)``.
    offsets, sizes
        Where in its file (its address, in memory) each begins, and how many bytes it has; shape ``(storage chunks,)``.
    edges
        Where the pieces of each begin, and the end of the last; shape ``(storage chunks + 1,)``.
    steps
        How they are decoded (see `Decoder`).
    shelf
        Which of them are in a cache, and which are to be written there.
    """

    descriptors: Offsets
    offsets: Offsets
    sizes: Offsets
    edges: Offsets
    steps: NDArray[np.int64]
    shelf: Shelf


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

    state: Bytes
    encoded: Bytes
    between: Bytes
    decoded: Bytes


def decoder_of(layout: Layout, numbers: Offsets) -> Decoder | None:
    """How these storage chunks of a layout are decoded in the loop; None if it cannot."""
    if layout.masks[numbers].any() or not hasattr(os, "pread"):  # which the loop calls, and Windows lacks
        return None
    steps = layout.pipeline.steps()
    return Decoder.of(steps) if steps else None


@dataclass(frozen=True, eq=False)
class Loop:
    """Some storage chunks as the compiled loop takes them.

    Parameters
    ----------
    decoder
        How they are decoded.
    chunks
        Where they are.
    opened
        Their sources, open for as long as this is in use.
    """

    decoder: Decoder
    chunks: Chunks
    opened: OpenedChunks


def loop_of(
    layout: Layout,
    opened: OpenedChunks,
    numbers: Offsets,
    edges: Offsets,
    shelf_of: Callable[[Offsets], Shelf | None] = no_shelf,
) -> Loop | None:
    """The storage chunks ``numbers``, whose pieces begin at ``edges``, for the compiled loop; None if it cannot.

    If ``shelf_of`` gives None, they have a cache that the loop cannot use. It is only asked where there is a loop, as
    it grants room for what will be kept.
    """
    decoder = decoder_of(layout, numbers)
    if decoder is None or opened.descriptors is None or (shelf := shelf_of(numbers)) is None:
        return None
    chunks = Chunks(opened.descriptors, layout.offsets[numbers], layout.sizes[numbers], edges, decoder.steps, shelf)
    return Loop(decoder, chunks, opened)


def scratch_for(decoders: Sequence[Decoder], encoded: int, decoded: int) -> Scratch:
    """Working memory for storage chunks of at most ``encoded`` bytes that decode to ``decoded``."""
    between = decoded if max(len(decoder.steps) for decoder in decoders) > 1 else 0
    state_end = _rounded(max(decoder.scratch_bytes for decoder in decoders))
    encoded_end = state_end + _rounded(encoded)
    between_end = encoded_end + _rounded(between)
    memory = np.empty(between_end + decoded, np.uint8)  # at a multiple of 8, as everything in it
    return Scratch(
        memory[:state_end], memory[state_end:encoded_end], memory[encoded_end:between_end], memory[between_end:]
    )


def _rounded(size: int) -> int:
    return -(-size // _WORD) * _WORD


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def copy_decoded(chunks: Chunks, first: int, last: int, scratch: Scratch, moves: Moves, output: Output) -> int:
    """Copy the pieces of the storage chunks ``first … last-1``; the first that is not as it should be, or ``last``.

    Each decodes to all of ``scratch.decoded``, from where its pieces are moved, in bytes as for `copy_pieces`. If
    the output's limit is not negative, the words copied must be below it.
    """
    froms, tos, lengths = moves  # once: numba counts a reference each time that an array is taken out of a tuple
    out, words, limit = output
    edges, source, target, size = chunks.edges, scratch.decoded.ctypes.data, out.ctypes.data, words.itemsize
    for k in range(first, last):
        if not read_decoded(chunks, k, scratch, *extent(froms, lengths, edges[k], edges[k + 1])):
            return k
        for i in range(edges[k], edges[k + 1]):
            memcpy(target + tos[i], source + froms[i], lengths[i])
            if limit >= 0 and largest(words, tos[i] // size, lengths[i] // size) >= limit:
                return k
    return last


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def extent(froms: Offsets, lengths: Offsets, start: int, stop: int) -> tuple[int, int]:
    """Where the first of the pieces ``start … stop-1`` begins, and where the last ends."""
    first, last = froms[start], froms[start] + lengths[start]
    for i in range(start + 1, stop):
        first, last = min(first, froms[i]), max(last, froms[i] + lengths[i])
    return first, last


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def read_decoded(chunks: Chunks, number: int, scratch: Scratch, first: int, last: int) -> bool:
    """Whether a storage chunk could be read and decodes to just as much as ``scratch.decoded``, which gets it.

    Of what it decodes to, it gets the bytes ``first … last-1`` at least.
    """
    shelf = chunks.shelf
    mode = shelf.modes[number] if shelf.data >= 0 else 0
    if mode == RECALL:
        recalled: bool = recall(shelf, number, scratch.decoded)
        return recalled
    offset, size = chunks.offsets[number], chunks.sizes[number]
    if chunks.descriptors[number] < 0:
        memcpy(scratch.encoded.ctypes.data, offset, size)
    elif not read_whole(chunks.descriptors[number], scratch.encoded.ctypes.data, offset, size):
        return False
    if mode == KEEP:
        first, last = 0, len(scratch.decoded)
    decoded: bool = decode(chunks.steps, size, scratch, first, last)
    if decoded and mode == KEEP:
        keep(shelf, number, scratch.decoded)
    return decoded


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def decode(steps: NDArray[np.int64], size: int, scratch: Scratch, first: int, last: int) -> bool:
    """Whether the first ``size`` bytes decode to just as much as ``scratch.decoded``, which gets it.

    Of what they decode to, it gets the bytes ``first … last-1`` at least.
    """
    source, total, table = scratch.encoded.ctypes.data, len(scratch.decoded), steps.ctypes.data
    for i in range(len(steps)):
        left = len(steps) - 1 - i  # in turns, so that the last step ends where it should
        target = scratch.between.ctypes.data if left % 2 else scratch.decoded.ctypes.data
        parameters = table + i * steps.strides[0] + _ENTRIES * steps.itemsize
        entry = steps[i, 0] if left or steps[i, 1] == 0 else steps[i, 1]
        if call(entry, parameters, scratch.state.ctypes.data, source, size, target, total, first, last) == 0:
            return False
        source, size = target, total
    return True
