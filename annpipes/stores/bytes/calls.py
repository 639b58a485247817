"""Requests through obstore, and the program that makes them for processes that cannot.

obstore runs threads of its own (tokio's), which a fork does not copy: a process that was forked off one which has used
obstore would wait forever. It starts this file as a program, which imports obstore and nothing of annpipes, and
sends it what to ask.
"""

from __future__ import annotations

import os
import pickle
import re
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["call", "head", "listed", "names", "ranged", "used_before_fork", "whole"]

_THREADS = 64
_CAUSE = re.compile(r'(?:message|error): "([^"]+)"')  # of a failed connection, deep within the text of an error
_used: set[int] = set()  # the processes, of this one and those it was forked off, that have used obstore


def used_before_fork() -> bool:
    """Whether obstore was used in a process that this one was forked off."""
    return bool(_used - {os.getpid()})


def call(name: str, root: str, options: bytes, *arguments: Any) -> tuple[bool, Any]:
    """Whether a request succeeded, and its result; otherwise the name and the text of the library's error."""
    _used.add(os.getpid())
    try:
        return True, _CALLS[name](_store(os.getpid(), root, options), *arguments)
    except Exception as error:  # reported to the caller, perhaps in another process
        told, _, source = str(error).partition("\n\nDebug source")
        causes = _CAUSE.findall(source)
        return False, (type(error).__name__, f"{told} ({causes[-1]})" if causes and causes[-1] not in told else told)


@lru_cache(64)
def _store(process: int, root: str, options: bytes) -> Any:
    from obstore.store import from_url

    given: dict[str, Any] = {"retry_config": {"max_retries": 0}, **pickle.loads(options)}  # noqa: S301 (our own)
    if root.startswith("http://"):
        given["client_options"] = {"allow_http": True, **given.get("client_options", {})}
    return from_url(root, **given)


def head(store: Any, key: str) -> tuple[int, str]:
    """Size and version of an object."""
    import obstore

    try:
        return _seen(obstore.head(store, key))
    except Exception as error:
        if isinstance(error, FileNotFoundError):
            raise
        try:  # an address that is signed for GET alone
            return _seen(obstore.get(store, key, options={"range": (0, 1)}).meta)
        except Exception:
            raise error from None


def ranged(store: Any, key: str, first: int, size: int, match: str) -> tuple[bytes, int, str]:
    """``size`` bytes of an object from ``first`` on, its size, and its version; refused if that does not ``match``."""
    import obstore

    options: dict[str, Any] = {"range": (first, first + size)}
    if match:
        options["if_match"] = match
    answer = obstore.get(store, key, options=options)
    content = answer.bytes()
    return (content if len(content) == size else bytes(content), *_seen(answer.meta))


def whole(store: Any, key: str) -> tuple[bytes, int, str]:
    """All bytes of an object, its size, and its version."""
    import obstore

    answer = obstore.get(store, key)
    return (bytes(answer.bytes()), *_seen(answer.meta))


def listed(store: Any, prefix: str) -> list[tuple[str, int, str]]:
    """Key, size and version of each object whose key begins with the folder ``prefix``."""
    import obstore

    return [(one["path"], *_seen(one)) for part in obstore.list(store, prefix or None) for one in part]


def names(store: Any, prefix: str) -> list[str]:
    """What the objects and folders in the folder ``prefix`` are called there."""
    import obstore

    found = obstore.list_with_delimiter(store, prefix or None)
    paths = [*found["common_prefixes"], *(one["path"] for one in found["objects"])]
    return [path.rstrip("/").rpartition("/")[2] for path in paths]


def _seen(found: Any) -> tuple[int, str]:
    changed = found["last_modified"]
    known = changed is not None and changed.timestamp() > 0  # 1970 where the server does not say
    return found["size"], found["e_tag"] or (str(changed) if known else "")


_CALLS: Mapping[str, Callable[..., Any]] = {call.__name__: call for call in (head, ranged, whole, listed, names)}


def _serve(connection: Connection) -> None:
    """Answer requests from the other end until it is closed."""
    lock = threading.Lock()

    def answer(number: int, arguments: Any) -> None:
        well, found = call(*arguments)
        if well and arguments[0] == "ranged":
            found = (bytes(found[0]), *found[1:])
        with lock:
            connection.send((number, (well, found)))

    with ThreadPoolExecutor(_THREADS) as pool:
        while True:
            try:
                number, arguments = connection.recv()
            except (EOFError, OSError):
                return
            pool.submit(answer, number, arguments)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
