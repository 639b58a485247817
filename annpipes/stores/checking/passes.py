"""One pass through everything that a file holds, whatever the container."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from annpipes.errors import AnnpipesError, DamageError, FormatError
from annpipes.messages.progress import Progress
from annpipes.stores.checking.ledgers import Damage, Ledgers
from annpipes.stores.checking.matrices import check_values
from annpipes.stores.damage import NO_DAMAGE
from annpipes.stores.engine.stretches import Stretches
from annpipes.stores.opening import open_one
from annpipes.stores.surveying import is_expression, is_known, unit_of

__all__ = ["FILE", "Found", "Pass"]

FILE = "file"


@dataclass(frozen=True)
class Found:
    """What a check found, and how many bytes it decoded."""

    damage: tuple[Damage, ...]
    remarks: tuple[Damage, ...]
    unchecked: tuple[Damage, ...]
    read_bytes: int


@dataclass(eq=False)
class Pass:
    """What was found so far, how long the tables are, and how far the pass is."""

    progress: Progress
    ledgers: Ledgers = field(default_factory=Ledgers)
    lengths: dict[str, int] = field(default_factory=dict)
    done: int = 0
    total: int = 0

    def found(self) -> Found:
        books = self.ledgers
        return Found(books.damage.entries(), books.remarks.entries(), books.unchecked.entries(), self.done)

    def described(self, path: str, element: Any, *, group: bool) -> bool:
        """Whether the attributes of an element can be read, and are those by which anndata knows it."""
        found = {}
        try:
            for name in element.attrs:
                found[name] = element.attrs[name]
        except NO_DAMAGE:
            raise
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
        if all(part is not None for part in kind) and not is_known(group, *kind):
            what = "group" if group else "dataset"
            self.ledgers.unchecked.note(
                path, f"a {what} encoded as {kind[0]!r} {kind[1]!r}, which anndata does not know"
            )
        return True

    def values(self, stretches: Stretches, path: str, unit: str, categories: int | None) -> None:
        """An array read whole: values of X and layers, and codes of ``categories``, are looked at."""
        for first, last in stretches.edges():
            for begin, values in stretches.intact(first, last):
                if values.ndim == 2 and is_expression(path):
                    check_values(values, path, unit, begin, self.ledgers)
                if categories is not None and values.dtype.kind in "iu":
                    wrong = np.flatnonzero((values < -1) | (values >= categories))
                    what = f"a code without a category (there are {categories:,} categories)"
                    self.ledgers.damage.note_rows(path, what, unit, wrong + begin)
            self.advance((last - first) * stretches.row_bytes)
        self.ledgers.note_bad(stretches, path, unit)

    def check_shape(self, path: str, shape: tuple[int, ...]) -> None:
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

    def advance(self, size: int) -> None:
        self.done += size
        self.progress(self.done, max(self.total, self.done))

    def fields(self, where: Any) -> None:
        """What only shows when the parts of a field are put together."""
        books = self.ledgers
        try:
            store = open_one(where)
            fields = store.fields
        except NO_DAMAGE:
            raise
        except AnnpipesError as error:
            if not (books.damage.knows("obs") or books.damage.knows("var")):
                books.damage.note(FILE, str(error))
            return
        for name in fields[:-1]:  # the last one is `rows`
            if books.know(name) or books.know(name.replace("raw/", "raw.")):
                continue
            try:
                store.check([name])
            except NO_DAMAGE:
                raise
            except DamageError as error:
                if name != "obs_names" or not books.know("obs"):
                    books.damage.note(name, str(error))
            except FormatError as error:
                books.remarks.note(name, f"cannot be read by rows: {error}")
