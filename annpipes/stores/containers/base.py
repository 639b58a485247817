"""What a container answers of the arrays that it holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import AnnpipesError, DamageError
from annpipes.stores.containers.layout import Layout

__all__ = ["PIECE", "Absent", "Container", "StoredArray", "as_damage"]

PIECE = 1 << 20
"""How many numbers are read at a time where all are looked at."""


@contextmanager
def as_damage(what: str, check_unchanged: Callable[[], None], *, before: bool = True) -> Iterator[None]:
    """A block in which a library reads: whatever fails is raised as damage to ``what``, unless that has changed.

    Where looking takes a request, nothing is looked at ``before``: only afterwards counts.
    Warnings that the caller has turned into errors (of an old format, say) are raised as they are.
    """
    if before:
        check_unchanged()
    try:
        yield
    except (AnnpipesError, Warning):
        raise
    except Exception as error:  # libraries raise whatever damage leads them to
        check_unchanged()
        raise DamageError(f"{what} cannot be read: {str(error) or type(error).__name__}") from error
    check_unchanged()


@dataclass(frozen=True, eq=False)
class StoredArray:
    """What is known of an array in a container.

    Parameters
    ----------
    shape, dtype
        Its own; the type in this machine's byte order.
    step
        How many elements (of more dimensions: places along the first) are stored together.
    layout
        Where its storage chunks lie and what they went through, or the reason why only the container's own
        library can read it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    step: int
    layout: Layout | str


class Absent(NamedTuple):
    """Storage chunks of an array that are not there, so that all in them is the fill value.

    Parameters
    ----------
    numbers
        Which; of an array that only zarr decodes, which of its objects. Shape ``(absent,)``.
    side
        How many elements (of more dimensions: places along the first) each has.
    """

    numbers: NDArray[np.int64] = np.zeros(0, np.int64)
    side: int = 1

    def extents(self, length: int) -> Iterator[tuple[int, int, int]]:
        """Number, first and last element of each, in an array of one dimension and this length."""
        for number in self.numbers.tolist():
            yield number, number * self.side, min((number + 1) * self.side, length) - 1


class Container(ABC):
    """Arrays by path, in one place and one format. It pickles, and what it holds open belongs to one process."""

    library: ClassVar[Literal["h5py", "zarr"]]
    """What reads the arrays that have no layout; routes say it."""

    @property
    def remote(self) -> bool:
        """Whether each read of it is a request."""
        return False

    @property
    @abstractmethod
    def path(self) -> str:
        """Where it is, as it was given: for messages."""

    @abstractmethod
    def array(self, path: str) -> StoredArray:
        """What is known of the array at ``path``.

        Raises
        ------
        DamageError
            Its table of storage chunks cannot be right.
        FormatError
            What it was encoded with is missing here.
        """

    def absent(self, path: str) -> Absent:
        """What is not there of an array that was asked for, where a container can lose a part of one."""
        return Absent()

    @abstractmethod
    def read(self, path: str, first: int, last: int) -> NDArray[Any]:
        """``first … last-1`` along the first axis of an array, through the library, which raises what it likes."""

    @abstractmethod
    def numbers(self, path: str) -> Iterator[NDArray[Any]]:
        """An array of integers, of one dimension, piece by piece through the library.

        Raises
        ------
        FormatError
            It is not a one-dimensional array of integers.
        DamageError
            It cannot be read.
        """

    @abstractmethod
    def attribute(self, name: str) -> Any:
        """One of the whole; None if it has none of this name."""

    @abstractmethod
    def steady(self) -> AbstractContextManager[None]:
        """A block in which it stays as it was first seen, or that raises when it ends (see `ByteSource.steady`)."""
