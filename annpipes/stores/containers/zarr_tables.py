"""Where the storage chunks of a Zarr array lie, and what they went through.

https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html, its codec ``sharding_indexed``, and
https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import DamageError
from annpipes.stores.bytes.memory import MemoryBytes
from annpipes.stores.codecs.crc32c import checksum
from annpipes.stores.codecs.pipelines import Pipeline, zarr_pipeline
from annpipes.stores.containers.base import Absent
from annpipes.stores.containers.layout import Layout
from annpipes.stores.containers.zarr_places import Objects, Places

__all__ = ["Stored", "codec_names", "keys_of", "layout_of", "stored_as"]

_NOT_THERE = np.uint64(2**64 - 1)  # offset and size of a storage chunk that a shard does not have
_ENTRY = 16  # bytes of an index for each storage chunk: offset and size
_PLAIN_INDEX = ["bytes", "crc32c"]


@dataclass(frozen=True, eq=False)
class Stored:
    """How an array is cut up and encoded, as its metadata says.

    Parameters
    ----------
    chunk_shape
        Of what is decoded at once.
    object_shape
        Of what one object of the store holds: a storage chunk, or a shard of many.
    pipeline
        What the bytes of a storage chunk went through.
    index_at_start
        Of shards: whether the index stands before the storage chunks.
    index_size
        Bytes of the index of a shard; 0 where objects are no shards.
    """

    chunk_shape: tuple[int, ...]
    object_shape: tuple[int, ...]
    pipeline: Pipeline
    index_at_start: bool = False
    index_size: int = 0

    @property
    def per_object(self) -> tuple[int, ...]:
        """How many storage chunks an object holds along each dimension."""
        return tuple(whole // part for whole, part in zip(self.object_shape, self.chunk_shape, strict=True))


def stored_as(metadata: Mapping[str, Any], dtype: np.dtype[Any]) -> Stored | str:
    """What the metadata of an array, of either version of Zarr, says; or why only zarr can read it."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        return f"elements of type {dtype}"
    if 0 in metadata["shape"]:
        return "no elements"
    return (_version_2 if metadata["zarr_format"] == 2 else _version_3)(metadata, dtype)


def _version_2(metadata: Mapping[str, Any], dtype: np.dtype[Any]) -> Stored | str:
    if not dtype.isnative:
        return f"elements of type {dtype}"
    if metadata["order"] != "C" and len(metadata["shape"]) > 1:
        return "elements in Fortran order"
    pipeline, sides = zarr_pipeline([(one["id"], one) for one in _encoded_by(metadata)]), tuple(metadata["chunks"])
    return pipeline if isinstance(pipeline, str) else Stored(sides, sides, pipeline)


def _version_3(metadata: Mapping[str, Any], dtype: np.dtype[Any]) -> Stored | str:
    sides = _object_sides(metadata)
    if sides is None:
        return f"a storage chunk grid of type {metadata['chunk_grid']['name']}"
    if metadata.get("storage_transformers"):
        return "storage transformers"
    codecs = [(one["name"], one.get("configuration") or {}) for one in metadata["codecs"]]
    if codecs[0][0] != "sharding_indexed":
        pipeline = _pipeline(codecs, dtype)
        return pipeline if isinstance(pipeline, str) else Stored(sides, sides, pipeline)
    if len(codecs) > 1:
        return "shards that are encoded as a whole"
    return _sharded(sides, codecs[0][1], dtype)


