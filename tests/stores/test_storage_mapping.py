"""A mapped file of which pages are gone reads as zeros, tells it, and ends no process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from changing_files import DRAWN, file_of
from storage_files import chunk_of, read_x

from annpipes.errors import ChangedError
from annpipes.stores import open_store
from annpipes.stores.bytes import local, mapping


class TestMapping:
    """The handler of SIGBUS, tried in processes of their own."""

    pytestmark = pytest.mark.skipif(not mapping.can_map(), reason="mappings are guarded on 64-bit Linux alone")

    BEGIN = """
import faulthandler, mmap, os, signal, sys
import numpy as np
from annpipes.stores.bytes.mapping import Mapping, can_map

def file(name):
    with open(name, "wb") as file:
        file.write(b"\\1" * 20_000)
    return os.open(name, os.O_RDONLY)

ours, theirs = file(sys.argv[1] + "/ours"), file(sys.argv[1] + "/theirs")
"""
    FOREIGN = """
other = np.frombuffer(mmap.mmap(theirs, 0, prot=mmap.PROT_READ), np.uint8)
os.truncate(sys.argv[1] + "/theirs", 10)
print("touching", flush=True)
other.sum()
"""
    OURS = """
mapped = Mapping(ours)
assert mapped.bytes().sum() == 20_000 and not mapped.lost
os.truncate(sys.argv[1] + "/ours", 10)
assert mapped.bytes().sum() <= 10 and mapped.lost  # what it had summed before it came to the second page
assert not mapped.bytes().any()
"""

    def run(self, folder: Path, *parts: str) -> subprocess.CompletedProcess[str]:
        script = "\n".join((self.BEGIN, *parts))
        return subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, timeout=100)

    def test_pages_that_are_gone_read_as_zeros(self, tmp_path: Path) -> None:
        ended = self.run(tmp_path, "assert can_map()", self.OURS)
        assert ended.returncode == 0, ended.stderr

    @pytest.mark.parametrize("before", ["", "faulthandler.enable()"])
    def test_a_fault_elsewhere_ends_the_process_as_it_did_before(self, tmp_path: Path, before: str) -> None:
        ended = self.run(tmp_path, before, "assert can_map()", self.OURS, self.FOREIGN)
        assert ended.returncode == -7, ended.stderr
        assert ended.stdout == "touching\n"
        assert ended.stderr.count("Fatal Python error") == bool(before)

    def test_a_handler_that_was_put_into_its_place_later_is_asked_after_it(self, tmp_path: Path) -> None:
        ended = self.run(tmp_path, "assert can_map()", "faulthandler.enable()", "can_map()", self.OURS, self.FOREIGN)
        assert ended.returncode == -7, ended.stderr
        assert ended.stdout == "touching\n"
        assert "Fatal Python error" in ended.stderr

    def test_a_signal_that_somebody_sends_ends_the_process(self, tmp_path: Path) -> None:
        ended = self.run(tmp_path, "assert can_map()", self.OURS, "os.kill(os.getpid(), signal.SIGBUS)", "print('on')")
        assert (ended.returncode, ended.stdout) == (-7, "")

    def test_a_child_is_guarded_too(self, tmp_path: Path) -> None:
        forked = "child = os.fork()\nif child:\n    sys.exit(os.waitpid(child, 0)[1] != 0)"
        ended = self.run(tmp_path, "assert can_map()", forked, self.OURS)
        assert ended.returncode == 0, ended.stderr

    def test_places_are_given_back(self, tmp_path: Path) -> None:
        path = file_of(tmp_path, "plain dense")
        for _ in range(1200):  # more than there are places
            opened = local.FileBytes(str(path))
            assert opened.mapped() is not None
            del opened

    def test_more_mappings_than_places_are_read_without(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = file_of(tmp_path, "plain dense")
        monkeypatch.setattr(mapping, "_free", type(mapping._free)())
        assert local.FileBytes(str(path)).mapped() is None
        assert np.array_equal(read_x(path, DRAWN), anndata.read_h5ad(path).X[DRAWN])


def test_a_file_that_is_emptied_just_before_it_is_mapped_is_told_as_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_of(tmp_path, "plain csr")
    store = open_store(path)
    store.check(["X"])
    begin = local.FileBytes._map

    def emptied_first(self: local.FileBytes) -> Any:
        os.truncate(path, 0)
        return begin(self)

    monkeypatch.setattr(local.FileBytes, "_map", emptied_first)
    with pytest.raises(ChangedError):
        store.read(chunk_of([1, 0]), ["X"])
