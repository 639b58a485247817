"""Other loaders of ``.h5ad`` files, run beside annpipes on the same rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch

from annpipes.errors import ParameterError, ParameterTypeError
from annpipes.plans.rows import RowArray
from annpipes.tools.benching.results import BenchPeer
from annpipes.tools.timing import interleaved, seconds_of

__all__ = ["PEERS", "Task", "as_peers", "compare"]

_MOST_TURNS = 5

Batches = Callable[[int], Iterator[Any]]
"""The batches of so many rows."""


@dataclass(frozen=True, eq=False)
class Task:
    """What every loader is asked for: these rows in this order, as batches of this form.

    Parameters
    ----------
    path, order, form, batch_size, chunk_size
        As for `bench`.
    drawn
        The rows in the order in which annpipes hands them on.
    block_size
        How many rows stay together in the shuffle.
    ours
        One pass of annpipes over all of ``drawn``.
    before
        Called before each turn.
    seconds
        About how long a peer may take.
    """

    path: str
    order: str
    form: Literal["csr", "dense"]
    drawn: RowArray
    block_size: int
    batch_size: int
    chunk_size: int
    ours: Callable[[], Any]
    before: Callable[[], Any]
    seconds: float

    def batches(self, count: int) -> list[RowArray]:
        """The first ``count`` rows in batches, each ascending, as h5py wants them."""
        drawn, size = self.drawn[:count], self.batch_size
        return [np.sort(drawn[start : start + size]) for start in range(0, count, size)]

    def tensors(self, x: Any) -> Any:
        """Rows that AnnData read, as annpipes hands them on."""
        if self.form == "dense":
            return torch.from_numpy(np.ascontiguousarray(x.toarray() if hasattr(x, "toarray") else x, np.float32))
        return tuple(torch.from_numpy(np.asarray(part)) for part in (x.indptr, x.indices, x.data))


@dataclass(frozen=True, eq=False)
class Peer:
    """A loader.

    Parameters
    ----------
    module, install
        What must be there, and what to install otherwise.
    attribute
        What the module must have.
    chunks
        Whether it fetches many batches at once, so that fewer rows would not be fair.
    start
        The batches of a task, from a backed AnnData.
    """

    module: str
    attribute: str
    install: str
    chunks: bool
    start: Callable[[Any, Task], Batches]

    def missing(self) -> str:
        """Why it cannot be run here; empty if it can."""
        if find_spec(self.module.split(".")[0]) is None:
            return f"not installed: pip install {self.install}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = hasattr(import_module(self.module), self.attribute)
            except Exception as error:  # whatever a package does on import
                return f"cannot be imported: {_brief(error)}"
        return "" if found else f"the installed {self.module.split('.')[0]} has no {self.attribute}"


def _anndata(adata: Any, task: Task) -> Batches:
    def batches(count: int) -> Iterator[Any]:
        for rows in task.batches(count):
            yield task.tensors(adata.X[rows])

    return batches


def _annloader(adata: Any, task: Task) -> Batches:
    from anndata.experimental import AnnLoader

    def batches(count: int) -> Iterator[Any]:
        # As it stands, it converts sparse rows to dense tensors; here it is asked for the form that annpipes gives.
        loader = AnnLoader(
            adata,
            batch_size=task.batch_size,
            sampler=np.concatenate(task.batches(count)).tolist(),
            use_default_converter=False,
            convert={"X": task.tensors},
        )
        for batch in loader:
            yield batch.X

    return batches


def _scdataset(adata: Any, task: Task) -> Batches:
    scdataset: Any = import_module("scdataset")  # published without types

    def batches(count: int) -> Iterator[Any]:
        rows = np.sort(task.drawn[:count])
        shuffled = task.order != "sequential"
        yield from scdataset.scDataset(
            adata,
            scdataset.BlockShuffling(task.block_size, indices=rows) if shuffled else scdataset.Streaming(indices=rows),
            batch_size=task.batch_size,
            fetch_factor=max(1, task.chunk_size // task.batch_size),
            fetch_callback=_rows_of,
            batch_transform=task.tensors,
            seed=0,
        )

    return batches


def _rows_of(adata: Any, rows: Any) -> Any:
    return adata[rows].X


PEERS = {
    "anndata": Peer("anndata", "read_h5ad", "anndata", chunks=False, start=_anndata),
    "scdataset": Peer("scdataset", "scDataset", '"scdataset==0.3.*"', chunks=True, start=_scdataset),
    "annloader": Peer("anndata.experimental", "AnnLoader", "anndata", chunks=False, start=_annloader),
}
"""By the name that `bench` knows them by: a loop over a backed AnnData, scDataset, anndata's AnnLoader."""


def as_peers(against: str | Sequence[str]) -> tuple[str, ...]:
    """The names of peers, checked; ``"installed"`` is all of them."""
    names = [against] if isinstance(against, str) else against
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ParameterTypeError(f"against must be 'installed' or names of {', '.join(PEERS)}, got {against!r}")
    if unknown := [name for name in names if name not in (*PEERS, "installed")]:
        raise ParameterError(f"against must be 'installed' or some of {', '.join(PEERS)}, got {unknown[0]!r}")
    return tuple(PEERS) if "installed" in names else tuple(dict.fromkeys(names))


def compare(name: str, task: Task) -> BenchPeer:
    """A peer in turns with annpipes, or why it could not be run."""
    peer = PEERS[name]
    if why := peer.missing():
        return BenchPeer(name, note=why)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _measured(name, peer, task)
    except Exception as error:  # a peer may fail in any way, and the others are to be measured
        return BenchPeer(name, task.order, task.form, note=f"failed on this file: {_brief(error)}")


def _measured(name: str, peer: Peer, task: Task) -> BenchPeer:
    unit = min(len(task.drawn), task.chunk_size if peer.chunks else task.batch_size)
    with _backed(task.path) as adata:
        batches = peer.start(adata, task)
        if not peer.chunks:
            _consume(batches, unit)  # opens and imports
        pilot = max(seconds_of(partial(_consume, batches, unit)), 1e-6)
        count = min(len(task.drawn), unit * max(1, int(task.seconds / _MOST_TURNS / pilot)))
        turns = int(min(_MOST_TURNS, max(1, task.seconds * unit / (pilot * count))))
        contenders: dict[str, Callable[[], Any]] = {"ours": task.ours, "theirs": partial(_consume, batches, count)}
        times = interleaved(contenders, turns, task.before, discarded=0)
    ours, theirs = times.rate("ours", len(task.drawn)), times.rate("theirs", count)
    return BenchPeer(name, task.order, task.form, theirs, ours, ours / theirs)


@contextmanager
def _backed(path: str) -> Iterator[Any]:
    from anndata import read_h5ad

    if find_spec("hdf5plugin") is not None:
        import_module("hdf5plugin")  # without its filters, peers could not read what `rewrite_shuffled` writes
    adata = read_h5ad(path, backed="r")
    try:
        yield adata
    finally:
        adata.file.close()


def _consume(batches: Batches, count: int) -> None:
    for _ in batches(count):
        pass


def _brief(error: Exception) -> str:
    """The first line of an error."""
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}{': ' if first else ''}{first[:80]}"
