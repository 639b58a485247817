"""The command line: `annpipes quickstart`, `inspect`, `bench`, `tune`, `shuffle`, `cache` and `info`.

Each subcommand imports its tool when it runs, so that help comes at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from annpipes.errors import AnnpipesError, FieldError, ParameterError, ParameterTypeError, SourceError
from annpipes.messages.brevity import brief_bytes
from annpipes.tools.terminal import bar, page_for, print_report, show

if TYPE_CHECKING:
    from annpipes.stores import Remote
    from annpipes.tools.inspecting import CheckReport

__all__ = ["annpipes"]

_FORMS = ("dense", "csr")
_CODECS = ("lz4", "zstd", "gzip", "none")  # as `CODECS` has them, which knows the libraries that encode


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_cache_folder = click.option("--cache", metavar="FOLDER", help="Measure with a cache, as in epochs after the first.")


class _Commands(click.Group):
    """Commands whose errors are one line: exit code 2 if the call is wrong, 1 if the work failed."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError:  # the reader of the output has closed it, which click handles
            raise
        except (AnnpipesError, OSError) as error:
            sys.exit(_tell(error))


def _tell(error: AnnpipesError | OSError) -> int:
    """An error in one line, and the exit code that goes with it."""
    told = str(error)
    if isinstance(error, OSError) and error.strerror is not None and not isinstance(error, AnnpipesError):
        told = f"{error.strerror}{f': {error.filename!r}' if error.filename else ''}"
    page = page_for(sys.stderr)
    click.echo(
        f"{click.style('annpipes:', fg='red') if page.colour else 'annpipes:'} {told}", err=True, color=page.colour
    )
    return 2 if isinstance(error, ParameterError | ParameterTypeError | FieldError | SourceError) else 1


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="annpipes")
def annpipes() -> None:
    """Look into .h5ad files, measure how fast they can be read, and rewrite them.

    Exit codes: 0 if all is well, 1 if a file is damaged or the work failed, 2 if the call is wrong.
    """


