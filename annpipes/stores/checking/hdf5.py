"""All damage of an ``.h5ad`` file, found by reading everything in it once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h5py

from annpipes.errors import FormatError
from annpipes.messages.brevity import brief_bytes
from annpipes.messages.progress import Progress
from annpipes.stores.bytes.remote_file import RemoteFile
from annpipes.stores.checking.matrices import check_sparse
from annpipes.stores.checking.passes import FILE, Found, Pass
from annpipes.stores.containers.hdf5 import Hdf5File
from annpipes.stores.containers.hdf5_tables import need_filters
from annpipes.stores.damage import NO_DAMAGE, told_elsewhere
from annpipes.stores.engine.stretches import Stretches
from annpipes.stores.refusals import refuse_known
from annpipes.stores.surveying import codes_of, encoding_of, is_sparse, report_order, survey, unit_of, unwritten_bytes
from annpipes.stores.tables import frame_length

__all__ = ["check_h5ad"]

_MOST_UNWRITTEN = 1 << 28
_OTHER = "awkward-array"  # its parts have lengths of their own


def check_h5ad(where: str | RemoteFile, progress: Progress) -> Found:
    """All that is wrong with a file; errors as for `check_file`."""
    check = _Pass(progress)
    try:
        file = Hdf5File(where)
    except FormatError as error:
        check.ledgers.damage.note(FILE, f"{error}: its beginning is damaged, or it never was one")
        return check.found()
    try:
        opened = file.in_hdf5()
    except NO_DAMAGE:
        raise
    except Exception as error:  # h5py raises whatever damage leads it to
        check.ledgers.damage.note(FILE, f"HDF5 cannot open it ({error})")
        return check.found()
    with opened:
        _refuse_other(opened, file.path)
        check.elements(file, opened)
    check.fields(where)
    file.source.check_unchanged()
    return check.found()


def _refuse_other(opened: h5py.File, path: str) -> None:
    try:
        refuse_known(opened, path)
    except NO_DAMAGE:
        raise
    except FormatError:
        raise
    except Exception:  # it cannot be opened, which is told where it is surveyed
        return


@dataclass(eq=False)
class _Pass(Pass):
    """One pass through a file."""

    def elements(self, file: Hdf5File, opened: h5py.File) -> None:
        """Each dataset, those of a sparse matrix together."""
        damage = self.ledgers.damage
        elements = dict(survey(opened, lambda path, why: damage.note(path or FILE, why)))
        self.described(FILE, opened, group=True)
        for path in [path for path, element in elements.items() if not self._described(path, element)]:
            del elements[path]
        matrices = {path for path, element in elements.items() if is_sparse(element)}
        for path in [path for path, element in elements.items() if not self._sized(path, element)]:
            parent = path.rpartition("/")[0]
            whole = parent if parent in matrices else path
            for part in [part for part in elements if part == whole or part.startswith(f"{whole}/")]:
                del elements[part]
        self.total = sum(map(_decoded_bytes, elements.values()))
        self.lengths = _lengths(elements)
        for path in sorted(elements, key=report_order):
            self._element(file, elements[path], path, matrices)
        for path, element in elements.items():
            self._readable(path, element)
        self.progress(self.total, self.total)

    def _element(self, file: Hdf5File, element: h5py.Group | h5py.Dataset, path: str, matrices: set[str]) -> None:
        try:
            if path in matrices:
                self._sparse(file, element, path)
            elif path.rpartition("/")[0] not in matrices and isinstance(element, h5py.Dataset):
                self._dataset(file, element, path)
        except NO_DAMAGE:
            raise
        except FormatError as error:  # a filter that HDF5 lacks
            self.ledgers.unchecked.note(path, str(error))
        except Exception as error:  # h5py raises whatever damage leads it to
            self.ledgers.damage.note(path, f"cannot be read ({error})")

    def _described(self, path: str, element: h5py.Group | h5py.Dataset) -> bool:
        return self.described(path, element, group=isinstance(element, h5py.Group))

    def _sized(self, path: str, element: h5py.Group | h5py.Dataset) -> bool:
        """Whether an element is as large as it says, as far as that can be known without reading it."""
        try:
            missing = unwritten_bytes(element)
        except NO_DAMAGE:
            raise
        except Exception as error:  # h5py raises whatever damage leads it to
            self.ledgers.damage.note(path, f"cannot be read ({error})")
            return False
        if missing > _MOST_UNWRITTEN:
            told = f"says that it holds {brief_bytes(missing)} more than was ever written: its length may be damaged"
            self.ledgers.unchecked.note(path, told)
        return missing <= _MOST_UNWRITTEN

    def _readable(self, path: str, element: h5py.Group | h5py.Dataset) -> None:
        """That HDF5, too, can read what was read without it so far."""
        if not isinstance(element, h5py.Dataset) or not element.shape or 0 in element.shape or self.ledgers.know(path):
            return
        try:
            _ = element[(0,) * len(element.shape)]
        except NO_DAMAGE:
            raise
        except Exception as error:
            self.ledgers.damage.note(path, f"HDF5 cannot read it ({error})")

    def _sparse(self, file: Hdf5File, group: h5py.Group, path: str) -> None:
        found = {name: group.get(name) for name in ("indptr", "indices", "data")}
        arrays = {name: part for name, part in found.items() if isinstance(part, h5py.Dataset)}
        for name, part in arrays.items():
            need_filters(part, f"{path}/{name} of {file.path}")
        shape = check_sparse(file, arrays, group, path, self.ledgers, self.advance)
        if shape is not None:
            self.check_shape(path, shape)

    def _dataset(self, file: Hdf5File, dataset: h5py.Dataset, path: str) -> None:
        if not dataset.shape:  # one value, or a dataset without any
            _ = dataset[()]
            self.advance(_decoded_bytes(dataset))
            return
        unit = "entries" if encoding_of(dataset.parent) == _OTHER else unit_of(path)
        if unit != "entries":
            self.check_shape(path, dataset.shape)
        need_filters(dataset, f"{path} of {file.path}")
        self.values(Stretches(file, dataset, path), path, unit, _categories(dataset, path))


def _lengths(elements: dict[str, Any]) -> dict[str, int]:
    """How many rows the tables have, as far as they say so."""
    found = {}
    for path in ("obs", "var", "raw/var", "raw.var"):
        with told_elsewhere():  # or it is not there
            found[path] = frame_length(elements[path])
    return found


def _categories(dataset: h5py.Dataset, path: str) -> int | None:
    """How many categories there are, if a dataset holds codes."""
    try:
        coded = codes_of(dataset.parent) if path.endswith("/codes") else codes_of(dataset)
    except NO_DAMAGE:
        raise
    except Exception:  # the categories are damaged, which is told where they are read
        return None
    return None if coded is None else coded[1]


def _decoded_bytes(element: h5py.Group | h5py.Dataset) -> int:
    return int(element.nbytes) if isinstance(element, h5py.Dataset) and element.shape is not None else 0
