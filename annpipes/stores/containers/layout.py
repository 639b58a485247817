"""Where the bytes of an HDF5 dataset lie in its file."""

from __future__ import annotations

import math
import os
from array import array
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5t
from numpy.typing import NDArray

from annpipes.errors import DamageError
from annpipes.stores.codecs.pipelines import Pipeline, pipeline_of

__all__ = ["Layout", "check_extent", "layout_of", "plain_layout"]


@dataclass(frozen=True, eq=False)
class Layout:
    """A dataset as storage chunks at known places; a contiguous one is a single storage chunk.

    Parameters
    ----------
    dtype
        Of one element, in this machine's byte order.
    shape, chunk_shape
        Of the dataset and of each storage chunk (those at the edges are padded to it).
    offsets, sizes, masks
        Of each storage chunk, in row-major order of the grid: where its bytes begin in the
        file, how many they are, and which codecs were left out; shape ``(storage chunks,)``.
    pipeline
        What the bytes went through.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    masks: NDArray[np.uint32]
    pipeline: Pipeline

    @property
    def plain(self) -> bool:
        """Whether bytes lie in the file as they are in memory."""
        return not self.pipeline.codecs

    @cached_property
    def chunk_bytes(self) -> int:
        """The decoded size of a storage chunk."""
        return math.prod(self.chunk_shape) * self.dtype.itemsize

    def extent(self, number: int) -> tuple[int, int]:
        """First and last element (of a two-dimensional dataset: row) in a storage chunk."""
        columns = -(-self.shape[-1] // self.chunk_shape[-1]) if len(self.shape) > 1 else 1
        first = number // columns * self.chunk_shape[0]
        return first, min(first + self.chunk_shape[0], self.shape[0]) - 1


def layout_of(dataset: h5py.Dataset) -> Layout | str:
    """The layout of ``dataset``, or the reason why only HDF5 can read it.

    Raises
    ------
    DamageError
        The table points outside of the file.
    """
    created = dataset.id.get_create_plist()
    kind = created.get_layout()
    pipeline = pipeline_of([created.get_filter(i) for i in range(created.get_nfilters())])
    for reason, applies in {
        "compact storage": kind == h5d.COMPACT,
        "virtual dataset": kind == h5d.VIRTUAL,
        "external storage": kind == h5d.CONTIGUOUS and created.get_external_count() > 0,
        "user block": dataset.file.userblock_size > 0,
        f"elements of type {dataset.dtype}": dataset.dtype.kind not in "biuf"
        or not dataset.dtype.isnative
        or dataset.id.get_type() != h5t.py_create(dataset.dtype, logical=True),
        "no elements": 0 in dataset.shape,
    }.items():
        if applies:
            return reason
    if isinstance(pipeline, str):
        return pipeline
    layout = _contiguous(dataset) if kind == h5d.CONTIGUOUS else _chunked(dataset, pipeline)
    if isinstance(layout, Layout):
        _check(layout, dataset)
    return layout


def plain_layout(dtype: np.dtype[Any], shape: tuple[int, ...], offset: int = 0) -> Layout:
    """Elements one after the other from ``offset`` on, as they are in memory."""
    size = math.prod(shape) * dtype.itemsize
    return Layout(dtype, shape, shape, np.array([offset]), np.array([size]), np.zeros(1, np.uint32), Pipeline((), ()))


def check_extent(dataset: h5py.Dataset) -> None:
    """Refuse contiguous bytes that lie outside of the file: not every HDF5 does.

    Raises
    ------
    DamageError
        They do.
    """
    created = dataset.id.get_create_plist()
    offset = dataset.id.get_offset() if created.get_layout() == h5d.CONTIGUOUS else None
    if offset is None or created.get_external_count():
        return
    length = os.path.getsize(dataset.file.filename)
    if offset > length - dataset.id.get_storage_size():
        raise DamageError(
            f"{dataset.name} in {dataset.file.filename} should lie at byte {offset} with "
            f"{dataset.id.get_storage_size()} bytes, but the file has {length}"
        )


def _contiguous(dataset: h5py.Dataset) -> Layout | str:
    offset = dataset.id.get_offset()
    if offset is None:
        return "storage that was never allocated"
    return plain_layout(dataset.dtype, dataset.shape, offset)


def _chunked(dataset: h5py.Dataset, pipeline: Pipeline) -> Layout | str:
    grid = [-(-length // side) for length, side in zip(dataset.shape, dataset.chunks, strict=True)]
    seen = array("Q")  # of each storage chunk its corner, then offset, size and mask

    def see(info: Any) -> None:
        seen.extend((*info.chunk_offset, info.byte_offset, info.size, info.filter_mask))

    dataset.id.chunk_iter(see)
    entries = np.frombuffer(seen, np.uint64).reshape(-1, len(grid) + 3) if seen else np.zeros((0, 0))
    if len(entries) != math.prod(grid):
        return "storage chunks that were never allocated"
    sides, shape = np.array(dataset.chunks, np.uint64), np.array(dataset.shape, np.uint64)
    corners, found = entries[:, : len(grid)], entries[:, len(grid) :]  # (storage chunks, dimensions), (…, 3)
    if (corners % sides).any() or (corners >= shape).any() or (found >= 1 << 62).any():
        raise DamageError(f"{dataset.name} in {dataset.file.filename}: the table of storage chunks cannot be right")
    table = np.zeros(found.shape, np.int64)
    numbers = np.ravel_multi_index(tuple((corners // sides).astype(np.int64).T), grid)
    table[numbers] = found
    offsets, sizes, masks = table.T.copy()
    layout = Layout(dataset.dtype, dataset.shape, dataset.chunks, offsets, sizes, masks.astype(np.uint32), pipeline)
    edges = np.zeros(len(table), bool)
    edges[numbers] = (corners + sides > shape).any(axis=1)
    if not layout.plain and ((sizes == layout.chunk_bytes) & (masks == 0) & edges).any():
        return "storage chunks at the edges that may be unfiltered"  # H5Pset_chunk_opts, which h5py cannot ask for
    return layout


def _check(layout: Layout, dataset: h5py.Dataset) -> None:
    """Refuse a table that no intact file can have, so that nobody reads outside of the file."""
    length = os.path.getsize(dataset.file.filename)
    wrong = (layout.offsets < 0) | (layout.sizes <= 0) | (layout.offsets > length - layout.sizes)
    if layout.plain:
        wrong |= layout.sizes != layout.chunk_bytes
    if wrong.any():
        number = int(np.flatnonzero(wrong)[0])
        raise DamageError(
            f"{dataset.name} in {dataset.file.filename}: storage chunk {number} should lie at byte "
            f"{layout.offsets[number]} with {layout.sizes[number]} bytes, but the file has {length}"
        )
    in_file = np.argsort(layout.offsets)
    overlapping = np.flatnonzero(np.diff(layout.offsets[in_file]) < layout.sizes[in_file][:-1])
    if len(overlapping):
        first, second = in_file[overlapping[0] :][:2]
        raise DamageError(
            f"{dataset.name} in {dataset.file.filename}: storage chunks {first} and {second} overlap "
            f"at byte {layout.offsets[second]}"
        )
