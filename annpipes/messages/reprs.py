"""Reprs that could be typed back."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

__all__ = ["brief", "call_repr", "changed_repr", "parameters_repr"]


def call_repr(instance: object) -> str:
    """The call that makes ``instance``, if it keeps its parameters under their own names."""
    return f"{type(instance).__name__}({parameters_repr(instance)})"


def parameters_repr(instance: object, leave_out: str = "", attributes: Mapping[str, str] = MappingProxyType({})) -> str:
    """The parameters of ``instance`` that differ from their defaults, as keywords.

    ``attributes`` has, by parameter, the names under which some are kept where those are taken.
    """
    parameters = inspect.signature(type(instance)).parameters
    values = {
        name: getattr(instance, attributes.get(name, name), parameter.default) for name, parameter in parameters.items()
    }
    return changed_repr(type(instance), {name: value for name, value in values.items() if name != leave_out})


def changed_repr(kind: type, given: Mapping[str, Any]) -> str:
    """Those of the values ``given`` for the parameters of a class that differ from its defaults, as keywords."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}
    return ", ".join(
        f"{name}={brief(value)}"
        for name, value in given.items()
        if value is not defaults[name] and not _equal(value, defaults[name])
    )


def _equal(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)


def brief(value: Any) -> str:
    if isinstance(value, np.ndarray) or hasattr(value, "shape"):
        return f"<array {tuple(value.shape)}>"
    return repr(value)
