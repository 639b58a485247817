"""Plots of mixing, speed and coverage, drawn with matplotlib."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import ParameterError, ParameterTypeError
from annpipes.plans.rows import as_natural
from annpipes.running.loader import Loader
from annpipes.tools import pictures
from annpipes.tools.diversity import PlannedBatches, batch_entropies, file_parts, population_of
from annpipes.tools.pictures import COLOURS, SMALL, Mark, canvas, label
from annpipes.tools.tuning.results import Tuning, TuningPoint

__all__ = ["Recorder", "plot_coverage", "plot_mixing", "plot_throughput", "plot_tuning"]

_GREY = "#555555"
_SINGLE = 400  # batches that are drawn one by one; of more, bands
_BANDS = 100
_CELL_ROWS = 25  # rows expected in each field of a coverage picture, at least
_MOST_CELLS = 80  # along each side
_FEW = 32  # batches that make a short pass
_WINDOW_BATCHES, _WINDOW_GAPS = 16, 3  # of batches on average, and of the longest wait, in a span whose speed is taken


def plot_tuning(tuning: Tuning, *, ax: pictures.Axes | None = None, save: Any = None) -> pictures.Axes:
    """Speed against mixing of each setting that `~annpipes.tune` measured, one line for each chunk size.

    >>> tuning = tune("pbmc.h5ad", "louvain", blocks=[1, 16], chunks=[512], seconds=1)
    >>> plot_tuning(tuning, save="tuning.png").get_xlabel()
    'mixing: entropy of obs/louvain in a batch, over that of random batches'

    Parameters
    ----------
    tuning
        What `~annpipes.tune` returned.
    ax
        matplotlib `Axes` to draw into, which are returned. When None, a new figure: a notebook shows it if it is the
        last value of a cell; pyplot does not know it, so no figure stays open.
    save
        A path ending in ``.png``, ``.svg`` or ``.pdf`` to which the picture is also saved.
    """
    if not isinstance(tuning, Tuning):
        raise ParameterTypeError(f"tuning must be what tune returned, got {type(tuning).__name__}")
    axes, done = canvas(ax, save)
    chunks = sorted({point.chunk_size for point in tuning.points})
    colours = dict(zip(chunks, cycle(COLOURS), strict=False))
    by_block = sorted(tuning.points, key=lambda point: point.block_size)
    lines = [[_place(point) for point in by_block if point.chunk_size == chunk] for chunk in chunks]
    for chunk, line in zip(chunks, lines, strict=True):
        axes.plot(*zip(*line, strict=True), "o-", color=colours[chunk], lw=1.5, ms=5, label=f"{chunk:,} rows")
    best = tuning.recommended
    axes.plot(*_place(best), "o", ms=13, mfc="none", mec="black", mew=1.5, ls="none", label="recommended")
    axes.axvline(tuning.least_mixing, color=_GREY, lw=1, ls="--", label=f"asked for: {tuning.least_mixing:g}")
    axes.set_xlim(min(0.9, tuning.least_mixing, *(_place(point)[0] for point in tuning.points)) - 0.02, 1.05)
    axes.set_ylim(0, 1.08 * max(point.cells_per_second for point in tuning.points))
    judged = "the place in the file" if tuning.label is None else f"obs/{tuning.label}"
    axes.set_xlabel(f"mixing: entropy of {judged} in a batch, over that of random batches")
    axes.set_ylabel("cells per second")
    axes.set_title(f"{tuning.name}: block sizes (numbers) by chunk size")
    axes.legend(frameon=False, fontsize=SMALL, title="chunk", title_fontsize=SMALL, loc="lower left")
    lines.append([(tuning.least_mixing, 0.0), (tuning.least_mixing, axes.get_ylim()[1])])
    named = [best, *(point for point in by_block if point is not best)]
    label(axes, [Mark(_place(point), f"{point.block_size:,}", colours[point.chunk_size]) for point in named], lines)
    return done()


def _place(point: TuningPoint) -> tuple[float, float]:
    return point.mixing.ratio, point.cells_per_second


def plot_mixing(
    loaders: Loader | Mapping[str, Loader],
    column: str | None = None,
    *,
    ax: pictures.Axes | None = None,
    save: Any = None,
) -> pictures.Axes:
    """The entropy of labels in each batch of an epoch, next to the average of random batches.

    >>> loaders = {"shuffled": stream("pbmc.h5ad", 32), "as it stands": stream("pbmc.h5ad", 32, shuffle=False)}
    >>> plot_mixing(loaders, "louvain", save="mixing.png").get_ylabel()
    'entropy of obs/louvain in a batch (bits)'

    It is computed from the plan: X is not read. For a long epoch, the plot shows the mean of neighboring batches and
    the band that holds nine tenths of them.

    Parameters
    ----------
    loaders
        A loader, or several by the names that the picture shows.
    column
        An obs column of labels. When None, the label is which of 64 equal parts of the file a row lies in.
    ax, save
        As for `plot_tuning`.
    """
    axes, done = canvas(ax, save)
    random: float | None = None
    most = 1
    for colour, (name, loader) in zip(cycle(COLOURS), _named(loaders, Loader).items(), strict=False):
        store = loader.source.store
        codes = file_parts(store.n_obs) if column is None else store.codes(column)
        order = loader.planned()
        planned = PlannedBatches.of(order, loader.ranks.rank, loader.ranks.world_size)
        if not planned.rows:
            raise ParameterError("loaders must have batches, and an epoch of this one has none")
        _draw_batches(axes, np.array(planned.places), batch_entropies(planned.rows, codes), colour, name or "batches")
        most = max(most, planned.of_batches)
        if random is None:
            random = planned.mixing(codes, population_of(order, codes)).random_entropy
    axes.axhline(random or 0.0, color="black", lw=1, ls="--", label="random batches, mean", zorder=3)
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    axes.set_xlim(-0.5 - most / 50, most - 0.5 + most / 50)
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)
    axes.set_xlabel("batch")
    axes.set_ylabel(f"entropy of {'the place in the file' if column is None else f'obs/{column}'} in a batch (bits)")
    axes.legend(frameon=False, fontsize=SMALL, loc="best")
    return done()


def _draw_batches(axes: pictures.Axes, places: NDArray[Any], values: NDArray[Any], colour: str, name: str) -> None:
    if len(values) <= _SINGLE:
        axes.plot(places, values, "o", color=colour, ms=3 if len(values) > _FEW else 5, label=name, ls="none")
        return
    parts = np.array_split(np.arange(len(values)), _BANDS)
    middle = [places[part].mean() for part in parts]
    low, high = np.array([np.quantile(values[part], [0.05, 0.95]) for part in parts]).T
    axes.fill_between(middle, low, high, color=colour, alpha=0.2, lw=0)
    axes.plot(middle, [values[part].mean() for part in parts], color=colour, lw=1.5, label=name)


class Recorder:
    """The batches of anything that yields batches, and when each came.

    >>> recorder = Recorder(stream("pbmc.h5ad", batch_size=100))
    >>> for batch in recorder:
    ...     pass
    >>> sum(recorder.rows), len(recorder.seconds)
    (700, 7)

    Parameters
    ----------
    batches
        A `~annpipes.Loader`, a `DataLoader`, or any other iterable of tensors, arrays or dicts of them.
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = batches
        self.rows: list[int] = []
        """Rows of each batch of the last pass begun."""
        self.seconds: list[float] = []
        """When each batch came, in seconds since the pass began."""

    def __len__(self) -> int:
        """How many batches a pass has, as `tqdm` asks, if ``batches`` has a length."""
        if not isinstance(self.batches, Sized):
            raise TypeError(f"{type(self.batches).__name__} has no length, nor has its Recorder")
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        rows, seconds = self.rows, self.seconds = [], []
        begin = time.perf_counter()
        for batch in self.batches:
            seconds.append(time.perf_counter() - begin)
            rows.append(_n_rows(batch))
            yield batch


