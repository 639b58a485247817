"""The command line: `annpipes inspect`, `bench`, `tune` and `shuffle`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

import click

from annpipes.errors import AnnpipesError, FieldError, ParameterError, ParameterTypeError, SourceError
from annpipes.plotting import plot_tuning
from annpipes.reporting import Progress, Report, brief_time, no_progress
from annpipes.stages.collating import Form
from annpipes.stores import CODECS
from annpipes.tools.benching import bench
from annpipes.tools.inspecting import check, inspect
from annpipes.tools.pictures import canvas
from annpipes.tools.rewriting import rewrite_shuffled
from annpipes.tools.tuning import tune

__all__ = ["annpipes"]

_FIRST_GUESS, _FIRST_SHARE = 2, 0.05  # seconds and share of the work after which the pace is known

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class _Commands(click.Group):
    """Commands whose errors are one line: exit code 2 if the call is wrong, 1 if the work failed."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except AnnpipesError as error:
            click.echo(f"annpipes: {error}", err=True)
            wrong_call = isinstance(error, ParameterError | ParameterTypeError | FieldError | SourceError)
            sys.exit(2 if wrong_call else 1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="annpipes")
def annpipes() -> None:
    """Look into .h5ad files, measure how fast they can be read, and rewrite them.

    Exit codes: 0 if all is well, 1 if a file is damaged or the work failed, 2 if the call is wrong.
    """


@annpipes.command("inspect", short_help="What files hold, what is wrong with them, and what to do.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--check", "read_all", is_flag=True, help="Read everything once and report damage.")
@click.option("--chunk-size", default=16_384, show_default=True, help="Rows of a chunk, for its memory.")
@_as_json
def _inspect(files: tuple[str, ...], read_all: bool, chunk_size: int, as_json: bool) -> None:
    """What files hold, how each field is stored and read, and what to do about problems."""
    healthy, reports = True, []
    for file in files:
        shown: list[Report] = [] if read_all else [inspect(file, chunk_size=chunk_size)]
        if read_all:
            with _bar(f"checking {file}", even=True) as progress:
                checked = check(file, own_process=True, progress=progress)
            healthy &= checked.healthy
            shown.append(checked)
        reports += shown
        if not as_json:
            click.echo("\n\n".join(map(str, shown)) + ("\n" if file != files[-1] else ""))
    if as_json:
        click.echo(json.dumps([report.to_dict() for report in reports], indent=1))
    sys.exit(0 if healthy else 1)


@annpipes.command("bench", short_help="How fast a file is read here, and what limits it.")
@click.argument("file")
@click.option("--batch-size", default=256, show_default=True)
@click.option("--chunk-size", default=16_384, show_default=True)
@click.option("--seconds", default=3.0, show_default=True, help="Measuring time of each case.")
@click.option(
    "--against",
    multiple=True,
    help="A peer to run on the same file: anndata, scdataset or annloader (may be repeated), or 'installed' for all.",
)
@_as_json
def _bench(
    file: str, batch_size: int, chunk_size: int, seconds: float, against: tuple[str, ...], as_json: bool
) -> None:
    """How fast this file is read on this machine, beside the limits of disk, decoding and memory."""
    peers: Any = "installed" if against == ("installed",) else against
    with _bar(f"measuring {file}") as progress:
        report = bench(
            file, batch_size=batch_size, chunk_size=chunk_size, seconds=seconds, against=peers, progress=progress
        )
    _print(report, as_json)


