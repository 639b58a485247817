"""How fast a file is read on this machine, and what limits it.

`bounds`    what one case reaches, and what bounds it
`cases`     one order of a file's rows, measured in turns with the bare work
`peers`     other loaders, run beside annpipes on the same rows
`results`   what a benchmark found, as numbers and as a table
`verdicts`  which limit binds, and what to do about it
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from annpipes.errors import FormatError, ParameterError, ParameterTypeError
from annpipes.messages.progress import Progress, Steps, no_progress
from annpipes.plans.rows import as_count, as_seconds
from annpipes.stages.sources import IndexSource
from annpipes.stores import BareReading, Remote, Threads, as_remote, bytes_of, name_of
from annpipes.tools.benching.bounds import BenchCase, BenchLimit
from annpipes.tools.benching.cases import Cold, Sample, Trial
from annpipes.tools.benching.peers import as_peers
from annpipes.tools.benching.results import Benchmark, BenchPeer
from annpipes.tools.benching.verdicts import conclude, find
from annpipes.tools.timing import available_memory, machine

__all__ = ["BenchCase", "BenchLimit", "BenchPeer", "Benchmark", "bench"]

_ORDERS = ("random", "blocks", "sequential")


def bench(
    data: str | os.PathLike[str] | Remote,
    *,
    batch_size: int = 256,
    chunk_size: int = 16_384,
    seconds: float = 3.0,
    against: str | Sequence[str] = (),
    cache: Any = None,
    progress: Progress = no_progress,
) -> Benchmark:
    """Cells per second read from a file on this machine, in each order and form, next to what is possible.

    >>> found = bench("pbmc.h5ad", seconds=0.02)
    >>> [(case.order, case.form) for case in found.cases]
    [('random', 'dense'), ('blocks', 'dense'), ('sequential', 'dense')]
    >>> print(found.route)
    direct (uncompressed)

    Orders are random rows, shuffled blocks of the size that `IndexSource` recommends, and rows in stored
    order; forms are CSR and dense batches (only dense where X is dense). Each is measured over
    rows from the whole file, from the page cache, in turns with only the work that cannot be
    avoided. For the limit ``disk``, the file is first dropped from the page cache.

    With a cache, rows are first put into it and then measured, like epochs after the first; the disk is not measured.

    Remote data are fetched over the network in each turn. The limit ``network`` is the speed of plain requests for
    the same bytes. Fewer rows are read if a chunk would take longer than ``seconds``.

    Parameters
    ----------
    data
        Path or address of an ``.h5ad`` file or a Zarr store, or a `Remote`.
    batch_size, chunk_size
        As for `stream`.
    seconds
        About how long to measure each case; it takes longer if one chunk takes longer.
    against
        Other loaders to run on the same rows: ``"installed"``, or names among ``anndata`` (a loop over
        a backed AnnData), ``scdataset`` and ``annloader``. They read only local files.
    cache
        As for `stream`.
    progress
        Called with the number of steps done and of all steps.

    Raises
    ------
    ParameterError, ParameterTypeError
        A parameter is invalid, or ``data`` is not one file.
    SourceError, FormatError, FieldError, DamageError
        There is no such file, or it has no X, or an X that cannot be read by rows.
    """
    batch_size, chunk_size = as_count(batch_size, "batch_size"), as_count(chunk_size, "chunk_size")
    budget, names = as_seconds(seconds, "seconds"), as_peers(against)
    source, remote = _source(data, cache), as_remote(data)
    path = None if isinstance(data, Remote) or remote else os.path.expanduser(data)
    if names and path is None:
        raise ParameterError("against must be empty for remote data: other loaders are measured only on local files")
    fits = _fits_memory(path)
    steps = Steps(progress, len(_ORDERS) * (2 + len(names)))
    every = [Sample.of(path, source, order, batch_size, chunk_size) for order in _ORDERS]
    colds = [steps.after(Cold(sample, budget)) for sample in every]  # before annpipes maps the file, which keeps it
    cases: list[BenchCase] = []
    peers: list[BenchPeer] = []
    filled: list[float] = []
    with Threads() as threads:
        for sample, cold in zip(every, colds, strict=True):
            trial = Trial(sample, cold, budget, fits_memory=fits, threads=threads)
            cases += steps.after(trial.cases())
            filled += [trial.filled] if trial.filled else []
            peers += [steps.after(trial.against(name)) for name in names]
    return Benchmark(
        file=source.files[0],
        n_obs=source.store.n_obs,
        n_vars=source.store.n_vars,
        file_bytes=BareReading(source.store, []).file_bytes,
        route=source.route("X"),
        batch_size=batch_size,
        chunk_size=every[0].chunk_size,
        machine=machine(),
        threads=threads.count,
        cached_share=max((cold.kept for cold in colds if cold.kept is not None), default=None),
        from_cache=min(filled, default=None),
        requests=remote.requests if remote else None,
        fits_memory=fits,
        cases=tuple(cases),
        peers=tuple({(peer.name, peer.order): peer for peer in peers}.values()),  # one that is missing, once
        findings=tuple(find([case for case in cases if case.order == order], fits) for order in _ORDERS),
        conclusion=conclude(cases, reason=source.route("X").reason, fits_memory=fits),
    )


def _source(data: Any, cache: Any) -> IndexSource:
    """The rows of one file that has an X to be measured."""
    if not isinstance(data, str | os.PathLike | Remote):
        raise ParameterTypeError(
            f"data must be the path or address of one file, got {type(data).__name__}: measure the files of a "
            f"collection one by one; data in memory has no file to measure"
        )
    source = IndexSource(data, cache=cache)
    if len(source.files) != 1:
        raise ParameterError(f"data must be one file, got {len(source.files)} in {data!r}: measure one of them")
    source.store.check(["X"])
    if not source.store.n_obs:
        raise FormatError(f"{name_of(data)} has no cells, so there is nothing to measure")
    return source


def _fits_memory(path: str | None) -> bool | None:
    memory = available_memory()
    return None if memory is None or path is None else bytes_of(path) < memory
