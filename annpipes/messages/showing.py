"""What is shown: text in a terminal and HTML in a notebook, of the same parts."""

from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["PAGE", "Code", "Labelled", "Page", "Part", "Prose", "Shown", "Table", "Title", "html_of", "text_of"]

_LABEL = 10
_WRONG = {"problem": "33", "unchecked": "33", "damage": "31"}  # yellow and red, as ECMA-48 numbers them
# A theme's own colours, light or dark: nothing below names one. Notebooks align cells to the right.
_LEFT = ' style="text-align:left"'
_RIGHT = ' style="text-align:right"'
_TOP = ' style="text-align:left;vertical-align:top"'


@dataclass(frozen=True)
class Page:
    """What text is written for.

    Parameters
    ----------
    width
        How many characters a line of prose may have.
    columns
        How many characters a line of a table may have; None for tables in one piece.
    colour
        Whether problems have a colour.
    """

    width: int = 100
    columns: int | None = None
    colour: bool = False


PAGE = Page()
"""Where it is not known what will show it: a file, a log, another program."""


class Part(ABC):
    """A piece of what is shown, which knows both of its forms."""

    @abstractmethod
    def text(self, page: Page = PAGE) -> str:
        """It as text; "" where there is nothing to show."""

    @abstractmethod
    def html(self) -> str:
        """It in a notebook, with all that is not our own mark-up escaped."""


@dataclass(frozen=True)
class Title(Part):
    """A line by itself, on top."""

    line: str

    def text(self, page: Page = PAGE) -> str:
        return _filled(self.line, page)

    def html(self) -> str:
        return f"<p><strong>{escape(self.line)}</strong></p>"


@dataclass(frozen=True)
class Prose(Part):
    """Sentences, each in lines of its own; in a terminal broken where they are long, and indented from there on."""

    sentences: Sequence[str]
    indent: str = ""

    def text(self, page: Page = PAGE) -> str:
        return "\n".join(_filled(sentence, page, subsequent=self.indent) for sentence in self.sentences)

    def html(self) -> str:
        return f"<p>{'<br>'.join(map(escape, self.sentences))}</p>" if self.sentences else ""


@dataclass(frozen=True)
class Code(Part):
    """A line to be typed, which is never broken, after a sentence that says why."""

    why: str
    line: str

    def text(self, page: Page = PAGE) -> str:
        return "\n".join(filter(None, [_filled(self.why, page), self.line]))

    def html(self) -> str:
        why = f"<p>{escape(self.why)}</p>" if self.why else ""
        return f"{why}<pre><code>{escape(self.line)}</code></pre>"


@dataclass(frozen=True)
class Labelled(Part):
    """Texts with a label each; one without a label goes on with what the one before is about."""

    entries: Sequence[tuple[str, str]]

    def text(self, page: Page = PAGE) -> str:
        return "\n".join(
            _coloured(_filled(text, page, first=f"{label:<{_LABEL}}", subsequent=" " * _LABEL), label, page)
            for label, text in self.entries
        )

    def html(self) -> str:
        if not self.entries:
            return ""
        lines = (f"<th{_TOP}>{escape(label)}</th><td{_LEFT}>{escape(text)}</td>" for label, text in self.entries)
        return f"<table><tr>{'</tr><tr>'.join(lines)}</tr></table>"


@dataclass(frozen=True)
class Table(Part):
    """Columns; those in ``numbers`` are aligned to the right. Without rows there is nothing to show.

    >>> print(Table(["field", "rows"], [["X", "700"], ["obs/louvain", "70"]], numbers=[1]).text())
    field        rows
    X             700
    obs/louvain    70
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int] = ()
    caption: str = ""

    def text(self, page: Page = PAGE) -> str:
        if not self.rows:
            return ""
        bands = ["\n".join(self._aligned(places)) for places in self._bands(page)]
        return "\n".join([*filter(None, [_filled(self.caption, page)]), "\n\n".join(bands)])

    def _widths(self) -> list[int]:
        return [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]

    def _bands(self, page: Page) -> list[list[int]]:
        """Which columns stand side by side: all, or as many as fit, each time after the first one."""
        widths, bands, used = self._widths(), [[0]], 0
        for place in range(1, len(widths)):
            used += 2 + widths[place]
            if page.columns and widths[0] + used > page.columns and len(bands[-1]) > 1:
                bands.append([0])
                used = 2 + widths[place]
            bands[-1].append(place)
        return bands

    def _aligned(self, places: Sequence[int]) -> Iterator[str]:
        """The lines of these columns."""
        widths = self._widths()
        for line in (self.header, *self.rows):
            cells = (
                line[place].rjust(widths[place]) if place in self.numbers else line[place].ljust(widths[place])
                for place in places
            )
            yield "  ".join(cells).rstrip()

    def html(self) -> str:
        if not self.rows:
            return ""
        caption = f"<p>{escape(self.caption)}</p>" if self.caption else ""
        head = "".join(self._cells("th", self.header))
        body = "".join(f"<tr>{''.join(self._cells('td', row))}</tr>" for row in self.rows)
        return f"{caption}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _cells(self, tag: str, cells: Sequence[str]) -> Iterator[str]:
        for place, cell in enumerate(cells):
            yield f"<{tag}{_RIGHT if place in self.numbers else _LEFT}>{escape(cell)}</{tag}>"


class Shown(ABC):
    """Something that is shown as text, and as HTML in a notebook."""

    @abstractmethod
    def _shown(self) -> Sequence[Part]:
        """What is shown of it."""

    def on(self, page: Page) -> str:
        """It as text for a page."""
        return text_of(self._shown(), page)

    def _repr_html_(self) -> str:
        return html_of(self._shown())


def text_of(parts: Sequence[Part], page: Page = PAGE, between: str = "\n\n") -> str:
    """Parts as text, those that have nothing to show left out."""
    return between.join(filter(None, (part.text(page) for part in parts)))


def html_of(parts: Sequence[Part]) -> str:
    """Parts in a notebook: paragraphs and tables, without scripts or colours.

    >>> html_of([Title("obs/<b>")])
    '<div><p><strong>obs/&lt;b&gt;</strong></p></div>'
    """
    return f"<div>{''.join(part.html() for part in parts)}</div>"


def _filled(text: str, page: Page, first: str = "", subsequent: str = "") -> str:
    """Text in lines that are broken between words alone: paths and code stay whole."""
    return textwrap.fill(
        text,
        page.width,
        initial_indent=first,
        subsequent_indent=subsequent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _coloured(text: str, label: str, page: Page) -> str:
    code = _WRONG.get(label) if page.colour else None
    return text if code is None else f"\x1b[{code}m{label}\x1b[0m{text[len(label) :]}"
