"""The shape of the package, read from its source: who imports whom, how long, and what is public."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest
from integrating import imported_if_there
from torch.utils.data import IterDataPipe

import annpipes
from annpipes import Transform, errors
from annpipes.stages.base import Stage
from annpipes.stores.codecs.registry import BY_NAME

ROOT = Path(annpipes.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
NAMES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES
}

LAYERS = [
    {"errors", "plans.sorting"},
    {"types"},
    {"tensors"},
    {"messages", "meters"},
    {"plans.rows", "plans.permutation", "plans.streams", "plans.state"},
    {"plans.base"},
    {"plans"},
    {"transforms"},
    {"stores"},
    {"stages.datapipes", "stages.verbs"},
    {"stages.graph"},
    {"stages.base"},
    {"stages.origins"},
    {"stages.classes", "stages.chaining"},
    {"stages"},
    {"running.ranks", "running.workers", "running.statistics", "running.resuming"},
    {"running.steps", "running.pool", "running.nodes"},
    {"running"},
    {"datasets", "streaming", "splitting"},
    {"tools.timing"},
    {"tools.diversity", "tools.speeds", "tools.keeping"},
    {"tools.inspecting", "tools.benching", "tools.tuning", "tools.rewriting", "tools"},
    {"tools.pictures"},
    {"reports", "plotting"},
    {"tools.cli"},
    {"integrations"},
    {"__main__"},
]
"""DESIGN §3 from the bottom up: a module imports from lower layers alone, or from its own room."""

ROOMS_OF_STORES = [
    {"indptr", "routes", "begun", "by_columns", "generics"},
    {"damage", "choices", "witness", "unknown", "columns", "series", "row_space", "compiled", "vocabularies"},
    {"refusals", "expressions", "bytes.mapping"},
    {"bytes"},
    {"codecs", "caching"},
    {"containers"},
    {"engine.pieces", "engine.pools", "engine.decoding"},
    {"engine.targets"},
    {"engine", "marks"},
    {"genes", "dense", "blocks", "tables", "surveying"},
    {"frame", "protocol", "gene_subsets", "gene_tables", "narrowing"},
    {"labels", "matrices", "base"},
    {"arrays", "request", "obs"},
    {"elements"},
    {"h5ad", "zarr", "answers"},
    {"memory"},
    {"opening"},
    {"collection.alignment", "collection.patterns", "collection.joined"},
    {"collection"},
    {"writing.inputs"},
    {"writing.carrying", "writing.gathering", "writing.datasets"},
    {"writing.parts"},
    {"writing", "describing", "checking", "limits"},
]
"""The same inside ``stores/``."""

PURE = {"plans", "types", "errors"}
"""Numbers only: no torch, no files."""

STORAGE = {"h5py", "anndata", "numba", "isal", "numcodecs", "pandas"}
"""What only stores know."""

FOREIGN = {"annpipes.tools.benching.peers", "annpipes.tools.quickstart"}
"""What runs other people's loaders, which want anndata's own objects, and what is a program of a user's."""

COMPILED = {"plans.sorting"}
"""What numba compiles beside stores: loops over numbers."""


def layer(module: str, layers: list[set[str]]) -> tuple[int, str]:
    """The number of a module's layer, and the room that it is there for: the longest name that it begins with."""
    found = [
        (len(room), number, room)
        for number, rooms in enumerate(layers)
        for room in rooms
        if f"{module}.".startswith(f"{room}.")
    ]
    if not found and module in HEADS:
        return -1, module  # may import nothing
    assert found, f"{module} belongs to no layer"
    return max(found)[1:]


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it, as full dotted names."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    if path == ROOT / "stages" / "verbs.py":  # it names stages for type checkers alone
        tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
    for node in ast.walk(tree):
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


def packages(name: str) -> set[str]:
    """The packages that a module imports; without numba where it may be."""
    return {module.split(".")[0] for module in imports(MODULES[name])} - ({"numba"} if name in COMPILED else set())


def own(path: Path) -> set[str]:
    """The modules of annpipes that a file imports, without ``annpipes.``."""
    return {name.removeprefix("annpipes.") for name in imports(path) if name.startswith("annpipes.")}


MODULES = {name.removeprefix("annpipes."): path for name, path in NAMES.items() if name != "annpipes"}
HEADS = {name for name in MODULES if MODULES[name].name == "__init__.py"}
STAGES = [name for name in MODULES if name.startswith("stages.") and layer(name, LAYERS)[1] == "stages"]


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name: str) -> None:
    mine, room = layer(name, LAYERS)
    for other in own(MODULES[name]):
        theirs, its_room = layer(other, LAYERS)
        assert theirs < mine or (its_room == room and not STAGES.count(name)), f"{name} imports {other}"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("stores.")])
