"""A check in a process of its own finds the same, and survives a crash of HDF5."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest
from builders import tiny, write
from storage_files import csr_file

from annpipes.errors import SourceError
from annpipes.tools.inspecting import check
from annpipes.tools.inspecting import isolation as _apart


def told_crashed(number: int, progress: Any) -> None:
    progress(number, 10)
    os.kill(os.getpid(), signal.SIGSEGV)


def told_failed(number: int, progress: Any) -> None:
    raise SourceError(f"no file {number}")


def test_it_finds_the_same(tmp_path: Path) -> None:
    path = csr_file(tmp_path / "cells.h5ad", chunks=16, compression="gzip")
    with h5py.File(path, "r+") as file:
        file["X/indices"][30] = -1
    seen: list[tuple[int, int]] = []
    assert check(path, own_process=True, progress=lambda *step: seen.append(step)) == check(path)
    assert seen
    assert seen[-1][0] == seen[-1][1]


def test_a_crash_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    with pytest.raises(_apart.CrashError, match="signal 11"):
        _apart.apart(told_crashed, 3, progress=lambda *step: seen.append(step))
    assert seen == [(3, 10)]
    monkeypatch.setattr(_apart, "check_file", told_crashed)
    report = check(write(tiny(3), tmp_path / "cells.h5ad"), own_process=True)
    assert not report.healthy
    assert [str(one) for one in report.damage] == ["file: reading it crashes HDF5 (signal 11)"]


def test_errors_come_across() -> None:
    with pytest.raises(SourceError, match="no file 3"):
        _apart.apart(told_failed, 3, progress=lambda *step: None)


def test_a_script_that_is_not_guarded_is_told_so_and_the_file_is_not_blamed(tmp_path: Path) -> None:
    path = write(tiny(3), tmp_path / "cells.h5ad")
    script = tmp_path / "script.py"
    script.write_text(f"import annpipes\nprint(annpipes.check({str(path)!r}, own_process=True))\n")
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert "WorkerError" in ran.stderr
    assert "if __name__ == '__main__':" in ran.stderr
    assert "NOT INTACT" not in ran.stdout
