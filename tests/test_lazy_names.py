"""What importing annpipes brings, and when."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import annpipes

HEAVY = {
    *("torch", "torchdata", "numpy", "scipy", "pandas", "numba", "anndata", "h5py", "matplotlib"),
    *("zarr", "numcodecs", "isal", "dask", "distributed", "fsspec", "obstore", "hdf5plugin"),
}
EDGES = {
    *("click", "matplotlib", "obstore", "distributed", "hdf5plugin", "lightning", "platformdirs", "scanpy", "scvi"),
    "annpipes.tools.cli",
    "annpipes.tools.quickstart",
}
COMMANDS = ([], ["inspect"], ["bench"], ["tune"], ["shuffle"], ["cache"], ["info"])


def printed(code: str, *arguments: str) -> str:
    """What a fresh process prints last."""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()[-1]


LOADED = f"print(sorted({{name.partition('.')[0] for name in sys.modules}} & {HEAVY!r}))"
RUN = f"""
import sys
from annpipes.__main__ import main
try:
    main()
except SystemExit as end:
    assert not end.code, end
{LOADED}
"""


@pytest.mark.parametrize("arguments", [*([*command, "-h"] for command in COMMANDS), ["--version"]], ids=" ".join)
def test_help_imports_nothing_that_takes_long(arguments: Sequence[str]) -> None:
    assert printed(RUN, *arguments) == "[]"


def test_importing_the_package_imports_nothing_that_takes_long() -> None:
    assert printed(f"import sys, annpipes\ndir(annpipes)\n{LOADED}\nassert 'click' not in sys.modules") == "[]"


def test_what_one_call_needs_is_imported_by_that_call() -> None:
    names = "import sys, annpipes\nfor name in annpipes.__all__: getattr(annpipes, name)"
    assert printed(f"{names}\nprint(sorted(sys.modules.keys() & {EDGES!r}))") == "[]"


def test_type_checkers_see_each_name_where_it_is_imported_from() -> None:
    tree = ast.parse(Path(annpipes.__file__).read_text())
    seen = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lazy = set(annpipes.__all__) - {"AnnpipesError", "errors"}
    assert seen.keys() == lazy
    for name in lazy - {"reports"}:
        assert seen[name] is not None
        assert getattr(annpipes, name) is getattr(importlib.import_module(str(seen[name])), name)


def test_every_name_is_listed_and_comes_with_a_star() -> None:
    assert set(annpipes.__all__) <= set(dir(annpipes))
    assert printed("from annpipes import *\nimport annpipes\nprint(set(annpipes.__all__) <= set(globals()))") == "True"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'annpipes' has no attribute 'Loaders'"):
        annpipes.Loaders  # noqa: B018
    assert not hasattr(annpipes, "__wrapped__")


@pytest.mark.parametrize(
    "first",
    [
        "import annpipes; annpipes.Batch",
        "from annpipes import IndexSource",
        "from annpipes.stages.sources import IndexSource",
        "import annpipes; annpipes.reports",
        "import pickle; pickle.loads(b'cannpipes.stages.sources\\nIndexSource\\n.')",
    ],
)
def test_whichever_name_comes_first_brings_the_verbs_of_all_stages(first: str) -> None:
    verbs = {"shuffle_blocks", "sort_within_chunks", "read_rows", "batch_rows", "transform", "collate_rows"}
    code = f"{first}\nfrom torch.utils.data import IterDataPipe\nprint({verbs!r} <= IterDataPipe.functions.keys())"
    assert printed(code) == "True"


def test_threads_may_ask_for_first_names_at_once() -> None:
    code = """
import annpipes
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as threads:
    got = list(threads.map(lambda name: getattr(annpipes, name), annpipes.__all__))
print(all(value is getattr(annpipes, name) for name, value in zip(annpipes.__all__, got, strict=True)))
"""
    assert printed(code) == "True"


WATCH = """
import json, sys, threading
import torch, torchdata.nodes, anndata, h5py, scipy.sparse, toolz, pandas, numba, isal, numcodecs.lz4
import numcodecs.zstd, numcodecs.blosc, numcodecs.shuffle, concurrent.futures.process, multiprocessing.managers
seen = []
def watch(event, details):
    if event.split(".")[0] in {"socket", "subprocess", "shutil", "tempfile"}:
        seen.append(event)
    # numba looks, as it decorates, whether its compiled code could be kept in __pycache__.
    path = str(details[0]) if event == "open" else ""
    if path and not path.endswith((".py", ".pyc", ".so", "__pycache__")) and ".pyc." not in path:
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
