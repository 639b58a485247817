"""Encoding storage chunks outside HDF5, as the filters of a dataset would: what a caller may choose."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

from annpipes.errors import ParameterError
from annpipes.stores.codecs.base import Encoding, Output
from annpipes.stores.codecs.registry import BY_NAME

__all__ = ["CODECS", "codec_of"]


def codec_of(codec: str) -> Encoding:
    """The encoding of this name.

    Raises
    ------
    ParameterError
        There is none.
    FormatError
        Its filter is missing here.
    """
    if codec not in CODECS:
        raise ParameterError(f"codec must be one of {', '.join(CODECS)}, got {codec!r}")
    return CODECS[codec].make()


def _plain() -> Encoding:
    return Encoding("none", {}, None)


def _outputs() -> list[Output]:
    made = [output for codec in BY_NAME.values() for output in codec.outputs()]
    return [*sorted(made, key=attrgetter("place")), Output("none", len(made), _plain)]


CODECS: Mapping[str, Output] = {output.name: output for output in _outputs()}
"""What each choice is, the fastest for its size first and no encoding at all last."""
