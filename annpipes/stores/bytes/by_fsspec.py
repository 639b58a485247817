"""Requests by fsspec: every protocol that obstore has not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

from annpipes.stores.bytes.clients import Failure, Seen

__all__ = ["ByFsspec"]

_VERSIONS = ("ETag", "etag", "e_tag", "blob_id", "oid", "mtime", "LastModified", "last_modified", "updated", "created")

Answer = TypeVar("Answer")


class ByFsspec:
    """Requests by the file system of fsspec that knows ``root``, which may be an object itself, with the key ``""``.

    Parameters
    ----------
    root
        The address.
    options
        Of the file system.
    """

    looks = True

    def __init__(self, root: str, options: Mapping[str, Any]) -> None:
        self.root: str = root
        self.options: dict[str, Any] = dict(options)

    def _at(self, key: str) -> tuple[Any, str]:
        # fsspec keeps file systems by their options, in each process its own
        system, path = import_module("fsspec.core").url_to_fs(self.root, **self.options)
        return system, f"{path.rstrip('/')}/{key}" if key else path

    def head(self, key: str) -> Seen:
        return self._asked(self._head, key)

    def get(self, key: str, first: int, size: int, seen: Seen) -> memoryview:
        return self._asked(self._get, key, first, size)

    def whole(self, key: str) -> tuple[memoryview, Seen]:
        return self._asked(self._whole, key)

    def listed(self, prefix: str) -> dict[str, Seen]:
        return self._asked(self._list, prefix)

    def _head(self, key: str) -> Seen:
        system, path = self._at(key)
        system.invalidate_cache()
        return _seen(system.info(path))

    def _get(self, key: str, first: int, size: int) -> memoryview:
        system, path = self._at(key)
        return memoryview(system.cat_file(path, start=first, end=first + size, **_no_more(system)))

    def _whole(self, key: str) -> tuple[memoryview, Seen]:
        seen = self._head(key)
        return (self._get(key, 0, seen.size) if seen.size else memoryview(b"")), seen

    def _list(self, prefix: str) -> dict[str, Seen]:
        system, top = self._at("")
        system.invalidate_cache()
        found = system.find(f"{top.rstrip('/')}/{prefix}" if prefix else top, detail=True)
        begin = len(system._strip_protocol(top).rstrip("/")) + 1
        return {path[begin:]: _seen(info) for path, info in found.items()}

    def names(self, prefix: str) -> list[str]:
        return self._asked(self._names, prefix)

    def _names(self, prefix: str) -> list[str]:
        system, top = self._at(prefix)
        system.invalidate_cache()
        try:
            found = system.ls(top, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        begin = system._strip_protocol(top).rstrip("/")
        return sorted({one.rstrip("/").rpartition("/")[2] for one in found if one.rstrip("/") != begin})

    def _asked(self, ask: Callable[..., Answer], *arguments: Any) -> Answer:
        try:
            return ask(*arguments)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise Failure("gone", str(error)) from error
        except PermissionError as error:
            raise Failure("denied", str(error)) from error
        except OSError as error:
            raise Failure("passing", str(error) or type(error).__name__) from error
        except (ImportError, NotImplementedError, ValueError, TypeError) as error:
            raise Failure("unknown", str(error)) from error
        except Exception as error:  # the protocol's own library: aiohttp.ClientError, say
            raise Failure("passing", f"{type(error).__name__}: {error}") from error


def _no_more(system: Any) -> Mapping[str, str]:
    """Options that keep file systems which read ranges through file objects from reading megabytes ahead."""
    plain = import_module("fsspec").AbstractFileSystem
    return {"cache_type": "none"} if type(system).cat_file is plain.cat_file else {}


def _seen(info: Mapping[str, Any]) -> Seen:
    if info["type"] == "directory":
        raise FileNotFoundError(f"{info['name']} is a directory")
    version = next((info[name] for name in _VERSIONS if info.get(name) is not None), "")
    return Seen(int(info["size"]), str(version))
