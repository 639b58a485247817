"""What damage is called: file, field and rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from annpipes.errors import BusyError, ChangedError, DamageError, RemoteError
from annpipes.stores.indptr import Indptr

__all__ = ["NO_DAMAGE", "Origin", "told_elsewhere"]

NO_DAMAGE = (BusyError, ChangedError, RemoteError)
"""Errors that say nothing of what is stored: somebody writes to it, or the network fails."""


@contextmanager
def told_elsewhere() -> Iterator[None]:
    """A block that damage may end without an error, because it is reported elsewhere."""
    try:
        yield
    except NO_DAMAGE:
        raise
    except Exception:  # libraries raise whatever damage leads them to
        return


@dataclass(frozen=True, eq=False)
class Origin:
    """Where elements come from.

    Parameters
    ----------
    file
        The file's path, as it was given.
    path
        The dataset's path in it.
    indptr
        Where rows begin among the elements; without it, elements are counted in rows.
    """

    file: str
    path: str
    indptr: Indptr | None = None

    def damage(self, first: int, last: int, reason: str) -> DamageError:
        """The error that says which rows have the elements ``first … last``, and what is wrong with them."""
        if self.indptr is not None:
            first, last = self.indptr.rows_at([first, last]).tolist()
        return DamageError(f"{self.path} of {self.file}, rows {first} … {last}: {reason}")
