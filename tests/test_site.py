"""The API page names what is public, and what its pages show exists."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from integrating import imported_if_there

import annpipes

DOCS = Path(__file__).parent.parent / "docs"
LISTS = tomllib.loads((DOCS / "lists.toml").read_text())


def listed() -> dict[str, list[str]]:
    """The names on the API page, for each module."""
    found: dict[str, list[str]] = {}
    module = ""
    for line in (DOCS / "api.md").read_text().splitlines():
        if said := re.match(r"\.\. (?:current|auto|)module:: (\S+)", line):
            module = said[1]
        elif name := re.fullmatch(r"   (\w+)", line):
            found.setdefault(module, []).append(name[1])
    return found


def exported(module: str) -> set[str]:
    """A module's ``__all__``, read from its source, since its framework may be missing."""
    spec = find_spec(module)
    assert spec is not None
    tree = ast.parse(Path(str(spec.origin)).read_text())
    assigned = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    return set(ast.literal_eval(assigned["__all__"]))


@pytest.mark.parametrize("module", listed())
def test_the_api_page_lists_each_public_name_once(module: str) -> None:
    public = exported(module)
    if module == "annpipes":
        public -= {"errors", "reports"}
    if module == "annpipes.errors":
        public -= set(annpipes.__all__)
    assert sorted(listed()[module]) == sorted(public)


def test_every_module_that_users_import_has_a_place_on_the_api_page() -> None:
    frameworks = {path.stem for path in (DOCS / "integrations").glob("*.md")}
    edges = {f"annpipes.integrations.{name}" for name in frameworks if find_spec(f"annpipes.integrations.{name}")}
    assert listed().keys() == {"annpipes", "annpipes.errors", "annpipes.plotting", "annpipes.reports", *edges}


@pytest.mark.parametrize("name", LISTS["members"])
def test_each_member_that_a_page_shows_exists(name: str) -> None:
    module, _, last = name.rpartition(".")
    assert last in listed()[module]
    shown = imported_if_there(module)
    for member in filter(None, LISTS["members"][name].split(", ")):
        set_in_init = f"self.{member}: " in inspect.getsource(getattr(shown, last))
        assert set_in_init or hasattr(getattr(shown, last), member) or member in getattr(shown, last).__annotations__


def linked(project: str) -> list[str]:
    """The names of another project that pages may link to."""
    lines = (DOCS / "inventories" / f"{project}.txt").read_text().splitlines()
    assert lines[:2] == ["# Sphinx inventory version 1", f"# Project: {project}"]
    return [line.split()[0] for line in lines[3:]]


@pytest.mark.parametrize("project", LISTS["projects"])
def test_the_names_of_a_project_begin_with_its_package_and_are_sorted(project: str) -> None:
    assert linked(project) == sorted(set(linked(project)))
    assert {name.partition(".")[0] for name in linked(project)} == {project} or project == "python"


def test_what_a_spelling_leads_to_is_linked() -> None:
    assert set(LISTS["spellings"].values()) <= {name for project in LISTS["projects"] for name in linked(project)}


def test_every_page_is_in_the_sidebar() -> None:
    trees = re.findall(r"```\{toctree\}(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
    written = [path.relative_to(DOCS) for suffix in ("md", "ipynb") for path in DOCS.rglob(f"*.{suffix}")]
    pages = {str(path.with_suffix("")) for path in written if path.parts[0] != "_build"} - {"index"}
    assert sorted(re.findall(r"^(?:.* <)?([\w/]+)>?$", "\n".join(trees), re.MULTILINE)) == sorted(pages)
