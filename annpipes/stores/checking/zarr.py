"""All damage of a Zarr store, found by reading everything in it once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from annpipes.messages.progress import Progress
from annpipes.stores.checking.matrices import check_sparse
from annpipes.stores.checking.passes import FILE, Found, Pass
from annpipes.stores.containers.zarr import ZarrGroup
from annpipes.stores.containers.zarr_places import Places
from annpipes.stores.damage import NO_DAMAGE, told_elsewhere
from annpipes.stores.engine.stretches import Stretches
from annpipes.stores.refusals import refuse_other_zarr
from annpipes.stores.surveying import SPARSE, encoding_of, report_order, unit_of

__all__ = ["check_zarr"]


def check_zarr(where: str | Places, progress: Progress) -> Found:
    """All that is wrong with a store; errors as for `check_file`."""
    check, container = _Pass(progress), ZarrGroup(where)
    refuse_other_zarr(container.group, container.path)
    check.elements(container)
    check.fields(where)
    container.check_unchanged()
    return check.found()


class _Pass(Pass):
    """One pass through a store."""

    def elements(self, container: ZarrGroup) -> None:
        """Each array, those of a sparse matrix together."""
        groups, arrays = self._surveyed(container)
        self.total = sum(map(_decoded_bytes, arrays.values()))
        for table in ("obs", "var", "raw/var"):
            with told_elsewhere():  # or it is not there
                self.lengths[table] = container.length(f"{table}/{groups[table].attrs['_index']}")
        matrices = {path for path, group in groups.items() if encoding_of(group) in SPARSE}
        for path in sorted({*matrices, *arrays}, key=report_order):
            parent = path.rpartition("/")[0]
            try:
                if path in matrices:
                    self._sparse(container, groups[path], path)
                elif parent not in matrices:
                    self._array(container, arrays[path], path, groups.get(parent))
            except NO_DAMAGE:
                raise
            except Exception as error:  # zarr raises whatever damage leads it to
                self.ledgers.damage.note(path, f"cannot be read ({error})")
        self.progress(self.total, self.total)

    def _surveyed(self, container: ZarrGroup) -> tuple[dict[str, Any], dict[str, Any]]:
        """Groups and arrays by path, as far as their metadata can be read."""
        groups, arrays = dict[str, Any](), dict[str, Any]()
        self.described(FILE, container.group, group=True)
        for path, found in container.elements():
            kind = isinstance(found, type(container.group))
            if self.described(path, found, group=kind):
                (groups if kind else arrays)[path] = found
        return groups, arrays

    def _sparse(self, container: ZarrGroup, group: Any, path: str) -> None:
        arrays = {name: group[name] for name in ("indptr", "indices", "data") if name in group}
        shape = check_sparse(container, arrays, group, path, self.ledgers, self.advance)
        if shape is not None:
            self.check_shape(path, shape)
        if lost := len(container.absent(f"{path}/data").numbers):
            told = f"lacks {lost:,} storage chunks, which are read as zeros: right only if all their values were zero"
            self.ledgers.remarks.note(f"{path}/data", told)

    def _array(self, container: ZarrGroup, array: Any, path: str, parent: Any) -> None:
        if not array.shape:
            _ = array[()]
            self.advance(_decoded_bytes(array))
            return
        unit = unit_of(path)
        if unit != "entries":
            self.check_shape(path, tuple(array.shape))
        coded = path.endswith("/codes") and parent is not None and "categories" in parent
        categories = container.length(f"{path.rpartition('/')[0]}/categories") if coded else None
        self.values(Stretches(container, array, path), path, unit, categories)


def _decoded_bytes(array: Any) -> int:
    size: int = math.prod(array.shape) * max(1, np.dtype(array.dtype).itemsize)
    return size
