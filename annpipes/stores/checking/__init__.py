"""All damage of a file, found by reading everything in it once.

`ledgers`   what a check finds, in stretches of rows
`matrices`  whether the parts of a sparse matrix fit together
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from annpipes.errors import AnnpipesError, DamageError, FormatError
from annpipes.reporting import Progress, brief_bytes
from annpipes.stores.bytes.local import busy
from annpipes.stores.checking.ledgers import Damage, Ledgers
from annpipes.stores.checking.matrices import check_sparse, check_values
from annpipes.stores.containers.hdf5 import Hdf5File
from annpipes.stores.engine.stretches import Stretches
from annpipes.stores.h5ad import H5adStore
from annpipes.stores.refusals import refuse_address, refuse_known
from annpipes.stores.surveying import (
    codes_of,
    encoding_of,
    is_expression,
    is_known,
    is_sparse,
    report_order,
    survey,
    unit_of,
    unwritten_bytes,
)
from annpipes.stores.tables import frame_length

__all__ = ["Found", "check_file"]

_FILE = "file"
_MOST_UNWRITTEN = 1 << 28
_OTHER = "awkward-array"  # its parts have lengths of their own


@dataclass(frozen=True)
class Found:
    """What `check_file` found, and how many bytes it decoded."""

    damage: tuple[Damage, ...]
    remarks: tuple[Damage, ...]
    unchecked: tuple[Damage, ...]
    read_bytes: int


def check_file(path: str, progress: Progress) -> Found:
    """All that is wrong with a file.

    Raises
    ------
    SourceError, FormatError
        No such file, a directory, or a file of another kind.
    BusyError, ChangedError
        Somebody has it open for writing, or wrote to it meanwhile: nothing can be said of it.
    """
    check = _Check(progress)
    refuse_address(path)
    try:
        file = Hdf5File(path)
    except FormatError as error:
        check.ledgers.damage.note(_FILE, f"{error}: its beginning is damaged, or it never was one")
        return check.found()
    try:
        opened = h5py.File(file.absolute, "r")
    except BlockingIOError as error:
        raise busy(path) from error
    except Exception as error:  # h5py raises whatever damage leads it to
        check.ledgers.damage.note(_FILE, f"HDF5 cannot open it ({error})")
        return check.found()
    with opened:
        _refuse_other(opened, path)
        check.elements(file, opened)
    check.fields(path)
    file.source.check_unchanged()
    return check.found()


def _refuse_other(opened: h5py.File, path: str) -> None:
    try:
        refuse_known(opened, path)
    except FormatError:
        raise
    except Exception:  # it cannot be opened, which is told where it is surveyed
        return


@dataclass(eq=False)
class _Check:
    """One pass through a file."""

    progress: Progress
    ledgers: Ledgers = field(default_factory=Ledgers)
    lengths: dict[str, int] = field(default_factory=dict)
    done: int = 0
    total: int = 0

    def found(self) -> Found:
        books = self.ledgers
        return Found(books.damage.entries(), books.remarks.entries(), books.unchecked.entries(), self.done)

    def elements(self, file: Hdf5File, opened: h5py.File) -> None:
        """Each dataset, those of a sparse matrix together."""
        damage = self.ledgers.damage
        elements = dict(survey(opened, lambda path, why: damage.note(path or _FILE, why)))
        self._described(_FILE, opened)
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
            element, parent = elements[path], path.rpartition("/")[0]
            try:
                if path in matrices:
                    self._sparse(file, element, path)
                elif parent not in matrices and isinstance(element, h5py.Dataset):
                    self._dataset(file, element, path)
            except FormatError as error:  # a filter that HDF5 lacks
                self.ledgers.unchecked.note(path, str(error))
            except Exception as error:
                damage.note(path, f"cannot be read ({error})")
        for path, element in elements.items():
            self._readable(path, element)
        self.progress(self.total, self.total)

    def _sized(self, path: str, element: h5py.Group | h5py.Dataset) -> bool:
        """Whether an element is as large as it says, as far as that can be known without reading it."""
        try:
            missing = unwritten_bytes(element)
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
        except Exception as error:
            self.ledgers.damage.note(path, f"HDF5 cannot read it ({error})")

    def _described(self, path: str, element: h5py.Group | h5py.Dataset) -> bool:
        """Whether the attributes of an element can be read, and are those by which anndata knows it."""
        found = {}
        try:
            for name in element.attrs:
                found[name] = element.attrs[name]
        except Exception as error:
            self.ledgers.damage.note(path, f"its attributes cannot be read ({error})")
            return False
        needed = {"encoding-type", "encoding-version"}
        if found.get("encoding-type") == "dataframe":
            needed |= {"_index", "column-order"}
        if not found.keys().isdisjoint(needed) and (missing := needed - found.keys()):
            self.ledgers.damage.note(
                path, f"lacks the attribute {min(missing)!r}, without which anndata cannot read it"
            )
        kind = tuple(found.get(name) for name in ("encoding-type", "encoding-version"))
        if all(part is not None for part in kind) and not is_known(element, *kind):
            what = "group" if isinstance(element, h5py.Group) else "dataset"
            self.ledgers.unchecked.note(
                path, f"a {what} encoded as {kind[0]!r} {kind[1]!r}, which anndata does not have"
            )
        return True

    def _sparse(self, file: Hdf5File, group: h5py.Group, path: str) -> None:
        shape = check_sparse(file, group, path, self.ledgers, self._advance)
        if shape is not None:
            self._check_shape(path, shape)

    def _dataset(self, file: Hdf5File, dataset: h5py.Dataset, path: str) -> None:
        if not dataset.shape:  # one value, or a dataset without any
            _ = dataset[()]
            self._advance(_decoded_bytes(dataset))
            return
        unit = "entries" if encoding_of(dataset.parent) == _OTHER else unit_of(path)
        if unit != "entries":
            self._check_shape(path, dataset.shape)
        categories = _categories(dataset, path)
        stretches = Stretches(file, dataset, path)
        for first, last in stretches.edges():
            for begin, values in stretches.intact(first, last):
                if values.ndim == 2 and is_expression(path):
                    check_values(values, path, unit, begin, self.ledgers)
                if categories is not None and values.dtype.kind in "iu":
                    wrong = np.flatnonzero((values < -1) | (values >= categories))
                    what = f"a code without a category, of which there are {categories:,}"
                    self.ledgers.damage.note_rows(path, what, unit, wrong + begin)
            self._advance((last - first) * stretches.row_bytes)
        self.ledgers.note_bad(stretches, path, unit)

    def _check_shape(self, path: str, shape: tuple[int, ...]) -> None:
        """Lengths must be those of obs and var."""
        unit, group, second = unit_of(path), path.split("/")[0], None
        table = ("raw/var" if group == "raw" else group.replace("varm", "var")) if unit == "genes" else "obs"
        if is_expression(path):
            second = "var" if group in ("X", "layers") else "raw.var" if group == "raw.X" else "raw/var"
        elif group in ("obsp", "varp"):
            table = second = group[:3]
        for number, name in enumerate((table, second)):
            length = self.lengths.get(name or "")
            if number == 0 and group in ("obs", "var") and path.count("/") == 1 and shape == (1,):
                continue  # what stands there once is repeated
            if unit != "entries" and length is not None and shape[number : number + 1] not in ((), (length,)):
                told = f"has {shape[number]:,} {('rows', 'columns')[number]}, but {name} has {length:,}"
                self.ledgers.damage.note(path, told)

    def _advance(self, size: int) -> None:
        self.done += size
        self.progress(self.done, max(self.total, self.done))

    def fields(self, path: str) -> None:
        """What only shows when the parts of a field are put together."""
        books = self.ledgers
        try:
            store = H5adStore(path)
            fields = store.fields
        except AnnpipesError as error:
            if not (books.damage.knows("obs") or books.damage.knows("var")):
                books.damage.note(_FILE, str(error))
            return
        for name in fields[:-1]:  # the last one is `rows`
            if books.know(name) or books.know(name.replace("raw/", "raw.")):
                continue
            try:
                store.check([name])
            except DamageError as error:
                if name != "obs_names" or not books.know("obs"):
                    books.damage.note(name, str(error))
            except FormatError as error:
                books.remarks.note(name, f"cannot be read by rows: {error}")


def _lengths(elements: dict[str, Any]) -> dict[str, int]:
    """How many rows the tables have, as far as they say so."""
    found = {}
    for path in ("obs", "var", "raw/var", "raw.var"):
        with suppress(Exception):  # it is not there, or damaged, which is told elsewhere
            found[path] = frame_length(elements[path])
    return found


def _categories(dataset: h5py.Dataset, path: str) -> int | None:
    """How many categories there are, if a dataset holds codes."""
    try:
        coded = codes_of(dataset.parent) if path.endswith("/codes") else codes_of(dataset)
    except Exception:  # the categories are damaged, which is told where they are read
        return None
    return None if coded is None else coded[1]


def _decoded_bytes(element: h5py.Group | h5py.Dataset) -> int:
    return int(element.nbytes) if isinstance(element, h5py.Dataset) and element.shape is not None else 0