def _sharded(sides: tuple[int, ...], configuration: Mapping[str, Any], dtype: np.dtype[Any]) -> Stored | str:
    index = [one["name"] for one in configuration["index_codecs"]]
    if index not in (_PLAIN_INDEX, _PLAIN_INDEX[:1]) or not _little(configuration["index_codecs"][0]):
        return f"a shard index encoded by {' + '.join(index)}"
    inner = [(one["name"], one.get("configuration") or {}) for one in configuration["codecs"]]
    pipeline = _pipeline(inner, dtype)
    if isinstance(pipeline, str):
        return pipeline
    chunk = tuple(configuration["chunk_shape"])
    count = math.prod(whole // part for whole, part in zip(sides, chunk, strict=True))
    size = _ENTRY * count + (4 if "crc32c" in index else 0)
    return Stored(chunk, sides, pipeline, configuration.get("index_location", "end") == "start", size)


def _pipeline(codecs: Sequence[tuple[str, Mapping[str, Any]]], dtype: np.dtype[Any]) -> Pipeline | str:
    name, configuration = codecs[0]
    if name != "bytes":
        return f"{name} is decoded only by zarr"
    if dtype.itemsize > 1 and not _little({"configuration": configuration}):
        return "big-endian elements"
    return zarr_pipeline(codecs[1:])


def _little(codec: Mapping[str, Any]) -> bool:
    endian = (codec.get("configuration") or {}).get("endian", "little")
    return str(getattr(endian, "value", endian)) == "little"


def codec_names(metadata: Mapping[str, Any]) -> list[str]:
    """What the bytes of an array went through, as Zarr calls it."""
    if metadata["zarr_format"] == 2:
        return [one["id"] for one in _encoded_by(metadata)]
    codecs = metadata["codecs"]
    while codecs and codecs[0]["name"] == "sharding_indexed":
        codecs = codecs[0]["configuration"]["codecs"]
    return [one["name"] for one in codecs if one["name"] != "bytes"]


def layout_of(
    stored: Stored | str, metadata: Mapping[str, Any], fill: np.generic | None, places: Places, path: str
) -> tuple[Layout | str, Absent]:
    """The layout of the array at ``path`` of a store, or the reason why only zarr can read it; and what is not there.

    Parameters
    ----------
    stored
        What `stored_as` says of it.
    fill
        What stands where a storage chunk is not there; not needed of what only zarr can read.

    Raises
    ------
    DamageError
        The index of a shard, or a size, cannot be right.
    """
    shape, where, sides = tuple(metadata["shape"]), f"{path} in {places.path}", _object_sides(metadata)
    if sides is None or 0 in shape or not shape:
        assert isinstance(stored, str)
        return stored, Absent()
    grid = _grid(shape, sides)
    objects = places.find(path, _keys(metadata, grid))
    if isinstance(stored, str) or objects.unreadable:
        reason = stored if isinstance(stored, str) else objects.unreadable
        return reason, Absent(np.flatnonzero(objects.sizes < 0), sides[0])
    assert fill is not None
    if stored.index_size:
        owners, offsets, sizes = _in_shards(stored, shape, grid, objects, where)
    else:
        owners, offsets, sizes = objects.owners.copy(), objects.offsets.copy(), objects.sizes.copy()
    sources, masks = objects.sources, np.zeros(len(sizes), np.uint32)
    absent, shared = np.flatnonzero(sizes < 0), None
    if len(absent):  # one storage chunk in memory stands for all of them, encoded by none of the codecs
        whole, shared = np.full(stored.chunk_shape, fill), len(sources)
        sources = (*sources, MemoryBytes(whole, places.path))
        owners[absent], offsets[absent], sizes[absent] = shared, 0, whole.nbytes
        masks[absent] = (1 << len(stored.pipeline.codecs)) - 1
    layout = Layout(fill.dtype, shape, stored.chunk_shape, sources, owners, offsets, sizes, masks, stored.pipeline)
    layout.check(where, shared)
    return layout, Absent(absent, stored.chunk_shape[0])


def _encoded_by(metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The configurations of an array's codecs in version 2, in the order of encoding."""
    return [*(metadata.get("filters") or ()), *filter(None, [metadata.get("compressor")])]


def _object_sides(metadata: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The shape of what one object holds; None where they differ."""
    if metadata["zarr_format"] == 2:
        return tuple(metadata["chunks"])
    grid = metadata["chunk_grid"]
    return tuple(grid["configuration"]["chunk_shape"]) if grid["name"] == "regular" else None


def keys_of(metadata: Mapping[str, Any]) -> list[str]:
    """The keys of an array's objects, in row-major order; none where they differ in shape."""
    sides = _object_sides(metadata)
    return [] if not sides else _keys(metadata, _grid(metadata["shape"], sides))


def _grid(shape: Sequence[int], sides: Sequence[int]) -> list[int]:
    """How many objects there are along each dimension."""
    return [-(-length // side) if length else 0 for length, side in zip(shape, sides, strict=True)]


def _keys(metadata: Mapping[str, Any], grid: Sequence[int]) -> list[str]:
    if metadata["zarr_format"] == 2:
        separator, prefix = metadata.get("dimension_separator") or ".", ""
    else:
        encoding = metadata["chunk_key_encoding"]
        v2 = encoding["name"] == "v2"
        separator = (encoding.get("configuration") or {}).get("separator", "." if v2 else "/")
        prefix = "" if v2 else f"c{separator}"
    return [prefix + separator.join(map(str, corner)) for corner in product(*map(range, grid))]


def _in_shards(
    stored: Stored, shape: tuple[int, ...], grid: Sequence[int], shards: Objects, where: str
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Owner, offset and size of each storage chunk of an array, in row-major order; size -1 where it is not there."""
    tables = shards.each(lambda number: _index(stored, shards, number, where))
    # (shards, storage chunks in each, 2), the first two of as many dimensions as the array, then alternating
    table = np.array(tables, np.int64).reshape(*grid, *stored.per_object, 2)
    n, owners = len(shape), np.broadcast_to(shards.owners.reshape(*grid, *[1] * len(shape)), table.shape[:-1])
    order = [axis for pair in zip(range(n), range(n, 2 * n), strict=True) for axis in pair]
    sides = [whole * part for whole, part in zip(grid, stored.per_object, strict=True)]
    inside = tuple(slice(-(-length // side)) for length, side in zip(shape, stored.chunk_shape, strict=True))
    arrange = partial(_arranged, order=order, sides=sides, inside=inside)
    return arrange(owners), arrange(table[..., 0]), arrange(table[..., 1])


def _arranged(values: NDArray[Any], order: list[int], sides: list[int], inside: tuple[slice, ...]) -> NDArray[Any]:
    return np.array(values.transpose(order).reshape(sides)[inside]).ravel()


def _index(stored: Stored, shards: Objects, number: int, where: str) -> NDArray[np.int64]:
    """Offset (in its source) and size of each storage chunk of a shard, -1 where one is not there; ``(chunks, 2)``."""
    count, size = math.prod(stored.per_object), int(shards.sizes[number])
    if size < 0:
        return np.full((count, 2), -1)
    if size < stored.index_size:
        raise DamageError.at(where, f"shard {number} has {size} bytes, fewer than its index alone")
    octets = bytes(shards.read(number, 0 if stored.index_at_start else size - stored.index_size, stored.index_size))
    table, stated = octets[: _ENTRY * count], octets[_ENTRY * count :]
    if stated and int.from_bytes(stated, "little") != checksum(table):
        raise DamageError.at(where, f"the index of shard {number} has a wrong crc32c checksum")
    entries = np.frombuffer(table, "<u8").reshape(count, 2)
    there = (entries != _NOT_THERE).any(axis=1)
    wrong = there & ((entries > size).any(axis=1) | (entries.sum(axis=1) > size))
    if wrong.any():
        chunk = int(np.flatnonzero(wrong)[0])
        raise DamageError.at(
            where,
            f"storage chunk {chunk} of shard {number} should lie at byte {entries[chunk, 0]} with "
            f"{entries[chunk, 1]} bytes, but the shard has {size}",
        )
    found = np.full((count, 2), -1)
    found[there] = entries[there]
    found[there, 0] += shards.offsets[number]
    return found