def test_imports_go_one_way_inside_stores(name: str) -> None:
    mine, room = layer(name.removeprefix("stores."), ROOMS_OF_STORES)
    for other in own(MODULES[name]):
        if other.startswith("stores"):
            theirs, its_room = layer(other.removeprefix("stores."), ROOMS_OF_STORES)
            assert theirs < mine or its_room == room, f"{name} imports {other}"


def test_modules_make_no_circle() -> None:
    left = {name: own(path) - {name} for name, path in MODULES.items()}
    while free := [name for name, needed in left.items() if not needed & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"a circle among {sorted(left)}"


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_imports_another(stage: str) -> None:
    assert not own(MODULES[stage]) & set(STAGES)


@pytest.mark.parametrize("name", MODULES)
def test_only_stores_know_files_and_decoders(name: str) -> None:
    if not name.startswith("stores") and f"annpipes.{name}" not in FOREIGN:
        assert not packages(name) & STORAGE


@pytest.mark.parametrize("name", MODULES)
def test_the_core_is_numbers_alone(name: str) -> None:
    if name.split(".")[0] in PURE:
        assert not packages(name) & {"torch", "torchdata", *STORAGE}


@pytest.mark.parametrize("name", MODULES)
def test_one_module_knows_torchs_datapipes(name: str) -> None:
    machinery = {"torch.utils.data.datapipes.iter", "torch.utils.data.graph_settings", "torch.utils.data.graph"}
    text = MODULES[name].read_text()
    if name != "stages.datapipes":
        assert not imports(MODULES[name]) & machinery
        assert "import IterDataPipe" not in text.replace("annpipes.stages.datapipes import IterDataPipe", "")


@pytest.mark.parametrize("name", MODULES)
def test_nothing_but_a_store_looks_behind_the_door_of_stores(name: str) -> None:
    if not name.startswith("stores"):
        assert not {other for other in own(MODULES[name]) if other.startswith("stores.")}


def test_a_look_at_the_package_tells_its_rooms() -> None:
    entries = [entry.name for entry in ROOT.iterdir() if entry.name != "__pycache__"]
    assert len(entries) <= 20, sorted(entries)


@pytest.mark.parametrize("head", sorted(HEADS))
def test_the_head_of_a_room_lists_what_is_in_it(head: str) -> None:
    text = ast.get_docstring(ast.parse(MODULES[head].read_text())) or ""
    inside = {name for name in MODULES if name.rpartition(".")[0] == head}
    inside -= {
        type(codec).__module__.removeprefix("annpipes.") for codec in BY_NAME.values()
    }  # the registry finds them
    listed = {line.split("`")[1] for line in text.splitlines() if line.startswith("`")}
    assert listed == {name.rpartition(".")[2] for name in inside}


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
    module = imported_if_there(name)
    assert len(set(module.__all__)) == len(module.__all__)
    assert not [exported for exported in module.__all__ if not hasattr(module, exported)]


def test_what_the_package_exports_is_exported_by_the_module_that_makes_it() -> None:
    for exported in set(annpipes.__all__) - {"errors", "reports"}:
        value = getattr(annpipes, exported)
        assert exported in importlib.import_module(value.__module__).__all__
    assert annpipes.errors is errors


@pytest.mark.parametrize("name", NAMES)
def test_a_module_and_what_it_exports_never_share_a_name(name: str) -> None:
    assert name.split(".")[-1] not in imported_if_there(name).__all__ if name != "annpipes.__main__" else True


def test_every_stage_and_transform_is_exported_and_has_a_verb_of_its_own() -> None:
    verbs: dict[str, set[type]] = {}
    for name in ("transforms.base", "transforms.standard", *STAGES):
        module = importlib.import_module(f"annpipes.{name}")
        for exported in module.__all__:
            value = getattr(module, exported)
            if inspect.isclass(value) and issubclass(value, Stage | Transform):
                assert exported in annpipes.__all__
            if inspect.isclass(value) and issubclass(value, Stage) and value.verb:
                verbs.setdefault(value.verb, set()).add(value)
    assert verbs.keys() <= IterDataPipe.functions.keys()
    assert all(len(stages) == 1 for stages in verbs.values())


TESTS = sorted(Path(__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_a_file_of_tests_can_be_read_in_one_go_and_imports_no_other(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
    assert not [name for name in imports(path) if name.split(".")[-1].startswith("test_")]


def test_tests_mirror_the_rooms() -> None:
    here = Path(__file__).parent
    rooms = {str(path.parent.relative_to(here)) for path in TESTS}
    assert rooms - {".", "shared", "typing", "running/jobs", "tools/jobs", "stores/corpus"} <= {
        str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_dir()
    }
    assert len({path.name for path in TESTS}) == len(TESTS)
