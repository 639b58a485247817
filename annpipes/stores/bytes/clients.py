"""What is asked of a library that makes requests, and how it reports failures."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

__all__ = ["Client", "Failure", "Kind", "Seen"]

Kind = Literal["passing", "gone", "denied", "changed", "ranges", "encoded", "nobody", "unknown"]


class Seen(NamedTuple):
    """What an object was when it was looked at: its size in bytes, and a text that changes with its content."""

    size: int
    etag: str


class Failure(Exception):  # noqa: N818 (never seen outside of this room)
    """A request that failed once.

    Parameters
    ----------
    kind
        The kind of failure: it may pass, the object is not there, access is denied, the object has changed, it cannot
        be read in ranges, it comes compressed, there are no credentials, or any other reason.
    told
        What the library says.
    """

    def __init__(self, kind: Kind, told: str) -> None:
        super().__init__(told)
        self.told: str = told
        self.kind = kind


class Client(Protocol):
    """Requests for objects below one address, each once. It pickles, and may be used by any thread and process."""

    looks: bool
    """Whether only another look (`head`) tells that what was read was still the same object."""

    def head(self, key: str) -> Seen:
        """What an object is; a `Failure` as of all requests."""

    def get(self, key: str, first: int, size: int, seen: Seen) -> memoryview:
        """``size`` bytes from ``first`` of the object that was seen, or fewer where the answer is cut off."""

    def whole(self, key: str) -> tuple[memoryview, Seen]:
        """All bytes of an object, and what it is."""

    def listed(self, prefix: str) -> dict[str, Seen]:
        """The objects in the folder ``prefix`` and those in it, by key."""

    def names(self, prefix: str) -> list[str]:
        """What the objects and folders in the folder ``prefix`` are called there, sorted; none if it is not there."""
