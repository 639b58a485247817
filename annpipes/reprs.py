"""Reprs that could be typed back."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

__all__ = ["brief", "call_repr", "parameters_repr"]


def call_repr(instance: object) -> str:
    """The call that makes ``instance``, if it keeps its parameters under their own names."""
    return f"{type(instance).__name__}({parameters_repr(instance)})"


def parameters_repr(instance: object, leave_out: str = "") -> str:
    """The parameters of ``instance`` that differ from their defaults, as keywords."""
    shown = []
    for name, parameter in inspect.signature(type(instance)).parameters.items():
        value = getattr(instance, name, parameter.default)
        if name != leave_out and value is not parameter.default and not _equal(value, parameter.default):
            shown.append(f"{name}={brief(value)}")
    return ", ".join(shown)


def _equal(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)


def brief(value: Any) -> str:
    if isinstance(value, np.ndarray) or hasattr(value, "shape"):
        return f"<array {tuple(value.shape)}>"
    return repr(value)
