"""The array that stretches of a dataset are copied to, and the check on what is copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.meters import measured
from annpipes.plans.rows import RowArray
from annpipes.stores.bytes.protocol import OpenBytes
from annpipes.stores.compiled.kernels import Bytes, Moves, Output, copy_columns, copy_pieces, first_outside
from annpipes.stores.containers.layout import Layout
from annpipes.stores.damage import Origin
from annpipes.stores.engine.decoding import Loop, copy_decoded, scratch_for
from annpipes.stores.engine.pieces import Pieces

__all__ = ["Decoding", "Target", "as_words", "word_limit"]


class Target:
    """The array that a dataset's pieces are copied to, and the check on what is copied."""

    def __init__(self, origin: Origin, layout: Layout, out: NDArray[Any], below: int | None) -> None:
        self.origin: Origin = origin
        self.layout: Layout = layout
        self.below: int | None = below
        self.limit: int = word_limit(out, below)
        self.out: NDArray[np.uint8] = out.reshape(-1).view(np.uint8)
        self.words: NDArray[Any] = as_words(out, below)

    def fill(self, source: Bytes, froms: RowArray, pieces: Pieces, start: int, stop: int) -> None:
        """Copy the pieces ``start … stop-1`` from ``froms`` of ``source``."""
        moves = Moves(froms, pieces.tos, pieces.lengths)
        if self.below is None:
            copy_pieces(source, moves, start, stop, self.out)
        else:
            output = Output(self.out, self.words, self.limit)
            self._refuse(pieces, copy_columns(source, moves, start, stop, output))

    def fill_from_disk(self, source: OpenBytes, froms: RowArray, pieces: Pieces, start: int, stop: int) -> None:
        """Read the pieces ``start … stop-1`` from ``froms`` of a source."""
        part = (pieces.tos, pieces.lengths, start, stop)
        failed = source.read_ranges(froms, *part, self.out)
        if failed >= 0:
            number = int(pieces.chunks[failed])
            raise self.origin.damage(*self.layout.extent(number), f"storage chunk {number} cannot be read")
        if self.below is not None:
            self._refuse(pieces, first_outside(*part, self.words, self.limit))

    def _refuse(self, pieces: Pieces, wrong: int) -> None:
        if wrong >= 0:
            begin = int(pieces.chunks[wrong]) * self.layout.chunk_shape[0]
            first = begin + int(pieces.froms[wrong]) // self.words.itemsize
            last = first + int(pieces.lengths[wrong]) // self.words.itemsize - 1
            raise self.origin.damage(first, last, f"a column is not in 0 … {(self.below or 0) - 1}")


class Decoding:
    """Storage chunks that the compiled loop decodes, on their way to a target."""

    def __init__(self, loop: Loop, pieces: Pieces, target: Target) -> None:
        self.loop: Loop = loop
        self.decoded: int = target.layout.chunk_bytes
        self.moves: Moves = Moves(pieces.froms, pieces.tos, pieces.lengths)
        self.output: Output = Output(target.out, target.words, target.limit if target.below is not None else -1)

    def copy(self, again: Callable[[int, int], None], first: int, last: int) -> None:
        """Copy the pieces of the storage chunks ``first … last-1``; those that fail are left to ``again``."""
        chunks = self.loop.chunks
        scratch = scratch_for([self.loop.decoder], int(chunks.sizes[first:last].max()), self.decoded)
        while first < last:
            with measured("decode"):
                first = copy_decoded(chunks, first, last, scratch, self.moves, self.output)
            if first < last:
                again(*chunks.edges[first : first + 2].tolist())
                first += 1


def as_words(out: NDArray[Any], below: int | None) -> NDArray[Any]:
    """``out`` as unsigned numbers, in which a negative one is above every limit; as bytes without a limit."""
    return out.reshape(-1).view("u1" if below is None else f"u{out.itemsize}")


def word_limit(out: NDArray[Any], below: int | None) -> int:
    """``below``, or where the negative numbers begin if that is less."""
    return 0 if below is None else min(below, np.iinfo(out.dtype).max + 1, 2**63 - 1)
