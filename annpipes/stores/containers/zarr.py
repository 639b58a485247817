"""A Zarr store, of version 2 or 3: its metadata through zarr, the bytes of its arrays by the engine."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, Literal
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import ChangedError, FormatError, SourceError
from annpipes.stores.bytes.local import LocalFile
from annpipes.stores.bytes.protocol import unchanged_after
from annpipes.stores.containers.base import PIECE, Absent, Container, StoredArray, as_damage
from annpipes.stores.containers.layout import Layout
from annpipes.stores.containers.zarr_archives import Zip
from annpipes.stores.containers.zarr_places import Folder, Places
from annpipes.stores.containers.zarr_remote import RemotePlaces
from annpipes.stores.containers.zarr_tables import keys_of, layout_of, stored_as

__all__ = ["ZarrGroup", "metadata_of"]

_LEAST = {"zarr": (3, 0), "anndata": (0, 12)}


class ZarrGroup(Container):
    """A group of arrays and groups, in a folder or a zip archive, that zarr has open in each process for itself."""

    library: ClassVar[Literal["h5py", "zarr"]] = "zarr"

    def __init__(self, path: str | Places) -> None:
        self.places: Places = path if isinstance(path, Places) else _places_at(path)
        self.stamp: tuple[Any, ...] = self.places.stamp
        self._absent: dict[str, Absent] = {}  # of each array that was asked for
        self._layouts: WeakSet[Layout] = WeakSet()

    def __getstate__(self) -> dict[str, Any]:
        return {"places": self.places, "stamp": self.stamp, "_absent": self._absent}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _layouts=WeakSet())

    @property
    def path(self) -> str:
        return self.places.path

    @cached_property
    def group(self) -> Any:
        """The group as zarr has it, to be read only."""
        zarr = _needed(self.path)
        with self.reading(""):
            known = self.places.zarr_format if isinstance(self.places, RemotePlaces) else None
            found = zarr.open(self._store(zarr), mode="r", zarr_format=known)
        if not isinstance(found, zarr.Group):
            raise FormatError(f"{self.path} is a Zarr store with a single array, not an AnnData")
        if _unpickles():
            self._refuse_pickles(found)
        return found

    def _refuse_pickles(self, group: Any) -> None:
        """Refuse a store that makes zarr unpickle something, or whose contents cannot be listed."""
        inside = group.members(max_depth=None) if self.places.listed else []
        arrays = [found for _, found in inside if not isinstance(found, type(group))]
        if not self.places.listed or any(map(_is_pickled, arrays)):
            wanted = "numcodecs>=0.16.6,!=0.17.0"
            raise FormatError(
                f"{self.path} is a Zarr store that could make zarr unpickle data, and so run any code, because the "
                f"installed numcodecs allows it: pip install '{wanted}', and do not set ALLOW_UNSAFE_PICKLE_DECODE"
            ).with_remedy(f"pip install '{wanted}'")

    def _store(self, zarr: Any) -> Any:
        if isinstance(self.places, RemotePlaces) or (isinstance(self.places, Zip) and self.remote):
            requests = import_module("annpipes.stores.containers.zarr_requests")  # it needs zarr
            return requests.Remotely(self.places)
        return zarr.storage.ZipStore(self.path) if isinstance(self.places, Zip) else self.path

    @property
    def remote(self) -> bool:
        return self.places.remote is not None

    def elements(self) -> list[tuple[str, Any]]:
        """Path and group or array of all that it holds."""
        with self.reading(""), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The data type")  # has no specification yet: a matter of who wrote it
            return list(self.group.members(max_depth=None))

    def members(self) -> list[tuple[str, Any]]:
        """Path and array of all arrays."""
        return [(path, found) for path, found in self.elements() if not isinstance(found, type(self.group))]

    def is_group(self, path: str) -> bool:
        """Whether there is a group at ``path``, and not an array."""
        return isinstance(self.group[path], type(self.group))

    def length(self, path: str) -> int:
        """How many values a column, or a table of categories, has, whatever its encoding."""
        found = self.group[path]
        if self.is_group(path):
            found = found["codes" if "codes" in found else "values"]
        return int(found.shape[0])

    def bytes_below(self, path: str) -> int:
        """Bytes of everything at ``path`` and below ("": of all); without metadata where nothing lists objects."""
        if self.places.listed:
            return self.places.bytes_below(path) if path else self.places.size
        inside = [(name, found) for name, found in self.members() if f"{name}/".startswith(f"{path}/".lstrip("/"))]
        sizes = [self.places.find(name, keys_of(metadata_of(found))).sizes for name, found in inside]
        return sum(int(some[some > 0].sum()) for some in sizes)

    def close(self) -> None:
        """Let go of the files that this process has open."""
        for layout in list(self._layouts):
            for source in layout.sources:
                source.close()

    def reading(self, field: str) -> AbstractContextManager[None]:
        """A block that reads through zarr or anndata; whatever fails is raised as damage to this field."""
        return as_damage(f"{field} of {self.path}" if field else self.path, self.check_unchanged)

    def check_unchanged(self) -> None:
        """Refuse a store that was written anew since it was first seen."""
        stamp = self.places.stamp
        if not any(stamp):
            raise SourceError(f"{self.path!r} has been removed since it was first opened")
        if stamp != self.stamp:
            raise ChangedError(f"{self.path} changed since it was first opened; make the source again")

    def array(self, path: str) -> StoredArray:
        with self.reading(path):
            found = self.group[path]
            metadata, dtype = metadata_of(found), np.dtype(found.dtype)
            stored = stored_as(metadata, dtype)
            value = 0 if found.fill_value is None else found.fill_value
            fill = None if isinstance(stored, str) else dtype.type(value)
            layout, self._absent[path] = layout_of(stored, metadata, fill, self.places, path)
            if isinstance(layout, Layout):
                self._layouts.add(layout)
            step = found.chunks[0] if found.chunks else 1
        native = dtype.newbyteorder("=") if dtype.kind in "biufc" else dtype
        return StoredArray(tuple(found.shape), native, step, layout)

    def absent(self, path: str) -> Absent:
        return self._absent.get(path, Absent())

    def read(self, path: str, first: int, last: int) -> NDArray[Any]:
        values: NDArray[Any] = np.asarray(self.group[path][first:last])
        return values

    def numbers(self, path: str) -> Iterator[NDArray[Any]]:
        with self.reading(path):
            found = self.group[path]
            if len(found.shape) != 1 or np.dtype(found.dtype).kind not in "iu":
                raise FormatError(f"{path} of {self.path} is not a one-dimensional array of integers")
            for first in range(0, found.shape[0], PIECE):
                yield np.asarray(found[first : first + PIECE])

    def attribute(self, name: str) -> Any:
        return self.group.attrs.get(name)

    @contextmanager
    def steady(self) -> Iterator[None]:
        self.check_unchanged()
        with unchanged_after(self.check_unchanged):
            yield


def _places_at(path: str) -> Places:
    """The places of the store at ``path``, a folder or a zip archive."""
    return Folder(path) if os.path.isdir(path) else Zip(LocalFile(path))


def _needed(path: str) -> Any:
    """The package zarr, once it and anndata are known to be new enough for each other."""
    for package, least in _LEAST.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            found = "none"
        if tuple(map(int, re.findall(r"\d+", found)[:2])) < least:  # none is less than any
            wanted = f"{package}>={'.'.join(map(str, least))}"
            raise FormatError(
                f"{path} is a Zarr store, which needs {wanted}, but the version here is {found}: pip install '{wanted}'"
            ).with_remedy(f"pip install '{wanted}'")
    return import_module("zarr")  # only for such stores


def _unpickles() -> bool:
    """Whether numcodecs unpickles what a store has, https://github.com/zarr-developers/numcodecs/releases/tag/v0.17.1."""
    codec = import_module("numcodecs.pickles").Pickle()
    try:
        codec.decode(codec.encode(0))
    except Exception:  # which one depends on its version
        return False
    return True


def _is_pickled(array: Any) -> bool:
    """Whether an array names the filter that unpickles."""
    metadata = metadata_of(array)
    return any("pickle" in repr(metadata.get(part)).lower() for part in ("filters", "compressor", "codecs"))


def metadata_of(array: Any) -> Mapping[str, Any]:
    """The metadata of an array of zarr, as its JSON has it."""
    metadata: Mapping[str, Any] = array.metadata.to_dict()
    return metadata
