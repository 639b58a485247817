"""How a field is read, and why so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self, get_args

__all__ = ["Route"]

Kind = Literal["direct", "h5py", "zarr", "memory"]


class Route(str):
    """How a field is read, and why: text for people, with its parts for programs.

    >>> route = Route("direct", "shuffle + gzip")
    >>> route, route.kind, route.reason
    ('direct (shuffle + gzip)', 'direct', 'shuffle + gzip')

    Parameters
    ----------
    kind
        ``"direct"`` by annpipes itself, ``"h5py"`` or ``"zarr"`` through that library, or ``"memory"``.
    reason
        How the bytes are decoded, or why no faster way is possible; "" if there is nothing to say.
    """

    __slots__ = ("kind", "reason")
    kind: Kind
    reason: str

    def __new__(cls, kind: Kind, reason: str = "") -> Self:
        route = super().__new__(cls, f"{kind} ({reason})" if reason else kind)
        route.kind, route.reason = kind, reason
        return route

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override] # pickle makes it of these
        return self.kind, self.reason

    @classmethod
    def of_parts(cls, parts: Mapping[str, Route]) -> Route:
        """The route of what is read by several: that of all, or the slowest kind with each of them as the reason."""
        if len(set(parts.values())) == 1:
            return next(iter(parts.values()))
        kinds = {route.kind for route in parts.values()}
        slowest = next(kind for kind in ("h5py", "zarr", "direct", *get_args(Kind)) if kind in kinds)
        return cls(slowest, "; ".join(f"{name}: {route}" for name, route in parts.items()))
