"""An empty picture in the style of all of them, where it is saved, and words beside its points."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import ParameterError, ParameterTypeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes

__all__ = ["COLOURS", "SMALL", "Mark", "canvas", "label"]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe and Ito: told apart by everybody
SMALL = 9
"""Points of the smaller words."""

_ENDINGS = (".png", ".svg", ".pdf")
# Where a word may stand beside its point, the best first: right or left, and above, level or below; in points.
_BESIDE = ((1, 0.7), (1, -0.7), (-1, 0.7), (-1, -0.7), (1, 0), (-1, 0), (0, 1.2), (0, -1.2))
_AWAY = 8


def __getattr__(name: str) -> Any:
    """The `Axes` of matplotlib, which is imported by whoever evaluates an annotation, and not before."""
    if name != "Axes":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module("matplotlib.axes").Axes


class Mark(NamedTuple):
    """A point of a picture, and the word that is to stand beside it."""

    place: tuple[float, float]
    word: str
    colour: str


def canvas(ax: Axes | None = None, save: Any = None) -> tuple[Axes, Callable[[], Axes]]:
    """Axes to draw into, and a function that saves the picture, if it is to be saved, and returns them.

    Parameters
    ----------
    ax
        matplotlib's `Axes`; those of a picture by itself when None.
    save
        A path ending in ``.png``, ``.svg`` or ``.pdf``, or None for a picture that is not saved.

    Raises
    ------
    ParameterError, ParameterTypeError
        ``ax`` or ``save`` is no such thing, or ``save`` in a folder that is not there.
    ModuleNotFoundError
        matplotlib is missing.
    """
    path = None if save is None else _writable(save)
    if ax is None:
        axes = _empty()
    elif isinstance(ax, importlib.import_module("matplotlib.axes").Axes):
        axes = ax
    else:
        raise ParameterTypeError(f"ax must be matplotlib's Axes, got {type(ax).__name__} (give a path as save=)")

    def done() -> Axes:
        if path is not None:
            axes.figure.canvas.figure.savefig(path)  # of a subfigure, too, the whole picture
        return axes

    return axes, done


def _empty() -> Axes:
    try:
        drawings = importlib.import_module("annpipes.tools.drawings")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("pictures need matplotlib: pip install 'annpipes[plot]'", name=error.name) from error
    figure = drawings.Drawing(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes: Axes = figure.add_subplot(axes_class=drawings.DrawingAxes)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E5E5E5", lw=0.6)
    axes.set_axisbelow(True)
    axes.title.set_fontsize(10)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(importlib.import_module("matplotlib.ticker").StrMethodFormatter("{x:,.10g}"))
    return axes


def _writable(save: Any) -> str:
    """The path of a picture, once it is sure that one can be written there."""
    if not isinstance(save, str | os.PathLike):
        raise ParameterTypeError(f"save must be a path, got {type(save).__name__}")
    path = os.path.expanduser(save)
    if not path.lower().endswith(_ENDINGS):
        raise ParameterError(f"save must end in {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}, got {path!r}")
    if not os.path.isdir(folder := os.path.dirname(os.path.abspath(path))):
        raise ParameterError(f"save: there is no folder {folder!r}")
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise ParameterError(f"save: {path!r} cannot be written")
    return path


def label(axes: Axes, marks: Sequence[Mark], lines: Iterable[Sequence[tuple[float, float]]]) -> None:
    """Words beside points, where they cover no other word, and points and lines as little as can be.

    A word for which there is no room is left out; so the important ones come first. The limits of the axes must be set.
    """
    scale = axes.figure.dpi / 72  # pixels of a point
    points = axes.transData.transform([mark.place for mark in marks])  # (marks, 2) pixels
    # Along each line, too; a tenth each, so that a word would rather cross one than cover a point.
    between = [_along(axes.transData.transform(line)) for line in lines]
    obstacles = np.concatenate([points, *between])  # (obstacles, 2)
    weights = np.repeat([1.0, 0.1], [len(points), len(obstacles) - len(points)])
    taken: list[NDArray[np.float64]] = []
    for mark, point in zip(marks, points, strict=True):
        half = np.array([0.31 * len(mark.word), 0.55]) * SMALL * scale  # of the word's box; figures are 0.62 em wide
        offsets = [np.array(side) * (half[0] / scale + _AWAY, _AWAY) for side in _BESIDE]
        boxes = [np.array([point + scale * offset - half, point + scale * offset + half]) for offset in offsets]
        covered = [
            weights[((obstacles > box[0]) & (obstacles < box[1])).all(axis=1)].sum()
            if _inside(axes, box) and not any(_meet(box, other) for other in taken)
            else float("inf")
            for box in boxes
        ]
        best = int(np.argmin(covered))
        if np.isfinite(covered[best]):
            taken.append(boxes[best])
            style: Any = {"ha": "center", "va": "center", "fontsize": SMALL, "color": mark.colour}
            axes.annotate(mark.word, mark.place, tuple(offsets[best]), textcoords="offset points", **style)


def _along(line: NDArray[np.float64]) -> NDArray[np.float64]:
    steps = np.linspace(0, 1, 60)[:, None, None]
    return (line[:-1] + steps * (line[1:] - line[:-1])).reshape(-1, 2)


def _meet(box: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool((box[0] < other[1]).all() and (other[0] < box[1]).all())


def _inside(axes: Axes, box: NDArray[np.float64]) -> bool:
    frame = axes.bbox.get_points()  # (2, 2) pixels
    return bool((box[0] >= frame[0]).all() and (box[1] <= frame[1]).all())
