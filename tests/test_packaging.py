"""What is published says the same everywhere."""

from __future__ import annotations

import re
import tomllib
from configparser import ConfigParser
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

import annpipes

ROOT = Path(annpipes.__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RECIPE: dict[str, Any] = yaml.safe_load((ROOT / "recipe" / "recipe.yaml").read_text())
CONDA = {"torch": "pytorch", "isal": "python-isal", "matplotlib": "matplotlib-base"}
EXTRAS = PROJECT["project"]["optional-dependencies"]


def asked(requirements: list[str]) -> set[tuple[str, str]]:
    """Each package with its bounds, but for annpipes itself."""
    split = [re.fullmatch(r"([\w-]+)(?:\[.*\])? ?(.*)", requirement) for requirement in requirements]
    pairs = [(CONDA.get(found[1], found[1]), found[2].strip()) for found in split if found is not None]
    assert len(pairs) == len(requirements)
    return {pair for pair in pairs if pair[0] != "annpipes"}


def test_the_version_stands_in_one_place() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "annpipes/__init__.py"
    assert version("annpipes") == annpipes.__version__


def test_what_is_no_python_names_the_same_version() -> None:
    assert RECIPE["context"]["version"] == annpipes.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == annpipes.__version__
    assert re.search(rf"^## {re.escape(annpipes.__version__)} \(", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_recipe_asks_for_what_the_package_and_its_command_ask_for() -> None:
    bounds = asked(RECIPE["requirements"]["run"])
    least, below = PROJECT["project"]["requires-python"].split(",")
    assert least == f">={RECIPE['context']['python_min']}"
    assert bounds == {
        *asked(PROJECT["project"]["dependencies"]),
        *asked(EXTRAS["cli"]),
        ("python", f">=${{{{ python_min }}}},{below}"),
    }


def test_it_keeps_what_extras_bring_to_their_bounds() -> None:
    beside = set.union(
        *(
            asked(EXTRAS[name])
            for name in ("accelerate", "dask", "lightning", "plot", "remote", "scvi", "transformers", "zarr")
        )
    )
    stricter = {name for name, _ in asked(PROJECT["project"]["dependencies"])}  # which zarr needs newer
    assert asked(RECIPE["requirements"]["run_constraints"]) == {pair for pair in beside if pair[0] not in stricter}


@pytest.mark.parametrize("template", ["wrong.yml", "slow.yml"])
def test_a_report_has_what_an_answer_needs(template: str) -> None:
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / template).read_text())
    labels = {part["attributes"].get("label"): part for part in form["body"]}
    for command in ("`annpipes info`", "`annpipes inspect --json FILE`"):
        assert labels[command]["validations"] == {"required": True}


def test_every_environment_of_tests_runs_for_every_change() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    jobs = {one["environment"]: one["python"] for one in workflow["jobs"]["tox"]["strategy"]["matrix"]["include"]}
    configured = ConfigParser(interpolation=None)
    configured.read(ROOT / "tox.ini")
    known = {section.removeprefix("testenv:") for section in configured.sections() if section.startswith("testenv:")}
    parts, by_hand = {"lint", "types", "docs", "examples", "tests"}, {"coverage", "quickstart"}  # of `ritual`
    assert set(jobs) == known - parts - by_hand
    for environment, python in jobs.items():
        bases = configured[f"testenv:{environment}"].get("base_python", "py311").split()
        assert f"py{python.replace('.', '')}" in bases
