"""Elements and rows of a dataset that only HDF5 can decode, one thread at a time."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from importlib import import_module
from itertools import pairwise
from typing import Any

import h5py
import numpy as np
from h5py import h5z
from numpy.typing import NDArray

from annpipes.errors import FormatError, SourceError
from annpipes.meters import count
from annpipes.plans.rows import RowArray
from annpipes.stores.compiled.kernels import Moves, copy_pieces, first_outside
from annpipes.stores.containers.hdf5 import Hdf5File
from annpipes.stores.damage import Origin
from annpipes.stores.engine.pieces import Spans
from annpipes.stores.engine.pools import Work
from annpipes.stores.engine.targets import as_words, word_limit
from annpipes.stores.routes import Route

__all__ = ["ThroughHdf5", "need_filters"]


class ThroughHdf5:
    """A dataset that only HDF5 can decode, one thread at a time."""

    def __init__(self, file: Hdf5File, origin: Origin, dataset: h5py.Dataset, reason: str) -> None:
        self.file, self.origin, self.path, self.shape = file, origin, origin.path, dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype.newbyteorder("=")
        self.step = dataset.chunks[0] if dataset.chunks else 1
        self.route = Route("h5py", reason)
        need_filters(dataset, f"{origin.path} of {origin.file}")

    def copy_spans(self, spans: Spans, out: NDArray[Any], below: int | None = None) -> Work:
        return Work([partial(self._copy_spans, spans, out, below)], guard=self.file.source.steady)

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

    def copy_rows(self, rows: RowArray, places: RowArray, out: NDArray[Any]) -> Work:
        return Work([partial(self._copy_rows, rows, places, out)], guard=self.file.source.steady)

    def _copy_rows(self, rows: RowArray, places: RowArray, out: NDArray[Any]) -> None:
        for run in _stretches(rows, rows + 1):
            first, last = int(rows[run][0]), int(rows[run][-1]) + 1
            out[places[run]] = self._read(first, last)[rows[run] - first]

    def _read(self, first: int, last: int) -> NDArray[Any]:
        try:
            with self.file.open() as opened:
                values: NDArray[Any] = opened[self.path][first:last]
        except SourceError:  # gone as a whole
            raise
        except (OSError, RuntimeError, KeyError) as error:
            raise self.origin.damage(first, last - 1, f"{error}; read through {self.route}") from error
        count("decoded", values.nbytes)
        count("copied", values.nbytes)
        return np.ascontiguousarray(values, self.dtype)


def need_filters(dataset: h5py.Dataset, where: str) -> None:
    """Refuse a dataset with a filter that HDF5 lacks, unless hdf5plugin brings it."""
    created = dataset.id.get_create_plist()
    filters = [created.get_filter(i) for i in range(created.get_nfilters())]
    for number, _, _, name in filters:
        if not h5z.filter_avail(number):
            with suppress(ImportError):
                import_module("hdf5plugin")  # registers its filters
        if not h5z.filter_avail(number):
            raise FormatError(
                f"{where} is compressed with {name.decode() or 'a filter'} ({number}), which HDF5 cannot decode "
                f"here: pip install hdf5plugin may help"
            ).with_remedy("pip install hdf5plugin")


def _stretches(firsts: RowArray, lasts: RowArray) -> list[slice]:
    """Ascending spans that touch or overlap, together."""
    edges = np.flatnonzero(firsts[1:] > lasts[:-1]) + 1
    bounds = [0, *edges.tolist(), len(firsts)]
    return [slice(start, stop) for start, stop in pairwise(bounds) if stop > start]
