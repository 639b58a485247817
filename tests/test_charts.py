"""The charts show what benchmarks/README.md says, and nothing else."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "benchmarks" / "README.md").read_text()
GIVEN: dict[str, Any] = tomllib.loads((ROOT / "benchmarks" / "results.toml").read_text())


@pytest.fixture(scope="module")
def charts() -> ModuleType:
    """`benchmarks/charts.py`, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("charts", ROOT / "benchmarks" / "charts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def section(script: str) -> str:
    """What stands below the heading that names the script."""
    parts = re.split(r"^### ", README, flags=re.MULTILINE)
    (found,) = [part for part in parts if script in part.splitlines()[0]]
    return found.split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every row; one without a first cell belongs to the case above it."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("| "):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            found.append([cells[0] or found[-1][0], *cells[1:]])
    return found


def numbers(cells: list[str]) -> set[float]:
    return {float(number.replace(",", "")) for cell in cells for number in re.findall(r"\d[\d,]*(?:\.\d+)?", cell)}


@pytest.mark.parametrize("name", GIVEN["results"])
def test_every_number_of_a_chart_stands_in_its_row_of_the_readme(name: str) -> None:
    result = GIVEN["results"][name]
    (row,) = [
        cells for cells in rows(section(GIVEN["runs"][result["run"]]["script"])) if set(result["row"]) <= set(cells)
    ]
    given = {*result.get("cells_per_second", ()), result["times"], *result.get("spread", ())}
    assert given <= numbers([cell for cell in row if cell not in result["row"]])


@pytest.mark.parametrize("name", GIVEN["runs"])
def test_every_run_was_when_and_with_what_the_readme_says(name: str) -> None:
    run = GIVEN["runs"][name]
    head = README.partition("## Results")[2].partition("###")[0]
    said = section(run["script"]) if run["date"] in section(run["script"]) else head
    assert run["date"] in said
    assert run.get("commit", "") in head
    assert all(each in README for each in run["software"])
    assert all(each in head for each in GIVEN["machine"].values())


def test_every_result_is_drawn_and_every_picture_is_the_one_that_the_script_draws(charts: ModuleType) -> None:
    drawn = charts.charts()
    kept = {path.name: path.read_text() for path in (ROOT / "docs" / "_static").glob("*.svg") if path.stem != "logo"}
    assert drawn == kept, "python benchmarks/charts.py"
    shown = {name for _, groups in charts.RATES.values() for names in groups.values() for name in names}
    assert shown.union(*(names for _, names in charts.RATIOS.values())) == set(GIVEN["results"])


def test_a_chart_says_its_numbers_and_a_bar_is_as_long_as_its_number(charts: ModuleType) -> None:
    root = ElementTree.fromstring(charts.charts()["annbatch.svg"])  # noqa: S314 - our own
    svg = "{http://www.w3.org/2000/svg}"
    lengths = [float(each.get("width", 0)) for each in root.iter(f"{svg}rect")][1:]  # the first is the paper
    texts = [each.text for each in root.iter(f"{svg}text")]
    assert [text for text in texts if re.fullmatch(r"[\d,]+", text or "")][:2] == ["301,000", "202,000"]
    assert lengths[1] / lengths[0] == pytest.approx(202 / 301, rel=1e-3)
    assert "annbatch 5,460" in (root.findtext(f"{svg}desc") or "")


def test_every_number_of_the_page_of_benchmarks_stands_in_the_readme() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text().partition("## Where annpipes loses")[2]
    said = numbers([line for line in page.partition("## How it was measured")[0].splitlines() if line[:1] != ":"])
    assert len(said) > 10
    assert said <= numbers([README])
