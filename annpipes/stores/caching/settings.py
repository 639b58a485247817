"""Where decoded storage chunks are kept, and how many bytes they may take."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from annpipes.errors import ParameterError, ParameterTypeError
from annpipes.messages.warning import warn
from annpipes.plans.rows import as_bytes

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

__all__ = ["Cache", "SourceCache", "as_cache", "can_cache", "is_cache"]

_TAG = "CACHEDIR.TAG"
_TAG_TEXT = """Signature: 8a477f597d28d172789f06886806bc55
# Decoded storage chunks, kept by annpipes. Everything here can be removed at any time.
"""  # by which backup programs know a cache: https://bford.info/cachedir/


@dataclass(frozen=True, repr=False)
class Cache:
    """A folder that keeps decoded storage chunks for all later epochs and processes.

    >>> import tempfile
    >>> cache = Cache(tempfile.mkdtemp(), size="200GB")
    >>> loader = stream("pbmc.h5ad", cache=cache)

    What it keeps is read as from an uncompressed file. Any number of processes may use one folder at the same time.
    Batches and their order do not depend on it. Put the folder on a local disk; it can be removed at any time.

    Parameters
    ----------
    folder
        Path of the folder; it is made if it does not exist.
    size
        How many bytes the whole folder may take on the disk, as a number or a string such as ``"200GB"``. What does
        not fit is decoded each time, as without a cache: nothing is evicted, because a shuffle would only need it
        again. When None, a tenth of the free disk space is left unused.

    Raises
    ------
    ParameterError, ParameterTypeError
        ``folder`` is not a folder that can be written to, or ``size`` is not a number of bytes.
    """

    folder: str
    size: int | str | None = None
    path: str = field(init=False, compare=False)  # wherever the working directory is by now

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str | os.PathLike):
            raise ParameterTypeError(f"folder must be a path, got {type(self.folder).__name__}")
        object.__setattr__(self, "folder", os.fspath(self.folder))
        object.__setattr__(self, "path", os.path.abspath(os.path.expanduser(self.folder)))
        if self.size is not None:
            as_bytes(self.size, "size")
        _prepare(self.folder, self.path)
        if not can_cache():
            warn("cache needs a POSIX system: nothing is cached on this one, and reading continues without it")

    def __repr__(self) -> str:
        size = "" if self.size is None else f", size={self.size!r}"
        return f"Cache({self.folder!r}{size})"

    @property
    def limit(self) -> int | None:
        """``size`` in bytes."""
        return None if self.size is None else as_bytes(self.size, "size")


@dataclass(frozen=True)
class SourceCache:
    """The cache of one file or Zarr store.

    Parameters
    ----------
    cache
        The folder.
    source
        The absolute path, or the URL, of what is cached.
    """

    cache: Cache
    source: str


def as_cache(cache: Any) -> Cache | None:
    """A `Cache`, or the path of its folder, or None, as a caller gives it."""
    if cache is None or isinstance(cache, Cache):
        return cache
    if isinstance(cache, str | os.PathLike):
        return Cache(os.fspath(cache))
    raise ParameterTypeError(f"cache must be a path or a Cache, got {type(cache).__name__}")


def can_cache() -> bool:
    """Whether this system reads and writes at given places of one file at the same time."""
    return fcntl is not None and hasattr(os, "pwrite") and hasattr(os, "pread")


def is_cache(path: str) -> bool:
    """Whether a folder is one that a `Cache` has made."""
    try:
        with open(os.path.join(path, _TAG), encoding="utf-8") as file:
            return file.read() == _TAG_TEXT
    except (OSError, ValueError):
        return False


def _prepare(folder: str, path: str) -> None:
    """The folder made, and shown to be one that can be written to."""
    if os.path.exists(path) and not os.path.isdir(path):
        raise ParameterError(f"cache must be a folder, but {folder!r} is a file")
    tag = os.path.join(path, _TAG)
    try:
        os.makedirs(path, exist_ok=True)
        with open(tag, "w", encoding="utf-8") as file:
            file.write(_TAG_TEXT)
    except OSError as error:
        raise ParameterError(f"cache must be a folder that can be written to, but {folder!r} is not: {error}") from None
