"""An empty picture in the style of all of them, and where it is saved."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from annpipes.errors import ParameterError, ParameterTypeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "canvas"]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe and Ito: told apart by everybody


def canvas(where: Any) -> tuple[Axes, Callable[[], Axes]]:
    """Axes to draw into, and a function that saves the picture, if it is to be saved, and returns them.

    Parameters
    ----------
    where
        A path ending in ``.png`` or ``.svg``, matplotlib's `Axes`, or None for a picture that is not saved.

    Raises
    ------
    ParameterError, ParameterTypeError
        ``where`` is no such thing, or in a folder that is not there.
    ModuleNotFoundError
        matplotlib is missing.
    """
    if hasattr(where, "pcolormesh"):
        return where, lambda: where
    if where is not None:
        if not isinstance(where, str | os.PathLike):
            raise ParameterTypeError(f"where must be a path or matplotlib's Axes, got {type(where).__name__}")
        if not os.fspath(where).lower().endswith((".png", ".svg")):
            raise ParameterError(f"where must end in .png or .svg, got {os.fspath(where)!r}")
        if not os.path.isdir(folder := os.path.dirname(os.path.abspath(where))):
            raise ParameterError(f"where: there is no folder {folder!r}")
    try:
        figure = importlib.import_module("matplotlib.figure").Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("pictures need matplotlib: pip install 'annpipes[plot]'", name=error.name) from error
    axes: Axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E5E5E5", lw=0.6)
    axes.set_axisbelow(True)
    axes.title.set_fontsize(10)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(importlib.import_module("matplotlib.ticker").StrMethodFormatter("{x:,.10g}"))

    def save() -> Axes:
        if where is not None:
            figure.savefig(where)
        return axes

    return axes, save
