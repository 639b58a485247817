"""A pytest plugin that takes away what other systems than Linux lack, before annpipes is imported.

macOS has no affinity, no advice on files and no reading that never waits; mappings are guarded on Linux alone.
Windows has no ``pread`` and no ``fcntl`` either.
"""

from __future__ import annotations

import os
import platform
import sys

__all__ = ["LINUX", "POSIX", "remove"]

LINUX = ("sched_getaffinity", "posix_fadvise", "POSIX_FADV_DONTNEED", "preadv", "RWF_NOWAIT", "O_CLOEXEC")
"""Names of ``os`` that macOS lacks, or has without what Linux means by them."""

POSIX = (*LINUX, "pread", "sysconf")
"""Names that Windows lacks."""


def remove(names: tuple[str, ...]) -> None:
    for name in names:
        if hasattr(os, name):
            delattr(os, name)


def pytest_load_initial_conftests() -> None:
    """Before any conftest is imported, which imports annpipes."""
    import distributed  # noqa: F401
    import h5py  # noqa: F401
    import torch.multiprocessing  # noqa: F401 (what others import and need)

    assert "annpipes.stores" not in sys.modules
    system = os.environ["ANNPIPES_TESTED_AS"]
    platform.machine = lambda: "another machine"  # on which no mapping is guarded
    if system == "Windows":
        sys.modules["fcntl"] = None  # type: ignore[assignment]
    remove(POSIX if system == "Windows" else LINUX)