@annpipes.command(
    "quickstart",
    short_help="Train a small classifier on your cells, or on example cells.",
    context_settings={"ignore_unknown_options": True},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def _quickstart(arguments: tuple[str, ...]) -> None:
    """A classifier trained on shuffled batches of a file; it has its own help, as it is a program that users change."""
    from annpipes.tools.quickstart import main

    sys.exit(main(arguments, "annpipes quickstart"))


@annpipes.command("inspect", short_help="Show what files hold, what is wrong with them, and what to do.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--check", "read_all", is_flag=True, help="Read everything once and report damage.")
@click.option("--chunk-size", default=16_384, show_default=True, help="Rows of a chunk, to compute its memory.")
@_as_json
def _inspect(files: tuple[str, ...], read_all: bool, chunk_size: int, as_json: bool) -> None:
    """Show what files hold, how each field is stored and read, and what to do about problems."""
    from annpipes.tools.inspecting import CheckReport, inspect

    code, reports = 0, list[Any]()
    for number, file in enumerate(named := _named(files)):
        try:
            shown = _checked(file) if read_all else inspect(file, chunk_size=chunk_size)
        except (AnnpipesError, OSError) as error:  # the others are looked at all the same
            code = max(code, _tell(error))
            continue
        code = max(code, 0 if not isinstance(shown, CheckReport) or shown.healthy else 1)
        reports.append(shown)
        if not as_json:
            show(shown, "\n" if number < len(named) - 1 else "")
    if as_json:
        click.echo(json.dumps([report.to_dict() for report in reports], indent=1))
    sys.exit(code)


def _named(files: Sequence[str]) -> list[str | Remote]:
    """The files and addresses themselves, and those that patterns name.

    Raises
    ------
    SourceError
        A pattern names none.
    """
    from annpipes.tools.rewriting.jobs import named_inputs

    return named_inputs(list(files))


def _name(file: str | Remote) -> str:
    """The last part of a path, or of an address without its query, which may be a signature."""
    from annpipes.stores import name_of

    return os.path.basename(name_of(file))


def _checked(file: str | Remote) -> CheckReport:
    from annpipes.tools.inspecting import check

    with bar(f"checking {_name(file)}", even=True) as progress:
        return check(file, own_process=True, progress=progress)


@annpipes.command("bench", short_help="Measure how fast a file is read here, and what limits it.")
@click.argument("file")
@click.option("--batch-size", default=256, show_default=True)
@click.option("--chunk-size", default=16_384, show_default=True)
@click.option("--seconds", default=3.0, show_default=True, help="How long to measure each case.")
@click.option(
    "--against",
    multiple=True,
    help="Another loader to run: anndata, scdataset or annloader (may be repeated), or 'installed' for all.",
)
@_cache_folder
@_as_json
def _bench(file: str, against: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Measure how fast a file is read on this machine, next to the limits of disk or network, decoding and memory."""
    from annpipes.tools.benching import bench

    peers: Any = "installed" if against == ("installed",) else against
    with bar(f"measuring {_name(file)}") as progress:
        report = bench(file, against=peers, progress=progress, **options)
    print_report(report, as_json)


@annpipes.command("tune", short_help="Find the block and chunk size that read fast and mix well.")
@click.argument("file")
@click.option("--label", help="The obs column whose labels should be mixed; without it, positions in the file.")
@click.option("--memory", default="2GB", show_default=True, help="Memory that two chunks may take.")
@click.option("--batch-size", default=256, show_default=True)
@click.option("--field", "fields", multiple=True, default=["X"], show_default=True, help="To read (may be repeated).")
@click.option("--form", type=click.Choice(_FORMS), default="dense", show_default=True, help="What X becomes.")
@click.option("--mixing", default=0.95, show_default=True, help="How close to random batches, from 0 to 1.")
@click.option("--seconds", default=60.0, show_default=True, help="About how long to measure.")
@click.option("--seed", default=0, show_default=True)
@_cache_folder
@click.option("--plot", help="Draw speed against mixing: a .png, .svg or .pdf file.")
@_as_json
def _tune(file: str, label: str | None, plot: str | None, as_json: bool, **options: Any) -> None:
    """Find the block and chunk size that read fast and mix well, by measuring a few."""
    from annpipes.plotting import plot_tuning
    from annpipes.tools.tuning import tune

    picture = None if plot is None else _canvas(plot)
    with bar(f"measuring {_name(file)}") as progress:
        report = tune(file, label, progress=progress, **options)
    if picture is not None:
        axes, done = picture
        plot_tuning(report, ax=axes)
        done()
    print_report(report, as_json)
    if plot is not None:
        click.echo(f"picture: {os.path.expanduser(plot)}", err=as_json)


def _canvas(plot: str) -> tuple[Any, Callable[[], Any]]:
    """An empty picture, made before the long work, so that a wrong name is reported at once."""
    from annpipes.tools.pictures import canvas

    try:
        return canvas(save=plot)
    except (ParameterError, ModuleNotFoundError) as error:
        raise click.BadParameter(str(error), param_hint="--plot") from error


@annpipes.command("cache", short_help="List or remove what a cache of decoded storage chunks keeps.")
@click.argument("folder")
@click.option("--remove", metavar="PATTERN", help="Remove what it keeps of the sources that match, such as '*'.")
@_as_json
def _cache(folder: str, remove: str | None, as_json: bool) -> None:
    """Show what a cache keeps of each file: the share of its storage chunks, and bytes."""
    from annpipes.tools.keeping import look_into_cache, remove_from_cache

    print_report(look_into_cache(folder) if remove is None else remove_from_cache(folder, remove), as_json)


@annpipes.command("shuffle", short_help="Write a shuffled copy that is read faster, still .h5ad.")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("-o", "--output", required=True, help="The .h5ad file to write.")
@click.option("--rows-per-file", type=int, help="Write several files with this many rows each.")
@click.option("--codec", type=click.Choice(_CODECS), default="lz4", show_default=True)
@click.option("--dtype", help="A narrower type for the values of X, such as uint16; refused if a value would change.")
@click.option("--memory", default="4GB", show_default=True, help="Memory that one process may take.")
@click.option("--seed", default=0, show_default=True)
@click.option("--groupby", help="An obs column: rows with the same label stay together.")
@click.option(
    "--join", type=click.Choice(["inner", "outer"]), default="inner", show_default=True, help="Genes of several inputs."
)
@click.option("--without", multiple=True, help="A field to leave out, such as layers/x or obsm/y (may be repeated).")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("--scheduler", help="Address of a Dask scheduler whose workers write the parts.")
@_as_json
def _shuffle(inputs: tuple[str, ...], output: str, as_json: bool, **options: Any) -> None:
    """Rewrite files in shuffled order, fast to read, as plain .h5ad; an interrupted run is continued."""
    from annpipes.tools.rewriting import rewrite_shuffled

    try:
        with bar(f"shuffling into {os.path.basename(output)}", even=True) as progress:
            report = rewrite_shuffled(list(inputs), output, progress=progress, **options)
    except KeyboardInterrupt:
        click.echo(f"annpipes: interrupted{_kept(output)}", err=True)
        sys.exit(130)
    except OSError as error:
        if isinstance(error, AnnpipesError) or not _kept(output):
            raise
        click.echo(f"annpipes: {error.strerror or error}{_kept(output)}", err=True)
        sys.exit(1)
    print_report(report, as_json)


def _kept(output: str) -> str:
    """What to say about a rewrite that was broken off; nothing if no parts are kept."""
    from annpipes.tools.rewriting.jobs import unfinished

    folder, size = unfinished(output)
    if not size:
        return ""
    return f"; finished parts ({brief_bytes(size)}) are kept in {folder!r}: the same command continues from there"


@annpipes.command("info", short_help="Show versions, cores, memory, and which parts of annpipes work here.")
@_as_json
def _info(as_json: bool) -> None:
    """Show what annpipes runs with here, for bug reports; the output names no person and no folder."""
    from annpipes.tools.installation import look_at_installation

    print_report(installation := look_at_installation(), as_json)
    sys.exit(0 if installation.healthy else 1)
