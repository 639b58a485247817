"""Ranges of bytes that are read together, because a gap costs less than a request."""

from __future__ import annotations

from typing import NamedTuple

from annpipes.stores.compiled.kernels import Offsets

__all__ = ["Requesting", "merged"]


class Requesting(NamedTuple):
    """What requests cost.

    Parameters
    ----------
    gap
        Bytes that are read in the time that one more request takes.
    largest
        Bytes that one request should have at most, so that several are under way.
    at_once
        How many are.
    """

    gap: int
    largest: int
    at_once: int


def merged(firsts: Offsets, lengths: Offsets, cost: Requesting) -> list[tuple[int, int]]:
    """Parts ``start … stop-1`` of ranges in the order given, each to be read by one request.

    A range that lies before the one before it, or far behind it, begins a part.

    >>> merged(np.array([0, 10, 95]), np.array([10, 5, 5]), Requesting(20, 1000, 1))
    [(0, 2), (2, 3)]

    Parameters
    ----------
    firsts, lengths
        First byte and size of each; shape ``(ranges,)``.
    cost
        What requests cost.
    """
    if not len(firsts):
        return []
    ends = firsts + lengths
    far = (firsts[1:] - ends[:-1] > cost.gap) | (firsts[1:] < firsts[:-1])
    starts, begin, bounds = [0], int(firsts[0]), (ends[1:].tolist(), firsts[1:].tolist(), far.tolist())
    for number, (end, first, apart) in enumerate(zip(*bounds, strict=True), 1):
        if apart or end - begin > cost.largest:
            starts.append(number)
            begin = first
    return list(zip(starts, [*starts[1:], len(firsts)], strict=True))
