"""Block and chunk size for some data and some memory, chosen by measuring.

`results`  what tuning measured, and which of it to take
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import ParameterError, ParameterTypeError
from annpipes.messages.progress import Progress, no_progress
from annpipes.plans.rows import as_bytes, as_count, as_natural, as_seconds
from annpipes.running.loader import Loader
from annpipes.stages.collating import Form
from annpipes.stores import Store, as_cache, as_fields, bytes_of, open_store
from annpipes.streaming import stream
from annpipes.tools.diversity import MOST_ROWS, Mixing, PlannedBatches, file_parts, population_of
from annpipes.tools.speeds import Sizes, rates_in_turns, warm_files
from annpipes.tools.timing import known_share
from annpipes.tools.tuning.results import Tuning, TuningPoint, code_line, mixes, noise_of, recommend

__all__ = ["Mixing", "Tuning", "TuningPoint", "mixing_of", "tune"]

_CHUNKS = 3  # chunk sizes, each a quarter of the one before
_LARGEST_CHUNK = 1 << 17
_JUDGED_ROWS = 250_000  # for the mixing of each point: 1,000 batches of 256
_MOST_EPOCHS = 50
_WARMING = 1 / 6  # of the time


def mixing_of(
    loader: Loader, column: str | None = None, *, epoch: int | None = None, most_rows: int = MOST_ROWS
) -> Mixing:
    """How well mixed the batches of a loader's epoch are, from its plan: X is not read.

    >>> print(mixing_of(stream("pbmc.h5ad", batch_size=64, block_size=1), "louvain"))
    label entropy 3.04 bits, 0.994 of the 3.06 of random batches; 9.86% of neighbours together, 8.95% at random

    Parameters
    ----------
    loader
        The loader; with several ranks, only the batches of its own rank count.
    column
        An obs column of labels. When None, the label is which of 64 equal parts of the file a row lies in.
    epoch
        Which epoch; the next when None.
    most_rows
        If the epoch has more rows, chunks with about this many, spread evenly over it, are judged. The random batches
        to compare with are still drawn from all rows, unless a sampler or a mixture draws the rows of the epoch.

    Raises
    ------
    FieldError
        There is no such column, or it holds floats.
    """
    if not isinstance(loader, Loader):
        raise ParameterTypeError(f"loader must be a Loader, such as stream returns, got {type(loader).__name__}")
    order, ranks = loader.planned(epoch), loader.ranks
    planned = PlannedBatches.of(order, ranks.rank, ranks.world_size, as_count(most_rows, "most_rows"))
    codes = _codes(loader.source.store, column)
    return planned.mixing(codes, population_of(order, codes))


def tune(
    data: Any,
    label: str | None = None,
    *,
    memory: int | str = "2GB",
    batch_size: int = 256,
    fields: Sequence[str] = ("X",),
    form: Form = "dense",
    blocks: Sequence[int] | None = None,
    chunks: Sequence[int] | None = None,
    mixing: float = 0.95,
    seconds: float = 60.0,
    seed: int = 0,
    cache: Any = None,
    progress: Progress = no_progress,
) -> Tuning:
    """The block and chunk size to stream some data with, from measured speed and mixing.

    >>> tuning = tune("pbmc.h5ad", "louvain", blocks=[1, 16], chunks=[512], seconds=1)
    >>> [(point.block_size, point.chunk_size) for point in tuning.points]
    [(1, 512), (16, 512)]
    >>> tuning.code.replace(f"block_size={tuning.recommended.block_size}", "block_size=…")
    'ap.stream("pbmc.h5ad", batch_size=256, block_size=…, chunk_size=512)'

    Each setting is timed with a `Loader` over the first chunks of an epoch, which are whole blocks from all over the
    file; settings that could be recommended are timed several times, each time in another epoch. Files that fit in
    free memory are first read into the page cache, where an epoch would leave them.

    The recommendation is the fastest setting that is mixed well enough: in its labels, and in the share of neighbors
    in the file that share a batch, which may be at most halfway from that of random batches to all. Among settings
    that are equally fast within the noise, it is the best mixed one, then the one that needs the least memory, then
    the one with the smallest blocks.

    Parameters
    ----------
    data
        As for `IndexSource`.
    label
        The obs column whose labels should be mixed. When None, batches are judged by which of
        64 equal parts of the file their rows lie in, as if each part were a label; for a file that is already
        shuffled, this says nothing.
    memory
        How much memory two chunks may take, in bytes or as a string such as ``"2GB"``.
    batch_size, fields, x
        As for `stream`.
    blocks, chunks
        Sizes to try in place of those that follow from the storage and from ``memory``.
    mixing
        How close the entropy of labels in a batch must come to that of random batches, from 0 to 1.
    seconds
        About how long tuning may take. Each block size is always timed once with the smallest chunk; settings that
        would take too long are left out, and the report says so.
    seed
        Seed of the orders that are measured.
    cache
        As for `stream`. All rows are read once to fill it, which does not count toward ``seconds``; then epochs after
        the first are measured.
    progress
        Called with the number of measurements done and of all measurements.

    Raises
    ------
    ParameterError
        There are no rows, the label has one class, or there is memory for less than two batches.
    FieldError
        There is no such field or column.
    """
    kept_in = as_cache(cache)
    store = open_store(data, kept_in)
    names, least, budget = as_fields(fields), _as_share(mixing), as_seconds(seconds, "seconds")
    store.check(names)
    codes = _telling_codes(store, label)
    plain: dict[str, Any] = {
        "batch_size": as_count(batch_size, "batch_size"),
        "fields": names,
        "form": form,
        "seed": as_natural(seed, "seed"),
    }
    row_bytes = max(1.0, store.row_bytes(names))
    limit = _chunk_limit(store.n_obs, plain["batch_size"], int(as_bytes(memory, "memory") / 2 / row_bytes))
    grid = _grid_of(store, plain["batch_size"], limit, _tried(blocks, "blocks"), _tried(chunks, "chunks"))
    loaders = {(b, c): stream(store, **plain, block_size=b, chunk_size=c) for b, c in grid}
    population = population_of(loaders[grid[0]].planned(0), codes)
    mixings = {sizes: _judged(loader).mixing(codes, population) for sizes, loader in loaders.items()}
    mixed = [sizes for sizes in grid if mixes(mixings[sizes], least)]
    if kept_in is not None:
        deque(stream(store, **plain, shuffle=False), maxlen=0)  # all rows, so that the cache has what it has room for
    paths = _paths(store) if kept_in is None else []  # which are not read any more
    rates, left_out, cached = _measured(paths, loaders, budget, progress, mixed)
    points = tuple(
        _point(sizes, found, mixings[sizes], round(min(2 * sizes[1], store.n_obs) * row_bytes))
        for sizes, found in rates.items()
    )
    noise = noise_of(points)
    recommended, reason = recommend(points, least, noise)
    return Tuning(
        name=store.name,
        n_obs=store.n_obs,
        batch_size=plain["batch_size"],
        fields=names,
        form=form,
        label=label,
        least_mixing=least,
        noise=noise,
        cached=cached,
        points=points,
        left_out=tuple(left_out),
        recommended=recommended,
        reason=reason,
        code=code_line(data, {**plain, "cache": cache}, recommended),
    )


def _measured(
    paths: Sequence[str], loaders: Mapping[Sizes, Loader], seconds: float, progress: Progress, wanted: Sequence[Sizes]
) -> tuple[dict[Sizes, list[float]], list[Sizes], tuple[float, float] | None]:
    """As `rates_in_turns`, with files in the page cache where that can be; and the share it held before and after."""
    warm_files(paths, seconds * _WARMING)
    before = _cached(paths)
    rates, left_out = rates_in_turns(loaders, seconds, progress, wanted)
    after = _cached(paths)
    return rates, left_out, None if before is None or after is None else (before, after)


def _point(sizes: tuple[int, int], rates: Sequence[float], mixing: Mixing, memory: int) -> TuningPoint:
    """A setting, by the rate of each turn."""
    return TuningPoint(
        block_size=sizes[0],
        chunk_size=sizes[1],
        memory=memory,
        cells_per_second=median(rates),
        spread=(max(rates) - min(rates)) / median(rates),
        turns=len(rates),
        mixing=mixing,
    )


def _judged(loader: Loader) -> PlannedBatches:
    """Batches of the first epoch, or of several if that is short."""
    epochs = range(min(max(_JUDGED_ROWS // max(loader.planned().schedule.n_rows, 1), 1), _MOST_EPOCHS))
    parts = [PlannedBatches.of(loader.planned(epoch), most_rows=_JUDGED_ROWS) for epoch in epochs]
    return PlannedBatches([rows for part in parts for rows in part.rows], sum(part.of_batches for part in parts))


def _chunk_limit(n_obs: int, batch_size: int, rows: int) -> int:
    """The largest chunk of whole batches of which two have no more than twice ``rows``, and that makes sense."""
    if rows < min(batch_size, n_obs):
        raise ParameterError(
            f"memory must hold two chunks of at least one batch ({min(batch_size, n_obs):,} rows each), but it holds "
            f"{rows:,} rows each: give more, or a smaller batch_size"
        )
    return min(max(rows, batch_size), max(_LARGEST_CHUNK, batch_size), -(-n_obs // batch_size) * batch_size)


def _chunk_sizes(limit: int, n_obs: int) -> list[int]:
    """All rows if they fit, or the largest power of two that does; and about a quarter and a sixteenth of it."""
    largest = limit if limit >= n_obs else _power(limit)
    return [largest, *(_power(largest // 4**i) for i in range(1, _CHUNKS))]


def _power(size: int) -> int:
    return 1 << int(math.log2(max(1, size)))


def _block_sizes(advised: int, n_obs: int) -> list[int]:
    """One row, and what the storage advises, a few times smaller and larger."""
    sizes = [advised // 16, advised // 4, advised, advised * 4, advised * 16]
    return [1, *(size for size in sizes if 1 <= size < n_obs)]


def _grid_of(
    store: Store, batch_size: int, limit: int, blocks: Sequence[int], chunks: Sequence[int]
) -> list[tuple[int, int]]:
    """Block and chunk sizes to try: those given, or those that follow from the storage and the largest chunk."""
    return _grid(
        blocks or _block_sizes(store.block_advice().size, store.n_obs),
        chunks or _chunk_sizes(limit, store.n_obs),
        batch_size,
    )


def _grid(blocks: Iterable[int], chunks: Iterable[int], batch_size: int) -> list[tuple[int, int]]:
    """Pairs of block and chunk size, small chunks first; chunks of whole batches, as a Loader cuts them."""
    whole = sorted({max(chunk // batch_size, 1) * batch_size for chunk in chunks})
    tried = sorted(set(blocks))
    return [(block, chunk) for chunk in whole for block in tried if block <= chunk or block == tried[0]]


def _paths(store: Store) -> list[str]:
    return [path for path in store.files if os.path.exists(path)]


def _cached(paths: Sequence[str]) -> float | None:
    """The share of files in the page cache, if there are any and the system tells."""
    shares = [share for share in map(known_share, paths) if share is not None]
    if not paths or len(shares) < len(paths):
        return None
    return float(np.average(shares, weights=[*map(bytes_of, paths)]))


def _codes(store: Store, column: str | None) -> NDArray[Any]:
    return file_parts(store.n_obs) if column is None else store.codes(column)


def _telling_codes(store: Store, label: str | None) -> NDArray[Any]:
    """As `_codes`, of rows of more than one class."""
    if store.n_obs == 0:
        raise ParameterError(f"data must have rows to tune for, and {store.name} has none")
    codes = _codes(store, label)
    if label is not None and store.n_obs > 1 and (codes == codes[0]).all():
        raise ParameterError(f"label must tell rows apart, but {label!r} has one class: leave it out, or name another")
    return codes


def _tried(sizes: Sequence[int] | None, argument: str) -> list[int]:
    return [as_count(size, f"each of {argument}") for size in sizes or ()]


def _as_share(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ParameterError(f"mixing must be a number from 0 to 1, got {value!r}")
    return float(value)