@annpipes.command("tune", short_help="The block and chunk size that read fast and mix well.")
@click.argument("file")
@click.option("--label", help="The obs column whose labels shall be mixed; without, places in the file.")
@click.option("--memory", default="2GB", show_default=True, help="What two chunks may take.")
@click.option("--batch-size", default=256, show_default=True)
@click.option("--field", "fields", multiple=True, default=["X"], show_default=True, help="May be repeated.")
@click.option("--form", type=click.Choice(get_args(Form)), default="dense", show_default=True, help="What X becomes.")
@click.option("--mixing", default=0.95, show_default=True, help="How near to random batches, from 0 to 1.")
@click.option("--seconds", default=60.0, show_default=True, help="About how long to measure.")
@click.option("--seed", default=0, show_default=True)
@click.option("--plot", help="Draw speed against mixing: a .png or .svg file.")
@_as_json
def _tune(file: str, label: str | None, plot: str | None, as_json: bool, **options: Any) -> None:
    """The block and chunk size that read fast and mix well, by measuring a few."""
    picture = None if plot is None else _canvas(plot)
    with _bar(f"measuring {file}") as progress:
        report = tune(file, label, progress=progress, **options)
    if picture is not None:
        axes, save = picture
        plot_tuning(report, axes)
        save()
    _print(report, as_json)


def _canvas(plot: str) -> tuple[Any, Callable[[], Any]]:
    """An empty picture; made before what takes long, so that a wrong name is told at once."""
    try:
        return canvas(plot)
    except (ParameterError, ModuleNotFoundError) as error:
        raise click.BadParameter(str(error), param_hint="--plot") from error


@annpipes.command("shuffle", short_help="A shuffled copy that is read faster, still .h5ad.")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("-o", "--output", required=True, help="The .h5ad file to write.")
@click.option("--rows-per-file", type=int, help="Write several files of so many rows.")
@click.option("--codec", type=click.Choice(list(CODECS)), default="lz4", show_default=True)
@click.option(
    "--dtype", help="A narrower type for the values of X, such as uint16; refused where a value would change."
)
@click.option("--memory", default="4GB", show_default=True, help="What one process may take.")
@click.option("--seed", default=0, show_default=True)
@click.option("--groupby", help="An obs column: rows of one label stand together.")
@click.option(
    "--join", type=click.Choice(["inner", "outer"]), default="inner", show_default=True, help="Genes of several inputs."
)
@click.option("--without", multiple=True, help="A field to leave out, such as layers/x or obsm/y (may be repeated).")
@click.option("--overwrite", is_flag=True, help="Replace an output that is there.")
@click.option("--scheduler", help="Address of a Dask scheduler whose workers write the parts.")
@_as_json
def _shuffle(inputs: tuple[str, ...], output: str, as_json: bool, **options: Any) -> None:
    """Rewrite files in shuffled order, fast to read, as plain .h5ad again; goes on where it was broken off."""
    with _bar(f"shuffling into {output}", even=True) as progress:
        report = rewrite_shuffled(list(inputs), output, progress=progress, **options)
    _print(report, as_json)


def _print(report: Report, as_json: bool) -> None:
    click.echo(json.dumps(report.to_dict(), indent=1) if as_json else str(report))


@contextmanager
def _bar(label: str, *, even: bool = False) -> Iterator[Progress]:
    """A progress bar on a terminal, nothing elsewhere; if steps are ``even``, they tell how long it will take."""
    if not sys.stderr.isatty():
        yield no_progress
        return
    with click.progressbar(
        length=1, label=label, file=sys.stderr, show_eta=False, item_show_func=lambda left: left
    ) as bar:
        yield _updates(bar, even)


def _updates(bar: Any, even: bool) -> Callable[[int, int], None]:
    began = time.monotonic()

    def update(done: int, total: int) -> None:
        bar.length = max(total, 1)
        bar.update(min(done, bar.length) - bar.pos, _left(time.monotonic() - began, done / bar.length) if even else "")

    return update


def _left(seconds: float, share: float) -> str:
    """How long it will take at the pace of the whole so far.

    >>> _left(30, 0.25), _left(600, 0.1), _left(0.1, 0.5)
    ('about 1.5 min left', 'about 1.5 h left', '')
    """
    if seconds < _FIRST_GUESS or not _FIRST_SHARE < share < 1:
        return ""
    return f"about {brief_time(seconds * (1 - share) / share)} left"
