"""What the command writes: reports as wide as the terminal, colours, and how far work is."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import click

from annpipes.messages.brevity import brief_time
from annpipes.messages.progress import Progress, no_progress
from annpipes.messages.showing import PAGE, Page, Shown

__all__ = ["bar", "page_for", "print_report", "show"]

_FIRST_GUESS, _FIRST_SHARE = 2, 0.05  # seconds and share of the work after which the pace is known
_BESIDE = 32  # of a bar: share done, and how long it will take
_NARROWEST, _WIDEST = 40, 120  # of a terminal, and of lines of prose


def print_report(report: Any, as_json: bool) -> None:
    """A report as text, or as JSON."""
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=1))
    else:
        show(report)


def show(report: Shown, end: str = "") -> None:
    """A report as wide as the terminal; elsewhere as everywhere, so that what reads it finds the same lines."""
    page = page_for(sys.stdout)
    click.echo(f"{report.on(page)}{end}", color=page.colour)


def page_for(stream: Any) -> Page:
    """What is written to a stream: https://no-color.org and https://force-color.org decide before the terminal does."""
    terminal = stream.isatty()
    columns = max(_NARROWEST, shutil.get_terminal_size().columns) if terminal else None
    colour = terminal and os.environ.get("TERM") != "dumb"
    if os.environ.get("FORCE_COLOR"):
        colour = True
    if os.environ.get("NO_COLOR"):
        colour = False
    return Page(min(columns or PAGE.width, _WIDEST), columns, colour)


@contextmanager
def bar(label: str, *, even: bool = False) -> Iterator[Progress]:
    """A progress bar on a terminal, nothing elsewhere; if steps are ``even``, they tell how long it will take.

    It appears with the first news, when the arguments are known to be right.
    """
    if not sys.stderr.isatty():
        yield no_progress
        return
    with ExitStack() as shown:
        drawn: Any = None
        began = time.monotonic()

        def update(done: int, total: int) -> None:
            nonlocal drawn
            length = max(total, 1)
            if drawn is None:
                drawn = shown.enter_context(
                    click.progressbar(
                        length=length,
                        label=label,
                        file=sys.stderr,
                        show_eta=False,
                        item_show_func=lambda left: left,
                        width=min(36, max(8, shutil.get_terminal_size().columns - len(label) - _BESIDE)),
                    )
                )
            drawn.length = length
            drawn.update(min(done, length) - drawn.pos, _left(time.monotonic() - began, done / length) if even else "")

        yield update


def _left(seconds: float, share: float) -> str:
    """How long it will take at the pace of the whole so far.

    >>> _left(30, 0.25), _left(600, 0.1), _left(0.1, 0.5)
    ('about 1.5 min left', 'about 1.5 h left', '')
    """
    if seconds < _FIRST_GUESS or not _FIRST_SHARE < share < 1:
        return ""
    return f"about {brief_time(seconds * (1 - share) / share)} left"
