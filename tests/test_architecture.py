"""The shape of the package, read from its source: who imports whom, how long, and what is public."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.data import IterDataPipe

import annpipes
from annpipes import Transform, errors
from annpipes.stages.base import Stage

ROOT = Path(annpipes.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
NAMES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES
}

STAGES = {
    *("sources", "mixing", "shuffling", "sampling", "grouping", "chunking", "reading", "pairing", "transforming"),
    "collating",
}
"""Stage modules; none imports another."""

LAYERS = [
    {"errors"},
    {"types"},
    {"_reprs", "_rows", "_states", "_reports"},
    {"_permutations"},
    {"_plans"},
    {"_samples", "_mixtures", "_groups"},
    {"_schedules"},
    {"transforms", "_store"},
    {"_stages"},
    STAGES,
    {"loaders", "datasets"},
    {"inspecting", "benching", "tuning", "rewriting"},
    {"plotting"},
    {"cli", "lightning", "scvi"},
    {"__main__"},
]
"""DESIGN §3 from the bottom up: a module imports from lower layers alone, or private helpers of its own layer."""

PURE = {"_rows", "_plans", "_samples", "_mixtures", "_groups", "_permutations", "_schedules", "types", "errors"}
"""Numbers only: no torch, no files."""

STORAGE = {"h5py", "anndata", "numba", "isal", "numcodecs", "pandas"}
"""What only the store knows."""

FOREIGN = {"annpipes.tools.benching.peers"}
"""Runs other people's loaders, which want anndata's own objects."""


def layer(module: str) -> int | None:
    """The number of a module's layer; None for a private helper that DESIGN does not name."""
    found = [number for number, names in enumerate(LAYERS) if module in names]
    return found[0] if found else None


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it, as full dotted names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            found |= {imported(node.module or "", alias.name) for alias in node.names}
    return found


def imported(module: str, name: str) -> str:
    """The module that ``from module import name`` reaches: a submodule, or the one that holds the name."""
    submodule = f"{module}.{name}"
    if submodule in NAMES and inspect.ismodule(getattr(importlib.import_module(module), name, None)):
        return submodule
    return module


def own(path: Path) -> set[str]:
    """The parts of annpipes that a file imports: the first name after ``annpipes``."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("annpipes.")}


def part(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


MODULES = {name: path for name, path in NAMES.items() if name != "annpipes"}
PUBLIC = [name for name in MODULES if not any(piece.startswith("_") for piece in name.split(".")[1:])]


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name: str) -> None:
    mine = layer(part(name))
    if mine is None:
        return
    for other in own(MODULES[name]) - {part(name)}:
        theirs = layer(other)
        assert theirs is None or theirs < mine, f"{name} imports {other}, which is not below it"


def test_helpers_that_the_design_does_not_name_make_no_circle() -> None:
    arrows: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        arrows.setdefault(part(name), set()).update(own(path) - {part(name)})
    left = dict(arrows)
    while free := [name for name, needed in left.items() if not needed & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"a circle among {sorted(left)}"


@pytest.mark.parametrize("stage", sorted(STAGES & {part(name) for name in MODULES}))
def test_no_stage_imports_another(stage: str) -> None:
    assert not own(ROOT / f"{stage}.py") & (STAGES - {stage})


@pytest.mark.parametrize("name", [name for name in MODULES if part(name) != "_store" and name not in FOREIGN])
def test_only_the_store_knows_files_and_decoders(name: str) -> None:
    assert not {module.split(".")[0] for module in imports(MODULES[name])} & STORAGE


@pytest.mark.parametrize("name", sorted(PURE))
def test_the_core_is_numbers_alone(name: str) -> None:
    path = ROOT / f"{name}.py"
    if path.exists():
        assert not {module.split(".")[0] for module in imports(path)} & {"torch", "torchdata", *STORAGE}
        assert "_store" not in own(path)


def test_the_store_knows_nothing_of_pipes() -> None:
    for path in (ROOT / "_store").glob("*.py"):
        assert not {module.split(".")[0] for module in imports(path)} & {"torchdata"}
        assert not own(path) & {*STAGES, "_stages", "_plans", "_schedules", "transforms", "loaders", "datasets"}


def test_nothing_but_the_store_itself_looks_behind_its_door() -> None:
    for name, path in MODULES.items():
        if part(name) != "_store":
            assert not [module for module in imports(path) if module.startswith("annpipes.stores.")], name


@pytest.mark.parametrize("name", NAMES)
def test_a_module_can_be_read_in_one_go(name: str) -> None:
    assert len(NAMES[name].read_text().splitlines()) <= 300


@pytest.mark.parametrize("name", NAMES)
def test_a_module_says_what_it_is(name: str) -> None:
    first = (ast.get_docstring(ast.parse(NAMES[name].read_text())) or "").splitlines()[:1]
    assert first
    assert first[0].endswith((".", ":"))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "annpipes.__main__"])
def test_all_names_exist_and_are_the_modules_own(name: str) -> None:
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    for exported in module.__all__:
        assert hasattr(module, exported), exported


def test_the_package_exports_what_its_modules_export() -> None:
    offered = {exported: name for name in PUBLIC for exported in importlib.import_module(name).__all__}
    for exported in set(annpipes.__all__) - {"errors"}:
        assert getattr(annpipes, exported) is getattr(importlib.import_module(offered[exported]), exported)
    assert annpipes.errors is errors


def test_every_stage_and_transform_is_exported() -> None:
    for name in PUBLIC:
        module = importlib.import_module(name)
        for exported in module.__all__:
            value = getattr(module, exported)
            if inspect.isclass(value) and issubclass(value, Stage | Transform):
                assert exported in annpipes.__all__
            assert exported != name.split(".")[-1], "a module and what it exports never share a name"


def test_every_stage_has_a_verb_of_its_own_that_chains_it() -> None:
    verbs: dict[str, set[type]] = {}
    for name in PUBLIC:
        for value in vars(importlib.import_module(name)).values():
            if inspect.isclass(value) and issubclass(value, Stage) and getattr(value, "verb", ""):
                verbs.setdefault(value.verb, set()).add(value)
    assert verbs.keys() <= IterDataPipe.functions.keys()
    assert all(len(stages) == 1 for stages in verbs.values())


WATCH = """
import json, sys, threading
import torch, torchdata.nodes, anndata, h5py, scipy.sparse, toolz, pandas, numba, isal, numcodecs.lz4
import numcodecs.zstd, numcodecs.blosc, numcodecs.shuffle, concurrent.futures.process, multiprocessing.managers
seen = []
def watch(event, details):
    if event.split(".")[0] in {"socket", "subprocess", "shutil", "tempfile"}:
        seen.append(event)
    # numba looks, as it decorates, whether its compiled code could be kept in __pycache__.
    if event == "open" and not str(details[0]).endswith((".py", ".pyc", ".so", "__pycache__")) and ".pyc." not in str(
        details[0]
    ):
        seen.append(f"open {details[0]}")
threads = threading.active_count()
sys.addaudithook(watch)
import annpipes
print(json.dumps([seen, threading.active_count() - threads]))
"""


def test_importing_opens_no_file_and_starts_no_thread(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", WATCH], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert ran.stdout.strip() == "[[], 0]"
    assert not list(tmp_path.iterdir())
