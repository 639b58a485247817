"""Requests by obstore: HTTP, S3, Google Cloud Storage and Azure."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from annpipes.errors import ParameterError
from annpipes.stores.bytes import calls
from annpipes.stores.bytes.clients import Failure, Kind, Seen
from annpipes.stores.bytes.helping import call_there

__all__ = ["ByObstore"]

_KINDS: Mapping[str, Kind] = {
    "FileNotFoundError": "gone",
    "NotFoundError": "gone",
    "PermissionDeniedError": "denied",
    "UnauthenticatedError": "denied",
    "PreconditionError": "changed",
    "NotModifiedError": "changed",
    "NotSupportedError": "ranges",
    "GenericError": "passing",
    "HelperError": "passing",
}
# The library has one class for every other status and for requests that cannot be sent at all.
_LASTING = re.compile(
    r"status code: 4(?!08|25|29)\d\d|builder error|Wanted range starting|not a valid|missing|must be specified"
    r"|redirect without LOCATION"
)
# Where a machine in a cloud asks for its role: the last place to ask, when nothing else gave credentials.
_ROLES = ("169.254.169.254", "metadata.google.internal")
_REFUSED = ("UnknownConfigurationKeyError", "TypeError", "ValueError")


class ByObstore:
    """Requests by obstore for objects below ``root``, which may be an object itself, with the key ``""``.

    Parameters
    ----------
    root
        The address.
    options
        Of `obstore.store.from_url`.
    """

    looks = False

    def __init__(self, root: str, options: Mapping[str, Any]) -> None:
        self.root: str = root
        self.options: bytes = pickle.dumps(dict(options))
        self.web: bool = root.startswith(("http://", "https://"))

    def head(self, key: str) -> Seen:
        return Seen(*self._call("head", key))

    def get(self, key: str, first: int, size: int, seen: Seen) -> memoryview:
        match = "" if not seen.etag.startswith('"') and self.web else seen.etag  # a weak one, or none: RFC 9110, 13.1.1
        content, found, etag = self._call("ranged", key, first, size, match)
        if self.web and etag == seen.etag and etag and found != seen.size:
            raise Failure("encoded", f"it had {seen.size} bytes when it was looked up, but {found} when it was read")
        if (found, etag) != seen:
            raise Failure("changed", f"it has {found} bytes and the version {etag}")
        return memoryview(content)

    def whole(self, key: str) -> tuple[memoryview, Seen]:
        content, size, etag = self._call("whole", key)
        return memoryview(content), Seen(size, etag)

    def listed(self, prefix: str) -> dict[str, Seen]:
        self._refuse_web()
        return {key: Seen(size, etag) for key, size, etag in self._call("listed", prefix)}

    def names(self, prefix: str) -> list[str]:
        self._refuse_web()
        return sorted(self._call("names", prefix))

    def _refuse_web(self) -> None:
        if self.web:
            raise Failure("unknown", "a web server cannot list its files")

    def _call(self, name: str, key: str, *arguments: Any) -> Any:
        call = call_there if calls.used_before_fork() else calls.call
        well, found = call(name, self.root, self.options, unquote(key) if self.web else key, *arguments)
        if well:
            return found
        error, told = found
        if error in _REFUSED:
            raise ParameterError(f"options of {self.root}: {told}")
        if any(place in told for place in _ROLES):
            raise Failure("nobody", told)
        kind = _KINDS.get(error, "unknown")
        raise Failure("unknown" if kind == "passing" and _LASTING.search(told) else kind, told)
