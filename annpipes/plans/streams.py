"""What streams of random words are for: a number in the key keeps each apart from the others."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Stream"]


class Stream(IntEnum):
    """The part of a key that says what is drawn; a new kind of draw takes a new number."""

    BLOCKS = 0
    """The order of blocks."""
    CHUNK = 1
    """The order of rows within a chunk."""
    TURN = 2
    """The row that an epoch begins with."""
    DRAW = 3
    """Rows drawn by their weights."""
    SETS = 5
    """The order of sets."""
    MEMBERS = 6
    """The rows of a set."""
    CONTROLS = 7
    """The controls of a set."""
    CHOICE = 8
    """The group of each set."""
