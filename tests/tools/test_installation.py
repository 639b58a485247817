"""`annpipes info`: what it says where all is well, and above all where something is broken."""

from __future__ import annotations

import getpass
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import annpipes
from annpipes.tools import installation
from annpipes.tools.installation import NEEDED, OPTIONAL, look_at_installation, without_places

PROJECT = tomllib.loads((Path(annpipes.__file__).parents[1] / "pyproject.toml").read_text())["project"]
DEVELOPMENT = {"all", "bench", "docs", "examples", "lint", "ray", "test"}


def info(folder: Path, *arguments: str, **modules: str) -> tuple[int, str]:
    """Exit code and output of the command, where these modules are what is given in place of what is installed."""
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    paths = os.pathsep.join([str(folder), str(Path(annpipes.__file__).parents[1])])
    command = [sys.executable, "-m", "annpipes", "info", *arguments]
    environment = {**os.environ, "PYTHONPATH": paths, "HOME": str(folder), "ANNPIPES_NUM_THREADS": "3"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    return ran.returncode, ran.stdout + ran.stderr


def names_of(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=! ]", requirement)[0] for requirement in requirements}


def test_it_asks_for_all_that_the_package_asks_for() -> None:
    extras = {name: asked for name, asked in PROJECT["optional-dependencies"].items() if name not in DEVELOPMENT}
    assert NEEDED.keys() == names_of(PROJECT["dependencies"])
    beside = set.union(*map(names_of, extras.values())) - NEEDED.keys() - {"annpipes"}
    assert OPTIONAL.keys() == beside
    assert all(name in names_of(extras[extra]) for name, (_, extra) in OPTIONAL.items())


def test_it_says_what_is_here() -> None:
    found = look_at_installation()
    assert found.annpipes == annpipes.__version__
    assert found.usable_cores == len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else True
    assert {package.name: package.version for package in found.packages if package.name in NEEDED} == {
        "torch": torch.__version__,
        "numpy": np.__version__,
        **{name: version(name) for name in NEEDED.keys() - {"torch", "numpy"}},
    }
    assert found.routes[".h5ad, none"] == "direct (uncompressed)"
    assert found.routes[".h5ad, gzip"].startswith("direct (")
    assert found.healthy
    assert json.loads(json.dumps(found.to_dict()))["routes"] == dict(found.routes)


BROKEN = "raise ImportError('/home/somebody/lib/libcuda.so.1: cannot open shared object file')"


def test_a_package_that_cannot_be_imported_is_named_and_the_others_are_tried(tmp_path: Path) -> None:
    code, output = info(tmp_path, isal=BROKEN, torchdata="import os; os._exit(139)")
    assert code == 1
    assert re.search(r"\nisal +\S+ +ImportError: libcuda.so.1: cannot open shared object file\n", output)
    assert re.search(r"\ntorchdata +\S+ +ends the process \(exit code 139\)\n", output)
    assert re.search(r"\nnumba +\S+ +works\n", output)
    assert "Broken: torchdata, isal. " in output
    assert re.search(r"\nany +ImportError: libcuda.so.1", output)  # no file is read without it


@pytest.mark.parametrize("numpy", [BROKEN, "import sys; sys.exit(1)"], ids=["raises", "exits"])
def test_it_needs_neither_numpy_nor_click(tmp_path: Path, numpy: str) -> None:
    code, output = info(tmp_path, "--json", numpy=numpy, click="raise ModuleNotFoundError('no click', name='click')")
    assert code == 1
    packages = {package["name"]: package for package in json.loads(output)["packages"]}
    assert packages["numpy"]["error"]
    assert packages["click"]["error"] == "ModuleNotFoundError: no click"
    assert packages["toolz"]["error"] == ""


def test_without_click_other_commands_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError('no click', name='click')")
    paths = os.pathsep.join([str(tmp_path), str(Path(annpipes.__file__).parents[1])])
    command = [sys.executable, "-m", "annpipes", "inspect", "cells.h5ad"]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert ran.returncode == 1
    assert ran.stderr.strip().startswith("the command needs click (no click): pip install 'annpipes[cli]'")


def test_nothing_of_it_names_a_person_or_a_folder(tmp_path: Path) -> None:
    home = tmp_path / "Ann Smith"
    home.mkdir()
    spoken = f"raise OSError('no {home}/venv/lib/x.so, nor C:\\\\Users\\\\Ann Smith\\\\x.dll')"
    _, output = info(home, numba=spoken)
    assert "OSError: no x.so" in output
    assert "set: ANNPIPES_NUM_THREADS=3" in output
    told = output.replace(without_places(spoken), "")
    for private in (str(home), str(tmp_path), getpass.getuser(), os.uname().nodename, sys.prefix):
        assert not re.search(rf"(?<!\w){re.escape(private)}(?!\w)", told)


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ("E: /opt/a/b/c.so: bad", "E: c.so: bad"),
        ("E: ~/venv/c.so (and C:\\Users\\ann\\d.dll)", "E: c.so (and d.dll)"),
        ("E: 'file:///home/ann/x.py', line 3\nmore", "E: 'file:x.py', line 3"),
        ("E: 12 cells/s, and/or none", "E: 12 cells/s, and/or none"),
        ("E" * 200, "E" * 99 + "…"),
    ],
)
def test_paths_lose_their_folders(told: str, left: str) -> None:
    assert without_places(told) == left


def test_a_library_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_SECONDS", 1e-3)
    tried: Any = dict(installation._tried(["json", "csv"]))
    assert tried == {name: {"error": "does not end within 0.001 s"} for name in ("json", "csv")}


@pytest.mark.parametrize("extra", sorted(PROJECT["optional-dependencies"].keys() - DEVELOPMENT))
def test_all_has_every_extra_that_is_not_for_development(extra: str) -> None:
    (everything,) = PROJECT["optional-dependencies"]["all"]
    assert extra in everything.removeprefix("annpipes[").removesuffix("]").split(",")
