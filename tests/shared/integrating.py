"""Modules that need a framework, where that may be missing."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

__all__ = ["imported_if_there"]


def imported_if_there(name: str) -> ModuleType:
    """A module of annpipes; a test skips where it integrates a framework that is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if not name.startswith("annpipes.integrations."):
            raise
        return pytest.skip(str(error))