def _n_rows(batch: Any) -> int:
    """How many rows a batch has: those of its first part, if it has parts."""
    if isinstance(batch, Mapping) and batch:
        return _n_rows(next(iter(batch.values())))
    if hasattr(batch, "shape"):
        return int(batch.shape[0])
    return _n_rows(batch[0]) if isinstance(batch, tuple) and batch else len(batch)


def plot_throughput(
    recorders: Recorder | Mapping[str, Recorder], *, ax: pictures.Axes | None = None, save: Any = None
) -> pictures.Axes:
    """Cells per second over the time of a pass, and the mean of the whole pass.

    Speed is computed over time spans that are longer than any wait for a batch. A pass too short for that, with
    fewer than 32 batches or with one long wait, is drawn as its mean, with a mark for the time of each batch.

    >>> recorder = Recorder(stream("pbmc.h5ad", batch_size=16))
    >>> for batch in recorder:
    ...     pass
    >>> plot_throughput(recorder, save="throughput.svg").get_ylabel()
    'cells per second'

    Parameters
    ----------
    recorders
        A recorder that has been iterated over, or several by the names that the picture shows.
    ax, save
        As for `plot_tuning`.
    """
    axes, done = canvas(ax, save)
    for colour, (name, recorder) in zip(cycle(COLOURS), _named(recorders, Recorder).items(), strict=False):
        if not recorder.rows:
            raise ParameterError(f"recorders must have been iterated, and {name or 'this one'} has seen no batch")
        seconds, rows = np.array(recorder.seconds), np.array(recorder.rows)
        mean = rows.sum() / seconds[-1]
        told = f"{name or 'mean'}: {mean:,.0f} cells/s"
        axes.plot([0, seconds[-1]], [mean, mean], color=colour, lw=1, ls="--")
        if len(seconds) < _FEW or _spans(seconds) == 1:
            told += f" ({len(seconds):,} {'batch' if len(seconds) == 1 else 'batches'}, a mark for each)"
            axes.plot(seconds, np.full(len(seconds), mean), "|", color=colour, ms=14, mew=1.5, label=told)
            continue
        edges = np.linspace(0, seconds[-1], _spans(seconds) + 1)
        rates = np.histogram(seconds, edges, weights=rows)[0] / np.diff(edges)
        axes.stairs(rates, edges, baseline=None, color=colour, lw=1.5, label=told)
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds since the pass began")
    axes.set_ylabel("cells per second")
    axes.legend(frameon=False, fontsize=SMALL, title="mean of the pass (dashed)", title_fontsize=SMALL)
    return done()


