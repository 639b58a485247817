"""Figures that notebooks show by themselves, without pyplot: nothing is kept open, and nothing is shown twice."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["Drawing", "DrawingAxes"]

_SHOWN = 100  # pixels of a page for each inch; a picture has more of them, for fine screens


class Drawing(Figure):
    """A figure that pyplot does not know, and whose picture a notebook shows nevertheless."""

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        """The picture, and how large it is to be on a page: what IPython asks the last value of a cell for."""
        file = BytesIO()
        self.savefig(file, format="png")
        width, height = (self.get_size_inches() * _SHOWN).astype(int).tolist()
        return file.getvalue(), {"width": width, "height": height}


class DrawingAxes(Axes):
    """The axes of a `Drawing`: as the last value of a cell they show all of it."""

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]] | None:
        return self.figure._repr_png_() if isinstance(self.figure, Drawing) else None
