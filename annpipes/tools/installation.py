"""What annpipes runs with here: versions, system, cores, memory, and what of it works.

Only Python's own modules are imported, because this is used when something else is broken.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import annpipes
from annpipes.messages.brevity import brief_bytes
from annpipes.messages.showing import PAGE, Part, Prose, Shown, Table
from annpipes.tools.probing import ROUTES

__all__ = ["NEEDED", "OPTIONAL", "Installation", "Installed", "look_at_installation", "without_places"]

NEEDED: Mapping[str, str] = {
    "torch": "torch",
    "torchdata": "torchdata",
    "anndata": "anndata",
    "h5py": "h5py",
    "numpy": "numpy",
    "scipy": "scipy",
    "pandas": "pandas",
    "toolz": "toolz",
    "numba": "numba",
    "isal": "isal",
    "numcodecs": "numcodecs",
}
"""The module of each package that annpipes always needs."""

OPTIONAL: Mapping[str, tuple[str, str]] = {
    "click": ("click", "cli"),
    "hdf5plugin": ("hdf5plugin", "cli"),
    "matplotlib": ("matplotlib", "plot"),
    "zarr": ("zarr", "zarr"),
    "obstore": ("obstore", "remote"),
    "fsspec": ("fsspec", "remote"),
    "platformdirs": ("platformdirs", "remote"),
    "distributed": ("distributed", "dask"),
    "lightning": ("lightning", "lightning"),
    "scvi-tools": ("scvi", "scvi"),
    "accelerate": ("accelerate", "accelerate"),
    "transformers": ("transformers", "transformers"),
}
"""The module of each other package that annpipes uses, and the extra that brings it."""

_VARIABLES = (
    "ANNPIPES_NUM_THREADS",
    "HDF5_USE_FILE_LOCKING",
    "LOCAL_WORLD_SIZE",
    "NUMBA_CPU_NAME",
    "NUMBA_DISABLE_JIT",
    "OMP_NUM_THREADS",
)
"""What of the environment changes how annpipes runs, and names no place."""

_LONGEST = 100  # of what is told of an error
_SECONDS = 300  # after which a library hangs
_PATH = re.compile(r"""(?<!\w)(?:[A-Za-z]:|~)?(?:[\\/]+[^\s\\/'":;,()]+)+""")


@dataclass(frozen=True)
class Installed:
    """A package as it is here.

    Parameters
    ----------
    name
        Of the package.
    version
        Which one is installed; None without one.
    extra
        The extra of annpipes that brings it; "" for what annpipes always needs.
    error
        Why it cannot be imported; "" if it can.
    """

    name: str
    version: str | None
    extra: str
    error: str = ""

    @property
    def broken(self) -> bool:
        """Whether something is wrong, and not just left out."""
        return bool(self.error) if self.version else not self.extra

    def told(self) -> str:
        """What to say of it."""
        if self.version is None:
            return f"not installed: pip install 'annpipes[{self.extra}]'" if self.extra else "missing"
        return self.error or "works"


@dataclass(frozen=True)
class Installation(Shown):
    """What annpipes runs with; its ``str`` is what ``annpipes info`` prints.

    Parameters
    ----------
    annpipes, python, system
        The version of annpipes; implementation and version of Python; name, version, processor and C library of the
        system.
    cores, usable_cores, core_quota
        How many the machine has, how many this process may use, and how many cores' time its container is given; None
        for what is not known or not limited.
    memory, memory_limit
        Bytes that the machine has, and that the container may use.
    devices
        The accelerators that torch finds.
    environment
        Variables that change how annpipes runs.
    packages
        What annpipes uses.
    routes
        How X is read of small files, one for each way to store it, that were just written and read; or what failed.
    """

    annpipes: str
    python: str
    system: str
    cores: int | None
    usable_cores: int | None
    core_quota: float | None
    memory: int | None
    memory_limit: int | None
    devices: str
    environment: Mapping[str, str]
    packages: tuple[Installed, ...]
    routes: Mapping[str, str]

    @property
    def healthy(self) -> bool:
        """Whether all that annpipes needs can be imported, and nothing that is installed beside it is broken."""
        return not any(package.broken for package in self.packages)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values that JSON can hold."""
        return asdict(self)

    def __str__(self) -> str:
        return self.on(PAGE)

    def _shown(self) -> Sequence[Part]:
        broken = [package.name for package in self.packages if package.broken]
        return [
            Prose([f"annpipes {self.annpipes}, {self.python}, {self.system}", *self._machine()]),
            Table(
                ["package", "version", ""],
                [[package.name, package.version or "", package.told()] for package in self.packages],
            ),
            Table(["stored as", "X is read"], [[stored, route] for stored, route in self.routes.items()]),
            Prose([f"Broken: {', '.join(broken)}. Repair or reinstall them." if broken else "Nothing is broken."]),
        ]

    def _machine(self) -> Iterator[str]:
        quota = "" if self.core_quota is None else f", the time of {self.core_quota:g} in this container"
        limit = "" if self.memory_limit is None else f", {brief_bytes(self.memory_limit)} in this container"
        memory = "unknown" if self.memory is None else brief_bytes(self.memory)
        yield f"cores: {self.cores}, {self.usable_cores} for this process{quota}; memory: {memory}{limit}"
        yield f"accelerators that torch finds: {self.devices or 'none'}"
        if self.environment:
            yield f"set: {', '.join(f'{name}={value}' for name, value in self.environment.items())}"


def look_at_installation() -> Installation:
    """What annpipes runs with, each package tried in a process of its own if it ends the one that tries it."""
    packages = {**{name: (module, "") for name, module in NEEDED.items()}, **OPTIONAL}
    tried = dict(_tried([*(module for module, _ in packages.values()), ROUTES]))
    system = platform.system(), platform.release(), platform.machine(), *platform.libc_ver()
    routes = tried[ROUTES].get("found") or {"any": tried[ROUTES]["error"]}
    return Installation(
        annpipes=annpipes.__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=" ".join(filter(None, system)),
        cores=os.cpu_count(),
        usable_cores=_usable_cores(),
        core_quota=_core_quota(),
        memory=_memory(),
        memory_limit=_memory_limit(),
        devices=tried["torch"].get("found", {}).get("devices", ""),
        environment={name: os.environ[name] for name in _VARIABLES if os.environ.get(name)},
        packages=tuple(_installed(name, extra, tried[module]) for name, (module, extra) in packages.items()),
        routes={stored: without_places(route) for stored, route in routes.items()},
    )


def _installed(name: str, extra: str, tried: Mapping[str, Any]) -> Installed:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Installed(name, None, extra)
    return Installed(name, found, extra, without_places(tried.get("error", "")))


def _tried(names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What came of each try; where one ends the process, those after it have another."""
    left = list(names)
    while left:
        told, end = _run(left)
        answered = {line["tried"]: line for line in told if "tried" in line}
        yield from answered.items()
        left = left[len(answered) :]
        if left:
            yield left.pop(0), {"error": end}


def _run(names: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """The lines that a process writes as it tries these, and how it ended."""
    command = [sys.executable, "-P", "-m", "annpipes.tools.probing", *names]
    found_here = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # and nothing else
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, env=found_here)  # noqa: S603 (ourselves)
        output, end = ran.stdout, f"ends the process (exit code {ran.returncode})"
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        end = f"does not end within {_SECONDS} s"
    told = []
    for line in output.splitlines():
        with suppress(ValueError):
            told.append(json.loads(line))
    return [line for line in told if isinstance(line, dict)], end


def without_places(told: str) -> str:
    r"""The first line of an error, in which of each path only the last name is left: folders name people.

    >>> without_places("ImportError: /home/ann/venv/lib/libisal.so: undefined symbol: x\nmore")
    'ImportError: libisal.so: undefined symbol: x'
    """
    first = next(iter(told.splitlines()), "").replace(os.path.expanduser("~"), "~")  # its name may have spaces
    short = _PATH.sub(lambda found: re.split(r"[\\/]", found[0])[-1], first)
    return short if len(short) <= _LONGEST else f"{short[: _LONGEST - 1]}…"


def _usable_cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()  # macOS and Windows


def _core_quota() -> float | None:
    with suppress(OSError, ValueError):  # https://docs.kernel.org/admin-guide/cgroup-v2.html
        allowed, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(allowed) / int(period)  # "max" is no number
    return None


def _memory() -> int | None:
    with suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _memory_limit() -> int | None:
    with suppress(OSError, ValueError):
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    return None
