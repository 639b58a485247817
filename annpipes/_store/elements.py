"""Elements and rows of a dataset copied to their places, directly or through HDF5."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from annpipes._meters import count, measured
from annpipes._rows import RowArray
from annpipes._store.hdf5 import FileBytes, Hdf5File
from annpipes._store.kernels import copy_columns, copy_pieces, first_outside, read_pieces
from annpipes._store.layout import Layout, layout_of
from annpipes._store.pieces import Pieces, Spans, row_pieces
from annpipes._store.pools import Work

__all__ = ["Dataset", "StorageDamage", "open_dataset"]

Bytes = NDArray[np.uint8]
_Decode = Callable[[FileBytes, int], Bytes]

_CACHED_BYTES = 8 << 20
_FEW = 4  # a read of so few storage chunks is one of single rows, and its neighbours will be asked for next
_PART_BYTES = 4 << 20


class StorageDamage(Exception):  # noqa: N818 (never leaves this package)
    """Elements ``first … last`` of a dataset cannot be right; the caller knows which rows these are."""

    def __init__(self, path: str, first: int, last: int, reason: str) -> None:
        super().__init__(path, first, last, reason)
        self.path, self.first, self.last, self.reason = path, first, last, reason


class Dataset(Protocol):
    """A dataset of an HDF5 file. Copying is work, to be run together with others'."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    route: str
    """How it is read, and why so."""
    step: int
    """Elements (of a two-dimensional dataset: rows) that are decoded together."""

    def copy_spans(self, spans: Spans, out: NDArray[Any], below: int | None = None) -> Work:
        """Copy spans of a one-dimensional dataset; with ``below``, all numbers must be in 0 … below-1."""

    def copy_rows(self, rows: RowArray, places: RowArray, out: NDArray[Any]) -> Work:
        """Copy ``rows``, ascending, of a two-dimensional dataset to rows ``places`` of ``out``."""


def open_dataset(file: Hdf5File, path: str) -> Dataset:
    """The dataset at ``path``, read directly if its layout is understood."""
    with file.reading(path) as opened:
        dataset = opened[path]
        elsewhere = not os.path.samefile(dataset.file.filename, file.absolute)
        layout = "linked from another file" if elsewhere else layout_of(dataset)
        if isinstance(layout, str):
            return ThroughHdf5(file, path, dataset, layout)
    return Direct(file, path, layout)


