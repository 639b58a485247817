"""What reports have in common: plain values for machines, short numbers for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

__all__ = ["Report", "plain"]


class Report:
    """A dataclass whose ``str`` is for a terminal and whose `to_dict` is for machines."""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values that JSON can hold."""
        values: dict[str, Any] = plain(self)
        return values


def plain(value: Any) -> Any:
    """``value`` as dicts, lists, strings and numbers, so that JSON can hold it; what is not finite becomes None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray | list | tuple | range):
        return [plain(part) for part in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value
