"""A rewrite that is killed, fails or meets damage loses nothing and says why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import anndata
import h5py
import hdf5plugin  # noqa: F401 # registers the filters that plain anndata needs
import numpy as np
import pytest
from builders import write
from lives import Nursery
from rewritten_files import SMALL, assert_equal, cells, same_cells

import annpipes as ap
from annpipes import rewrite_shuffled
from annpipes.errors import StateError
from annpipes.stores import PartFile
from annpipes.stores.writing import datasets as writing
from annpipes.tools.rewriting import execution as _making

REWRITE = Path(__file__).parent / "jobs" / "rewrite.py"


def parts_in(folder: Path) -> dict[str, int]:
    """Finished parts, each with the time at which it was written."""
    found = {}
    for path in folder.glob("part-*.h5"):
        with suppress(FileNotFoundError):  # a rewrite that runs removes them once all is done
            found[path.name] = path.stat().st_mtime_ns
    return found


def test_ten_kills_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    source, output = cells(tmp_path / "in.h5ad", 30_000), tmp_path / "out.h5ad"
    folder, rng = tmp_path / "out.h5ad.unfinished", np.random.default_rng(0)
    kills, held = 0, {}
    with Nursery.open() as nursery:
        while kills < 10:
            life = nursery.begin(REWRITE, source, output, SMALL)
            while not life.ended() and not (folder / "job.json").exists():
                time.sleep(0.002)
            while not life.ended() and parts_in(folder).items() <= held.items():
                time.sleep(0.002)  # until it has made one part more
            time.sleep(rng.uniform(0, 0.03))
            if life.kill() == 0:
                break
            kills += 1
            if output.exists():  # complete, or it would not be there
                break
            found = parts_in(folder)
            assert held.items() <= found.items(), "a finished part was made again"
            held = found
    assert kills >= 3
    if not output.exists():
        done = rewrite_shuffled(source, output, memory=SMALL)
        assert done.reused_parts == len(held)
    same_cells(anndata.read_h5ad(output), anndata.read_h5ad(source))
    rewrite_shuffled(source, tmp_path / "undisturbed.h5ad", memory=SMALL)
    undisturbed = anndata.read_h5ad(tmp_path / "undisturbed.h5ad")
    assert list(anndata.read_h5ad(output).obs_names) == list(undisturbed.obs_names)


def test_a_part_that_was_broken_off_is_not_taken_for_a_finished_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = cells(tmp_path / "in.h5ad")
    monkeypatch.setattr(PartFile, "finish", lambda part: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        rewrite_shuffled(source, tmp_path / "out.h5ad", memory=SMALL)
    monkeypatch.undo()
    assert rewrite_shuffled(source, tmp_path / "out.h5ad", memory=SMALL).reused_parts == 0
    same_cells(anndata.read_h5ad(tmp_path / "out.h5ad"), anndata.read_h5ad(source))


@pytest.mark.parametrize("joined", [False, True])
def test_storage_chunks_of_parts_are_taken_over_as_they_are(
    tmp_path: Path, joined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [cells(tmp_path / f"{i}.h5ad", 12_000, seed=i) for i in range(1 + joined)]
    copied, copy = [], writing._copy
    monkeypatch.setattr(writing, "_copy", lambda *args: copied.append(args[-1]) or copy(*args))
    assert rewrite_shuffled(sources, tmp_path / "out.h5ad", memory="620MB").parts > 1
    with h5py.File(tmp_path / "out.h5ad") as file:
        data = file["X/data"]
        assert sum(copied) < len(data)  # of two datasets; the rest lies in whole storage chunks
        assert len(data) > 5 * data.chunks[0]


def test_parts_of_another_shuffle_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = cells(tmp_path / "in.h5ad", 200)
    monkeypatch.setattr("annpipes.tools.rewriting.make", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        rewrite_shuffled(source, tmp_path / "out.h5ad")
    monkeypatch.undo()
    with pytest.raises(StateError, match="seed was 0 and is 1"):
        rewrite_shuffled(source, tmp_path / "out.h5ad", seed=1)
    rewrite_shuffled(source, tmp_path / "out.h5ad")
    same_cells(anndata.read_h5ad(tmp_path / "out.h5ad"), anndata.read_h5ad(source))


@pytest.mark.parametrize("spoilt", ["", "{", "[]", '{"version": 4}', '{"version": 5, "attempt": 7, "belongs_to": {}}'])
def test_a_spoilt_record_is_refused(tmp_path: Path, spoilt: str) -> None:
    source = cells(tmp_path / "in.h5ad", 50)
    (tmp_path / "out.h5ad.unfinished").mkdir()
    (tmp_path / "out.h5ad.unfinished" / "job.json").write_text(spoilt)
    with pytest.raises(StateError, match="remove that folder"):
        rewrite_shuffled(source, tmp_path / "out.h5ad")
    assert not (tmp_path / "out.h5ad").exists()


def test_a_disk_that_fails_while_parts_are_put_together_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells of a failed write to the first who asks, and not to the last."""

    def failing(path: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(_making, "sync", failing)
    with pytest.raises(OSError, match="Input/output error"):
        rewrite_shuffled(cells(tmp_path / "in.h5ad", 500), tmp_path / "out.h5ad")
    assert not os.path.exists(tmp_path / "out.h5ad")


def test_damage_in_the_input_is_told_and_no_output_appears(tmp_path: Path) -> None:
    source = cells(tmp_path / "in.h5ad")
    with h5py.File(source, "r") as file:
        info = file["X/data"].id.get_chunk_info(1)
    with open(source, "r+b") as raw:
        raw.seek(info.byte_offset + info.size // 2)
        raw.write(b"\xff" * 64)
    with pytest.raises(ap.errors.DamageError, match="X/data"):
        rewrite_shuffled(source, tmp_path / "out.h5ad", memory=SMALL)
    assert not os.path.exists(tmp_path / "out.h5ad")


def test_a_cluster_makes_the_same_files(tmp_path: Path) -> None:
    """In a process of its own: Dask leaves threads and warnings of its own behind."""
    first, second = (cells(tmp_path / f"{i}.h5ad", 3000, seed=i) for i in range(2))
    fewer = anndata.read_h5ad(second)[:, 100:].copy()  # how many values a row keeps is known only from reading
    write(fewer, second, "gzip")
    jobs = {"one": [first], "two": [first, second]}
    program = (
        "import json, sys, annpipes\n"
        "from distributed import LocalCluster\n"
        "if __name__ == '__main__':\n"
        "    with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:\n"
        "        for name, data in json.loads(sys.argv[1]).items():\n"
        "            there = {'memory': '604MB', 'scheduler': cluster.scheduler_address}\n"
        "            annpipes.rewrite_shuffled(data, f'{name}-there.h5ad', **there)\n"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    files = {name: list(map(str, sources)) for name, sources in jobs.items()}
    subprocess.run([sys.executable, script, json.dumps(files)], cwd=tmp_path, check=True)
    for name, sources in jobs.items():
        rewrite_shuffled(sources, tmp_path / f"{name}-here.h5ad", memory=SMALL)
        there, here = (anndata.read_h5ad(tmp_path / f"{name}-{place}.h5ad") for place in ("there", "here"))
        assert list(there.obs_names) == list(here.obs_names)
        assert_equal(there.obs, here.obs)
        np.testing.assert_array_equal(there.X.toarray(), here.X.toarray())
