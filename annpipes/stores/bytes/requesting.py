"""Requests, repeated while that may help, whose failures become errors."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any, TypeVar

from annpipes.errors import ChangedError, RemoteError
from annpipes.meters import count
from annpipes.stores.bytes.by_fsspec import ByFsspec
from annpipes.stores.bytes.by_obstore import ByObstore
from annpipes.stores.bytes.clients import Client, Failure, Kind, Seen
from annpipes.stores.bytes.remote import Remote

__all__ = ["Requests"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds; each is twice the one before
_INSTALL = "pip install 'annpipes[remote]'"
_REMEDIES: Mapping[Kind, str] = {
    "gone": "check the address; some stores also say this if you lack permission to read it",
    "denied": "give credentials by Remote(url, …) or in the environment; skip_signature=True reads public data",
    "nobody": "no credentials were found: pass them to Remote(url, …), set them in the environment, read public data "
    "with skip_signature=True, or read a local copy",
    "encoded": "the server compresses what it sends (Content-Encoding): make it send the file as it is, or download it",
    "ranges": "the server sends whole files only: use one that supports range requests, or download the file",
}

Answer = TypeVar("Answer")


class Requests:
    """Requests for objects below an address, with at most as many under way in a process as was asked for.

    Parameters
    ----------
    remote
        The address, and how it is reached; an object itself has the key ``""``.
    """

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        _need(remote)
        self.client: Client = (ByObstore if remote.by_obstore else ByFsspec)(remote.url, remote.options)
        self._turns: dict[int, threading.Semaphore] = {}  # by process

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_turns": {}}

    def name(self, key: str) -> str:
        """What an object is called in messages."""
        return f"{self.remote.name.rstrip('/')}/{key}" if key else self.remote.name

    def head(self, key: str) -> Seen:
        """What an object is.

        Raises
        ------
        RemoteError
            It is not there, or cannot be looked at.
        """
        return self._repeated(lambda: self.client.head(key), self.name(key))

    def there(self, key: str) -> Seen | None:
        """What an object is; None if it is not there."""
        return self._if_there(partial(self.client.head, key), key)

    def whole(self, key: str) -> tuple[bytes, Seen] | None:
        """All bytes of an object, and what it is; None if it is not there."""

        def once() -> tuple[bytes, Seen]:
            with self._turn():
                content, seen = self.client.whole(key)
            if len(content) < seen.size:
                raise Failure("passing", f"received {len(content)} bytes instead of {seen.size}")
            return bytes(content), seen

        found = self._if_there(once, key)
        count("received", 0 if found is None else len(found[0]))
        return found

    def _if_there(self, ask: Callable[[], Answer], key: str) -> Answer | None:
        def once() -> Answer | None:
            try:
                return ask()
            except Failure as failure:
                if failure.kind != "gone":
                    raise
                return None

        return self._repeated(once, self.name(key))

    def get(self, key: str, first: int, size: int, seen: Seen) -> memoryview:
        """``size`` bytes from ``first`` of an object.

        Raises
        ------
        ChangedError
            It is no longer the one that was seen.
        RemoteError
            It cannot be read.
        """

        def once() -> memoryview:
            with self._turn():
                content = self.client.get(key, first, size, seen)
            if len(content) < size:
                raise Failure("passing", f"received {len(content)} bytes instead of {size}")
            return content

        content = self._repeated(once, f"bytes {first} … {first + size - 1} of {self.name(key)}", self.name(key))
        count("received", size)
        return content

    def listed(self, prefix: str) -> Mapping[str, Seen]:
        """The objects in the folder ``prefix`` and those in it, by key."""
        return self._repeated(lambda: self.client.listed(prefix), self.name(prefix))

    def names(self, prefix: str) -> Sequence[str]:
        """What the objects and folders in the folder ``prefix`` are called there, sorted; none if it is not there."""
        return self._repeated(lambda: self.client.names(prefix), self.name(prefix))

    def _turn(self) -> threading.Semaphore:
        """A place among the requests under way."""
        return self._turns.setdefault(os.getpid(), threading.Semaphore(self.remote.requests))

    def _repeated(self, ask: Callable[[], Answer], what: str, name: str = "") -> Answer:
        pause, left = _FIRST_PAUSE, self.remote.retries
        while True:
            count("requests", 1)
            try:
                return ask()
            except Failure as failure:
                if failure.kind == "changed":
                    raise ChangedError(
                        f"{name or what} changed since it was first opened; make the source again"
                    ) from None
                if failure.kind != "passing" or left == 0:
                    raise self._error(failure, what) from failure
            time.sleep(pause)
            pause, left = min(2 * pause, _LONGEST_PAUSE), left - 1

    def _error(self, failure: Failure, what: str) -> RemoteError:
        tried = f" {self.remote.retries + 1} times" if failure.kind == "passing" and self.remote.retries else ""
        remedy = _REMEDIES.get(failure.kind, "")
        told = f"{what} could not be read{tried}: {_without(self.remote, failure.told)}"
        return RemoteError(f"{told} ({remedy})" if remedy else told).with_remedy(remedy)


def _without(remote: Remote, told: str) -> str:
    """What a library says, without the query of an address, which may be a signature."""
    query = remote.url.partition("?")[2]
    return told.replace(query, "…") if query else told


def _need(remote: Remote) -> None:
    package = "obstore" if remote.by_obstore else "fsspec"
    if find_spec(package) is None:
        raise RemoteError(f"{remote.name} needs the package {package}: {_INSTALL}").with_remedy(_INSTALL)
