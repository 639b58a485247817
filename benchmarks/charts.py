"""The charts of README and documentation, drawn from ``results.toml``: ``python benchmarks/charts.py``."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
PICTURES = HERE.parent / "docs" / "_static"

WIDTH = 520
LABELS = 172  # where bars begin
ENDS = 428  # where the longest bar ends; what it says stands behind it
ROW = 22


class _Colours(NamedTuple):
    """What a chart is painted with."""

    paper: str
    ink: str
    faint: str
    ours: str
    theirs: str


THEMES = {
    "": _Colours(paper="#ffffff", ink="#1f2933", faint="#6b7480", ours="#0f766e", theirs="#b6bec8"),
    "-dark": _Colours(paper="none", ink="#e4e8ec", faint="#9aa4af", ours="#2dd4bf", theirs="#5b6672"),
}
"""The ending of a file's name, and its colours. The first has a paper of its own, and so reads on any page."""

RATES: dict[str, tuple[str, dict[str, dict[str, str]]]] = {
    "speed": (
        "Cells per second, on two cores",
        {
            "gzip .h5ad, blocks of 64 rows": {
                "scdataset_gzip": "scDataset",
                "scdataset_workers_gzip": "scDataset, 2 workers",
            },
            "gzip .h5ad, single random rows": {"backed_gzip": "backed AnnData"},
            "uncompressed .h5ad, single random rows": {"scdataset_raw": "scDataset", "backed_raw": "backed AnnData"},
            "annbatch's own Zarr collection, runs of 512": {"annbatch_512": "annbatch"},
            "annbatch's own Zarr collection, single rows": {"annbatch_1": "annbatch"},
        },
    ),
    "peers": (
        "Cells per second from .h5ad",
        {
            "gzip, blocks of 64 rows": {
                "scdataset_gzip": "scDataset",
                "scdataset_mask_gzip": "scDataset by mask",
                "scdataset_workers_gzip": "… in 2 workers",
            },
            "gzip, single random rows": {"backed_gzip": "backed AnnData"},
            "uncompressed, single random rows": {
                "scdataset_raw": "scDataset",
                "scdataset_mask_raw": "scDataset by mask",
                "scdataset_workers_raw": "… in 2 workers",
                "backed_raw": "backed AnnData",
            },
        },
    ),
    "unconverted": (
        "Cells per second from the same .h5ad",
        {
            "gzip, runs of 64": {"virtual_gzip_64": "annbatch"},
            "gzip, single rows": {"virtual_gzip_1": "annbatch"},
            "uncompressed, runs of 64": {"virtual_raw_64": "annbatch"},
            "uncompressed, single rows": {"virtual_raw_1": "annbatch"},
        },
    ),
    "annbatch": (
        "Cells per second from annbatch's own collection",
        {
            "runs of 512": {"annbatch_512": "annbatch"},
            "runs of 32": {"annbatch_32": "annbatch"},
            "single rows": {"annbatch_1": "annbatch"},
        },
    ),
}
"""Name, title, and groups of bars: what is read, and a result for each peer with what it is called."""

RATIOS: dict[str, tuple[str, dict[str, str]]] = {
    "in_memory": (
        "Times as fast, from an AnnData in memory",
        {
            "memory_annloader": "AnnLoader",
            "memory_by_hand": "a Dataset by hand",
            "memory_default_collate": "… default collate",
            "memory_workers": "… in 2 processes",
            "memory_dense": "toarray of rows",
            "memory_scipy": "a loop of scipy",
        },
    ),
    "slower": (
        "What slows annpipes: the share of its speed that is left",
        {
            "cache_first_blocks": "first epoch, cached",
            "cache_first_rows": "… of single rows",
            "genes_csr": "2,000 genes, as CSR",
            "files_other_genes": "files in other orders",
            "sampling_rows": "balanced rows, gzip",
            "sampling_sets": "sets of rows, gzip",
            "remote_of_local": "over the web, 30 ms",
            "remote_slow_of_local": "… and 10 MB/s",
        },
    ),
}
"""Name, title, and results with what each is called: a dot, its spread, and a line where both are as fast."""


def results() -> dict[str, Any]:
    """What ``results.toml`` says, with as many digits as it says."""
    return tomllib.loads((HERE / "results.toml").read_text(), parse_float=Decimal)