def _spans(seconds: NDArray[Any]) -> int:
    """Into how many spans to cut a pass, so that the batches of a chunk, which come at once, do not make a comb."""
    least = max(_WINDOW_BATCHES * seconds[-1] / len(seconds), _WINDOW_GAPS * np.diff(seconds, prepend=0).max())
    return int(np.clip(seconds[-1] / least, 1, _MOST_CELLS))


def plot_coverage(
    loader: Loader, *, epoch: int | None = None, ax: pictures.Axes | None = None, save: Any = None
) -> pictures.Axes:
    """Which parts of the file the rows come from in the course of an epoch, compared with an even spread.

    >>> plot_coverage(stream("pbmc.h5ad", batch_size=32), save="coverage.png").get_title()
    'rows of each part of the file in the course of epoch 0'

    White means that rows come as often as in an even spread, orange more often, violet less often. Rows in stored
    order make an orange diagonal, and large blocks make stripes. It is computed from the plan. A short epoch has
    few tiles: each has about 25 rows, because with fewer, chance alone would color it.

    Parameters
    ----------
    loader
        The loader.
    epoch
        Which epoch; the next when None.
    ax, save
        As for `plot_tuning`.
    """
    if not isinstance(loader, Loader):
        raise ParameterTypeError(f"loader must be a Loader, such as stream returns, got {type(loader).__name__}")
    axes, done = canvas(ax, save)
    number = loader.epoch if epoch is None else as_natural(epoch, "epoch")
    planned = PlannedBatches.of(loader.planned(number), loader.ranks.rank, loader.ranks.world_size)
    if not planned.rows:
        raise ParameterError("loader must have batches, and this epoch has none")
    n_obs = loader.source.n_obs
    density, x_edges, y_edges = _density(planned, n_obs)
    colors = importlib.import_module("matplotlib.colors")
    shades = colors.LinearSegmentedColormap.from_list("less, even, more", ["#5E3C99", "#F7F7F7", "#E66101"])
    norm = colors.TwoSlopeNorm(1, 0, 3)
    mesh = axes.pcolormesh(x_edges, y_edges, density.T, cmap=shades, norm=norm, rasterized=True)
    bar = axes.figure.colorbar(mesh, ax=axes, extend="max", label="rows, next to an even spread", ticks=[0, 1, 2, 3])
    bar.ax.set_yticklabels(["none", "even", "2 ×", "3 ×"])
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)
    axes.set_xlabel("batch")
    axes.set_ylabel("row of the file")
    axes.set_title(f"rows of each part of the file in the course of epoch {number}")
    return done()


def _density(planned: PlannedBatches, n_obs: int) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[Any]]:
    """Rows from each part of the file in each part of the epoch, next to an even spread; and the edges of both."""
    assert planned.places is not None
    total = sum(map(len, planned.rows))
    cells = int(np.clip(np.sqrt(total / _CELL_ROWS), 1, _MOST_CELLS))
    groups = np.array_split(np.arange(len(planned.rows)), min(cells, len(planned.rows)))
    edges = np.linspace(0, n_obs, min(cells, n_obs) + 1)
    counts = np.array([np.histogram(np.concatenate([planned.rows[i] for i in group]), edges)[0] for group in groups])
    density = counts / counts.sum(axis=1, keepdims=True) * counts.shape[1]  # (parts of the epoch, parts of the file)
    return density, np.array([*(planned.places[group[0]] for group in groups), planned.of_batches]), edges


def _named(given: Any, kind: type) -> Mapping[str, Any]:
    named = given if isinstance(given, Mapping) else {"": given}
    if not named:
        raise ParameterError(f"there must be at least one {kind.__name__} to draw, got {given!r}")
    for value in named.values():
        if not isinstance(value, kind):
            raise ParameterTypeError(f"expected a {kind.__name__}, or several by name, got {type(value).__name__}")
    return named
