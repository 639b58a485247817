"""Addresses of remote bytes, and how they are reached."""

from __future__ import annotations

import os
import re
from typing import Any

from annpipes.errors import FormatError, ParameterError, ParameterTypeError
from annpipes.plans.rows import as_count

__all__ = ["Remote", "as_remote", "is_address", "name_of", "refuse_remote"]

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::[A-Za-z0-9+.-]+)*://")
_BY_OBSTORE = {"http", "https", "s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss"}
_REQUESTS, _RETRIES = 32, 5  # usually
_OPEN = {"anon", "endpoint", "endpoint_url", "region", "skip_signature", "virtual_hosted_style_request"}
_OPEN_ENDS = ("_endpoint", "_region")


class Remote:
    """An address with options for reaching it; use it wherever a path is accepted.

    >>> Remote("s3://atlas/cells.h5ad", region="eu-central-1", secret_access_key="abc", retries=3)
    Remote('s3://atlas/cells.h5ad', retries=3, region='eu-central-1', secret_access_key=…)

    An address given as text means ``Remote(url)``. If ``options`` give no credentials, the library that reads the
    address takes them from the environment (``AWS_ACCESS_KEY_ID`` …). The repr hides options that may be secret.

    Parameters
    ----------
    url
        ``https://…``, ``s3://…``, ``gs://…`` and ``az://…`` are read by obstore, any other protocol by fsspec
        (``hf://…``, ``file://…``). With ``s3``, ``gs``, ``az`` and what fsspec can list, it may be a pattern.
    requests
        How many requests run at once.
    retries
        How often a request is repeated if it fails for a reason that may be temporary: a lost connection, a timeout,
        a truncated response, an overloaded server.
    **options
        Anything that ``obstore.store.from_url`` takes, such as ``region``, ``endpoint``, ``skip_signature`` or
        ``client_options={"timeout": "60s"}``, or that the file system of fsspec takes.

    Raises
    ------
    ParameterError
        ``url`` is not an address, or a number is too small.
    """

    __slots__ = ("options", "requests", "retries", "url")

    def __init__(self, url: str, *, requests: int = _REQUESTS, retries: int = _RETRIES, **options: Any) -> None:
        if not isinstance(url, str):
            raise ParameterTypeError(f"url must be text, got {type(url).__name__}")
        if not is_address(url):
            raise ParameterError(f"url must begin with a protocol, such as 's3://', got {url!r}")
        if not url.partition("://")[2].strip("/"):
            raise ParameterError(f"url must name something after its protocol, got {url!r}")
        self.url: str = url
        self.options: dict[str, Any] = dict(options)
        self.requests: int = as_count(requests, "requests")
        self.retries: int = as_count(retries, "retries", least=0)

    @property
    def protocol(self) -> str:
        """What the address begins with."""
        return self.url.partition("://")[0].lower()

    @property
    def web(self) -> bool:
        """Whether it is on a web server, which does not list what it has."""
        return self.protocol in ("http", "https")

    @property
    def by_obstore(self) -> bool:
        """Whether obstore reads it, and not fsspec."""
        return self.protocol in _BY_OBSTORE

    @property
    def name(self) -> str:
        """The address for messages: without a query, which may be a signature."""
        address, mark, _ = self.url.partition("?")
        return f"{address}?…" if mark and self.web else self.url

    @property
    def last(self) -> str:
        """The last part of the address."""
        return self.name.removesuffix("?…").rstrip("/").rpartition("/")[2]

    def at(self, url: str) -> Remote:
        """Another address that is reached in the same way."""
        return Remote(url, requests=self.requests, retries=self.retries, **self.options)

    def _parts(self) -> tuple[Any, ...]:
        return (
            self.url,
            self.requests,
            self.retries,
            sorted((name, repr(value)) for name, value in self.options.items()),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash((self.url, self.requests, self.retries))

    def __repr__(self) -> str:
        numbers = [("requests", self.requests, _REQUESTS), ("retries", self.retries, _RETRIES)]
        ours = [f"{name}={number}" for name, number, usual in numbers if number != usual]
        options = [f"{name}={_shown(name, value)}" for name, value in self.options.items()]
        return f"Remote({', '.join([repr(self.name), *ours, *options])})"


def _shown(name: str, value: Any) -> str:
    """The value of an option; … where it may be secret."""
    open_to_all = name in _OPEN or name.endswith(_OPEN_ENDS)
    return repr(value) if open_to_all or isinstance(value, bool | int | float) else "…"


def is_address(path: str) -> bool:
    """Whether a path is an address, such as ``s3://bucket/cells.h5ad``."""
    return _ADDRESS.match(path) is not None


def as_remote(path: str | os.PathLike[str] | Remote) -> Remote | None:
    """The remote place that was given, as text or as a `Remote`; None for a path."""
    if isinstance(path, Remote):
        return path
    return Remote(path) if isinstance(path, str) and is_address(path) else None


def name_of(path: str | os.PathLike[str] | Remote) -> str:
    """What a path or an address is called in messages."""
    remote = as_remote(path)
    return os.fspath(path) if remote is None else remote.name  # type: ignore[arg-type]


def refuse_remote(path: Any) -> None:
    """Refuse an address where a file on this machine is needed."""
    remote = as_remote(path)
    if remote is not None:
        raise FormatError(f"{remote.name!r} is a remote address; this needs a local file: download it, give its path")
