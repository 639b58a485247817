"""Where the bytes of an HDF5 dataset lie in its file."""

from __future__ import annotations

import math
from array import array
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5t, h5z
from numpy.typing import NDArray

from annpipes.errors import DamageError, FormatError
from annpipes.stores.bytes.protocol import ByteSource
from annpipes.stores.codecs.pipelines import Pipeline, pipeline_of
from annpipes.stores.containers.kept_tables import kept
from annpipes.stores.containers.layout import Layout, plain_layout

__all__ = ["check_extent", "layout_of", "need_filters"]


def layout_of(dataset: h5py.Dataset, source: ByteSource) -> Layout | str:
    """The layout of ``dataset``, whose file's bytes are ``source``, or the reason why only HDF5 can read it.

    Raises
    ------
    DamageError
        The table of storage chunks points outside of the file.
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
    layout = _contiguous(dataset, source) if kind == h5d.CONTIGUOUS else _chunked(dataset, source, pipeline)
    if isinstance(layout, Layout):
        layout.check(_named(dataset))
    return layout


def check_extent(dataset: h5py.Dataset, length: int) -> None:
    """Refuse contiguous bytes that lie outside of the file, which has ``length`` of them: not every HDF5 does.

    Raises
    ------
    DamageError
        They do.
    """
    created = dataset.id.get_create_plist()
    offset = dataset.id.get_offset() if created.get_layout() == h5d.CONTIGUOUS else None
    if offset is None or created.get_external_count():
        return
    if offset > length - dataset.id.get_storage_size():
        raise DamageError(
            f"{_named(dataset)} should lie at byte {offset} with "
            f"{dataset.id.get_storage_size()} bytes, but the file has {length}"
        )


def need_filters(dataset: h5py.Dataset, where: str) -> None:
    """Refuse a dataset with a filter that HDF5 lacks, unless hdf5plugin brings it."""
    created = dataset.id.get_create_plist()
    filters = [created.get_filter(i) for i in range(created.get_nfilters())]
    for number, _, _, name in filters:
        if not h5z.filter_avail(number):
            with suppress(ImportError):
                import_module("hdf5plugin")  # registers its filters
        if not h5z.filter_avail(number):
            raise FormatError(
                f"{where} is compressed with {name.decode() or 'a filter'} ({number}), which HDF5 cannot decode "
                f"here: pip install hdf5plugin may help"
            ).with_remedy("pip install hdf5plugin")


def _contiguous(dataset: h5py.Dataset, source: ByteSource) -> Layout | str:
    offset = dataset.id.get_offset()
    if offset is None:
        return "storage that was never allocated"
    return plain_layout(dataset.dtype, dataset.shape, source, offset)


def _chunked(dataset: h5py.Dataset, source: ByteSource, pipeline: Pipeline) -> Layout | str:
    grid = [-(-length // side) for length, side in zip(dataset.shape, dataset.chunks, strict=True)]
    entries = kept(source, str(dataset.name), partial(_entries, dataset, len(grid)))
    if len(entries) != math.prod(grid):
        return "storage chunks that were never allocated"
    sides, shape = np.array(dataset.chunks, np.uint64), np.array(dataset.shape, np.uint64)
    corners, found = entries[:, : len(grid)], entries[:, len(grid) :]  # (storage chunks, dimensions), (…, 3)
    if (corners % sides).any() or (corners >= shape).any() or (found >= 1 << 62).any():
        raise DamageError.at(_named(dataset), "the table of storage chunks cannot be right")
    table = np.zeros(found.shape, np.int64)
    numbers = np.ravel_multi_index(tuple((corners // sides).astype(np.int64).T), grid)
    table[numbers] = found
    offsets, sizes, masks = table.T.copy()
    owners = np.broadcast_to(np.zeros((), np.int32), len(table))
    places = owners, offsets, sizes, masks.astype(np.uint32)
    layout = Layout(dataset.dtype, dataset.shape, dataset.chunks, (source,), *places, pipeline)
    edges = np.zeros(len(table), bool)
    edges[numbers] = (corners + sides > shape).any(axis=1)
    if not layout.plain and ((sizes == layout.chunk_bytes) & (layout.masks == 0) & edges).any():
        return "storage chunks at the edges that may be unfiltered"  # H5Pset_chunk_opts, which h5py cannot ask for
    return layout


def _entries(dataset: h5py.Dataset, dimensions: int) -> NDArray[np.uint64]:
    """Of each storage chunk its corner, then offset, size and mask; shape ``(storage chunks, dimensions + 3)``."""
    seen = array("Q")

    def see(info: Any) -> None:
        seen.extend((*info.chunk_offset, info.byte_offset, info.size, info.filter_mask))

    dataset.id.chunk_iter(see)
    entries = np.frombuffer(seen, np.uint64) if seen else np.zeros(0, np.uint64)
    return entries.reshape(-1, dimensions + 3)


def _named(dataset: h5py.Dataset) -> str:
    return f"{dataset.name} in {dataset.file.filename}"