def charts() -> dict[str, str]:
    """Every chart in every theme: the name of its file, and the SVG."""
    numbers = results()["results"]
    drawn = {}
    for ending, colours in THEMES.items():
        for name, (title, groups) in RATES.items():
            drawn[f"{name}{ending}.svg"] = _rates(title, groups, numbers, colours)
        for name, (title, rows) in RATIOS.items():
            drawn[f"{name}{ending}.svg"] = _ratios(title, rows, numbers, colours)
    return drawn


def _rates(title: str, groups: dict[str, dict[str, str]], numbers: dict[str, Any], colours: _Colours) -> str:
    """Bars in groups; the longest of each group is as long as any other group's."""
    y = 44
    parts, said = [], []
    for group, names in groups.items():
        parts.append(_text(16, y + 14, group, colours.ink, weight=600))
        y += 24
        for label, rate in _bars(names, numbers):
            ours = label == "annpipes"
            longest = max(value for _, value in _bars(names, numbers))
            length = rate / longest * (ENDS - LABELS)
            parts.append(_text(LABELS - 8, y + 14, label, colours.ink, anchor="end"))
            parts.append(_bar(y + 3, length, colours.ours if ours else colours.theirs))
            parts.append(_text(LABELS + length + 6, y + 14, f"{rate:,}", colours.ink, weight=600 if ours else 400))
            said.append(f"{group}: {label} {rate:,}")
            y += ROW
        y += 12
    parts.append(_text(16, y + 8, "Each group has a scale of its own. More is faster.", colours.faint, size=12))
    return _svg(title, "; ".join(said), y + 22, parts, colours)


def _bars(names: dict[str, str], numbers: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """annpipes, with the least of its rates beside these peers, and each peer."""
    found = [(label, numbers[name]["cells_per_second"]) for name, label in names.items()]
    yield "annpipes", min(rates[0] for _, rates in found)
    for label, rates in found:
        yield label, rates[1]


def _ratios(title: str, rows: dict[str, str], numbers: dict[str, Any], colours: _Colours) -> str:
    """A dot for each ratio on a logarithmic scale, with its spread, and a line at 1."""
    found = [(label, numbers[name]) for name, label in rows.items()]
    values = [value for _, each in found for value in (each["times"], *each.get("spread", ()))] + [Decimal(1)]
    low, high = math.log(min(values)), math.log(max(values))

    def place(value: Decimal) -> float:
        return LABELS + 8 + (math.log(value) - low) / (high - low) * (ENDS - LABELS - 8)

    one, bottom = place(Decimal(1)), 50 + ROW * len(found)
    parts = [
        f'<line x1="{one:.1f}" x2="{one:.1f}" y1="46" y2="{bottom}" stroke="{colours.faint}" stroke-dasharray="3 3"/>',
        _text(one, bottom + 16, "1: as fast", colours.faint, size=12, anchor="middle"),
    ]
    for number, (label, each) in enumerate(found):
        y = 50 + ROW * number
        least, most = each.get("spread", (each["times"], each["times"]))
        parts.append(_text(LABELS - 8, y + 14, label, colours.ink, anchor="end"))
        parts.append(
            f'<line x1="{place(least):.1f}" x2="{place(most):.1f}" y1="{y + 10}" y2="{y + 10}" '
            f'stroke="{colours.theirs}" stroke-width="5" stroke-linecap="round"/>'
        )
        parts.append(f'<circle cx="{place(each["times"]):.1f}" cy="{y + 10}" r="5" fill="{colours.ours}"/>')
        parts.append(_text(ENDS + 14, y + 14, str(each["times"]), colours.ink, weight=600))
    said = "; ".join(f"{label} {each['times']}" for label, each in found)
    return _svg(title, said, bottom + 30, parts, colours)


def _text(
    x: float, y: float, text: str, colour: str, *, size: int = 13, weight: int = 400, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def _bar(y: float, length: float, colour: str) -> str:
    return f'<rect x="{LABELS}" y="{y:.1f}" width="{length:.1f}" height="15" rx="2" fill="{colour}"/>'


def _svg(title: str, said: str, height: float, parts: list[str], colours: _Colours) -> str:
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" font-family="system-ui, sans-serif">',
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(said)}</desc>",
        f'<rect width="{WIDTH}" height="{height:.0f}" rx="8" fill="{colours.paper}"/>',
        _text(16, 28, title, colours.ink, size=15, weight=700),
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, svg in charts().items():
        (PICTURES / name).write_text(svg)
        print(f"docs/_static/{name}")


if __name__ == "__main__":
    main()