class Direct:
    """A dataset whose bytes are read and decoded here, in parallel and without HDF5's lock."""

    def __init__(self, file: Hdf5File, path: str, layout: Layout) -> None:
        self.file, self.path, self.layout = file, path, layout
        self.shape, self.dtype = layout.shape, layout.dtype
        self.route = f"direct ({' + '.join(layout.filters.names) or 'uncompressed'})"
        self.step = 1 if layout.plain else layout.chunk_shape[0]
        self._decode = partial(_decode, path, layout)  # refers to no self: a cycle would outlive its users
        self._decode_again = lru_cache(max(1, _CACHED_BYTES // layout.chunk_bytes))(self._decode)

    def copy_spans(self, spans: Spans, out: NDArray[Any], below: int | None = None) -> Work:
        pieces = spans.pieces(self.layout.chunk_shape[0]).scaled(self.dtype.itemsize)
        return self._tasks(pieces, out, below)

    def copy_rows(self, rows: RowArray, places: RowArray, out: NDArray[Any]) -> Work:
        pieces = row_pieces(rows, places, self.shape, self.layout.chunk_shape)
        return self._tasks(pieces.scaled(self.dtype.itemsize), out, None)

    def _tasks(self, pieces: Pieces, out: NDArray[Any], below: int | None) -> Work:
        target = _Target(self.path, self.layout, out, below)
        count("copied", out.nbytes)
        if self.layout.plain:
            return self._plain_work(pieces, target)
        source, edges = self.file.bytes(), pieces.edges()
        count("decoded", self.layout.chunk_bytes * max(0, len(edges) - 1))
        decode = self._decode_again if len(edges) - 1 <= _FEW else self._decode
        tasks = [partial(self._copy_decoded, source, decode, target, pieces, *group) for group in pairwise(edges)]
        return Work(tasks, task_bytes=2 * self.layout.chunk_bytes)

    def _plain_work(self, pieces: Pieces, target: _Target) -> Work:
        count("decoded", target.out.nbytes)
        source, places = self.file.bytes(), self.layout.offsets[pieces.chunks] + pieces.froms
        step = -(-len(pieces) * _PART_BYTES // max(_PART_BYTES, int(pieces.lengths.sum()))) or 1
        parts = pairwise([*range(0, len(pieces), step), len(pieces)])
        cached, mapped = source.cached(places), source.mapped()
        if cached and mapped is not None:
            return Work([partial(target.fill, mapped, places, pieces, *part) for part in parts])
        tasks = [partial(target.fill_from_disk, source, places, pieces, *part) for part in parts]
        return Work(tasks, waiting=not cached)

    def _copy_decoded(
        self, source: FileBytes, decode: _Decode, target: _Target, pieces: Pieces, start: int, stop: int
    ) -> None:
        target.fill(decode(source, int(pieces.chunks[start])), pieces.froms, pieces, start, stop)


def _decode(path: str, layout: Layout, source: FileBytes, number: int) -> Bytes:
    encoded = source.read(int(layout.offsets[number]), int(layout.sizes[number]))
    try:
        with measured("decode"):
            decoded = layout.filters.decode(encoded, int(layout.masks[number]), layout.chunk_bytes)
        return np.frombuffer(decoded, np.uint8)
    except ValueError as error:
        raise StorageDamage(path, *layout.extent(number), f"storage chunk {number} {error}") from None


class _Target:
    """The array that a dataset's pieces are copied to, and the check on what is copied."""

    def __init__(self, path: str, layout: Layout, out: NDArray[Any], below: int | None) -> None:
        self.path, self.layout, self.below = path, layout, below
        self.limit = _limit(out, below)
        self.out, self.words = out.reshape(-1).view(np.uint8), _words(out, below)

    def fill(self, source: Bytes, froms: RowArray, pieces: Pieces, start: int, stop: int) -> None:
        """Copy the pieces ``start … stop-1`` from ``froms`` of ``source``."""
        part = (pieces.tos, pieces.lengths, start, stop)
        if self.below is None:
            copy_pieces(source, froms, *part, self.out)
        else:
            self._refuse(pieces, copy_columns(source, froms, *part, self.out, self.words, self.limit))

    def fill_from_disk(self, source: FileBytes, froms: RowArray, pieces: Pieces, start: int, stop: int) -> None:
        """Read the pieces ``start … stop-1`` from ``froms`` of a file."""
        part = (pieces.tos, pieces.lengths, start, stop)
        failed = read_pieces(source.descriptor, froms, *part, self.out)
        if failed >= 0:
            number = int(pieces.chunks[failed])
            raise StorageDamage(self.path, *self.layout.extent(number), f"storage chunk {number} cannot be read")
        if self.below is not None:
            self._refuse(pieces, first_outside(*part, self.words, self.limit))

    def _refuse(self, pieces: Pieces, wrong: int) -> None:
        if wrong >= 0:
            begin = int(pieces.chunks[wrong]) * self.layout.chunk_shape[0]
            first = begin + int(pieces.froms[wrong]) // self.words.itemsize
            last = first + int(pieces.lengths[wrong]) // self.words.itemsize - 1
            raise StorageDamage(self.path, first, last, f"a column is not in 0 … {(self.below or 0) - 1}")


class ThroughHdf5:
    """A dataset that only HDF5 can decode, one thread at a time."""

    def __init__(self, file: Hdf5File, path: str, dataset: h5py.Dataset, reason: str) -> None:
        self.file, self.path, self.shape = file, path, dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype.newbyteorder("=")
        self.step = dataset.chunks[0] if dataset.chunks else 1
        self.route = f"h5py ({reason})"

    def copy_spans(self, spans: Spans, out: NDArray[Any], below: int | None = None) -> Work:
        return Work([partial(self._copy_spans, spans, out, below)])

    def _copy_spans(self, spans: Spans, out: NDArray[Any], below: int | None) -> None:
        size, words = self.dtype.itemsize, _words(out, below)
        lasts = spans.firsts + spans.lengths  # (spans,)
        for run in _stretches(spans.firsts, lasts):
            first, last = int(spans.firsts[run][0]), int(lasts[run].max())
            if first == last:
                continue
            tos, lengths = spans.tos[run] * size, spans.lengths[run] * size
            source = self._read(first, last).view(np.uint8)
            copy_pieces(source, (spans.firsts[run] - first) * size, tos, lengths, 0, len(tos), out.view(np.uint8))
            if below is not None and first_outside(tos, lengths, 0, len(tos), words, _limit(out, below)) >= 0:
                raise StorageDamage(self.path, first, last - 1, f"a column is not in 0 … {below - 1}")

    def copy_rows(self, rows: RowArray, places: RowArray, out: NDArray[Any]) -> Work:
        return Work([partial(self._copy_rows, rows, places, out)])

    def _copy_rows(self, rows: RowArray, places: RowArray, out: NDArray[Any]) -> None:
        for run in _stretches(rows, rows + 1):
            first, last = int(rows[run][0]), int(rows[run][-1]) + 1
            out[places[run]] = self._read(first, last)[rows[run] - first]

    def _read(self, first: int, last: int) -> NDArray[Any]:
        try:
            with self.file.open() as opened:
                values: NDArray[Any] = opened[self.path][first:last]
        except (OSError, RuntimeError, KeyError) as error:
            raise StorageDamage(self.path, first, last - 1, f"{error}; read through {self.route}") from error
        count("decoded", values.nbytes)
        count("copied", values.nbytes)
        return np.ascontiguousarray(values, self.dtype)


def _stretches(firsts: RowArray, lasts: RowArray) -> list[slice]:
    """Ascending spans that touch or overlap, together."""
    edges = np.flatnonzero(firsts[1:] > lasts[:-1]) + 1
    bounds = [0, *edges.tolist(), len(firsts)]
    return [slice(start, stop) for start, stop in pairwise(bounds) if stop > start]


def _words(out: NDArray[Any], below: int | None) -> NDArray[Any]:
    """``out`` as unsigned numbers, in which a negative one is above every limit."""
    flat = out.reshape(-1)
    return flat if below is None else flat.view(f"u{flat.itemsize}")


def _limit(out: NDArray[Any], below: int | None) -> int:
    """``below``, or where the negative numbers begin if that is less."""
    return 0 if below is None else min(below, np.iinfo(out.dtype).max + 1, 2**63 - 1)
