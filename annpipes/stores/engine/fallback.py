"""Elements and rows of an array that only its container's library can decode, one thread at a time."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import SourceError
from annpipes.meters import count
from annpipes.plans.rows import RowArray
from annpipes.stores.compiled.kernels import Moves, copy_pieces, first_outside
from annpipes.stores.containers.base import Container, StoredArray
from annpipes.stores.damage import Origin
from annpipes.stores.engine.pieces import Spans
from annpipes.stores.engine.pools import Work
from annpipes.stores.engine.targets import as_words, word_limit
from annpipes.stores.routes import Route

__all__ = ["ThroughLibrary"]


class ThroughLibrary:
    """An array that only its container's library can decode, one thread at a time."""

    def __init__(self, container: Container, origin: Origin, found: StoredArray, reason: str) -> None:
        self.container: Container = container
        self.origin: Origin = origin
        self.path: str = origin.path
        self.shape: tuple[int, ...] = found.shape
        self.dtype: np.dtype[Any] = found.dtype
        self.step: int = found.step
        self.route: Route = Route(container.library, reason)

    def copy_spans(self, spans: Spans, out: NDArray[Any], below: int | None = None) -> Work:
        return Work([partial(self._copy_spans, spans, out, below)], guards=[self.container.steady])

    def _copy_spans(self, spans: Spans, out: NDArray[Any], below: int | None) -> None:
        size, words = self.dtype.itemsize, as_words(out, below)
        lasts = spans.firsts + spans.lengths  # (spans,)
        for run in _stretches(spans.firsts, lasts):
            first, last = int(spans.firsts[run][0]), int(lasts[run].max())
            if first == last:
                continue
            tos, lengths = spans.tos[run] * size, spans.lengths[run] * size
            source, moves = (
                self._read(first, last).view(np.uint8),
                Moves((spans.firsts[run] - first) * size, tos, lengths),
            )
            copy_pieces(source, moves, 0, len(tos), out.view(np.uint8))
            if below is not None and first_outside(tos, lengths, 0, len(tos), words, word_limit(out, below)) >= 0:
                raise self.origin.damage(first, last - 1, f"a column is not in 0 … {below - 1}")

    def copy_rows(self, rows: RowArray, places: RowArray, out: NDArray[Any], before: int = 0) -> Work:
        return Work([partial(self._copy_rows, rows, places, out)], guards=[self.container.steady])

    def _copy_rows(self, rows: RowArray, places: RowArray, out: NDArray[Any]) -> None:
        for run in _stretches(rows, rows + 1):
            first, last = int(rows[run][0]), int(rows[run][-1]) + 1
            out[places[run]] = self._read(first, last)[rows[run] - first]

    def _read(self, first: int, last: int) -> NDArray[Any]:
        try:
            values = self.container.read(self.path, first, last)
        except SourceError:  # gone as a whole
            raise
        except (OSError, RuntimeError, KeyError) as error:
            raise self.origin.damage(first, last - 1, f"{error}; read through {self.route}") from error
        count("decoded", values.nbytes)
        count("copied", values.nbytes)
        return np.ascontiguousarray(values, self.dtype)


def _stretches(firsts: RowArray, lasts: RowArray) -> list[slice]:
    """Ascending spans that touch or overlap, together."""
    edges = np.flatnonzero(firsts[1:] > lasts[:-1]) + 1
    bounds = [0, *edges.tolist(), len(firsts)]
    return [slice(start, stop) for start, stop in pairwise(bounds) if stop > start]
