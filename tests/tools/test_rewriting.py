"""Rewritten files hold what anndata reads from the inputs, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anndata
import h5py
import hdf5plugin  # noqa: F401 # registers the filters that plain anndata needs
import numpy as np
import pandas as pd
import pytest
from builders import adata_of, dense, tiny, write
from scipy import sparse

import annpipes as ap
from annpipes import rewrite_shuffled
from annpipes.errors import DiskSpaceError, ParameterError, StateError
from annpipes.stores import PartFile
from annpipes.stores.writing import datasets as writing
from annpipes.tools.rewriting import execution as _making

SMALL = "604MB"  # hardly more than the program itself needs: several parts even of small files


def cells(path: Path, n_obs: int = 6000, n_vars: int = 300, seed: int = 0, compression: Any = "gzip") -> Path:
    """Rows that differ, of uneven length, sorted by label."""
    rng = np.random.default_rng(seed)
    x = sparse.csr_matrix(rng.integers(1, 200, (n_obs, n_vars)) * (rng.random((n_obs, n_vars)) < 0.2))
    adata = anndata.AnnData(x.astype(np.float32))
    adata.obs_names = [f"{seed}-{i}" for i in range(n_obs)]
    adata.obs["number"] = np.arange(n_obs)
    adata.obs["kind"] = np.array(["a", "b", "c"])[np.arange(n_obs) * 3 // max(n_obs, 1)]
    return write(adata, path, compression)


def assert_equal(found: Any, expected: Any) -> None:
    """Values of ``uns`` and of tables alike."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_equal(found[key], expected[key])
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    else:
        np.testing.assert_array_equal(found, expected)


def same_cells(found: anndata.AnnData, expected: anndata.AnnData) -> None:
    """Every row of every field, by name."""
    names = expected.obs_names
    places = found.obs_names.get_indexer(names)
    assert len(found) == len(names)
    assert sorted(places) == list(range(len(names)))
    assert_equal(found.obs.loc[names], expected.obs)
    assert_equal(found.var, expected.var)
    assert found.X.dtype == expected.X.dtype
    for theirs, ours in [
        (expected.X, found.X),
        *((expected.layers[key], found.layers[key]) for key in expected.layers),
        *((expected.obsm[key], found.obsm[key]) for key in expected.obsm),
        *([(expected.raw.X, found.raw.X)] if expected.raw is not None else []),
    ]:
        np.testing.assert_array_equal(dense(ours)[places], dense(theirs))


@pytest.mark.parametrize("codec", ["lz4", "zstd", "gzip", "none"])
@pytest.mark.parametrize("x", ["csr", "dense"])
def test_every_field_of_every_row_is_kept(tmp_path: Path, x: str, codec: str) -> None:
    source = write(adata_of(x=x), tmp_path / "in.h5ad", "gzip")
    rewrite_shuffled(source, tmp_path / "out.h5ad", codec=codec)
    found, expected = (anndata.read_h5ad(path) for path in (tmp_path / "out.h5ad", source))
    same_cells(found, expected)
    assert list(found.obs_names) != list(expected.obs_names)
    assert not (tmp_path / "out.h5ad.unfinished").exists()


def test_real_cells_keep_what_stands_beside_their_rows(pbmc_folder: Path, tmp_path: Path) -> None:
    done = rewrite_shuffled(pbmc_folder / "pbmc.h5ad", tmp_path / "out.h5ad", codec="gzip")
    found, expected = (anndata.read_h5ad(path) for path in (tmp_path / "out.h5ad", pbmc_folder / "pbmc.h5ad"))
    same_cells(found, expected)
    assert_equal(dict(found.uns), dict(expected.uns))
    assert_equal(dict(found.varm), dict(expected.varm))
    assert_equal(found.raw.var, expected.raw.var)
    assert set(done.left_out) == {"obsp/connectivities", "obsp/distances"}


def test_parts_and_files_together_hold_every_row_once(tmp_path: Path) -> None:
    source = cells(tmp_path / "in.h5ad")
    done = rewrite_shuffled(source, tmp_path / "out.h5ad", rows_per_file=2500, memory=SMALL)
    assert [Path(file).name for file in done.files] == ["out-0.h5ad", "out-1.h5ad", "out-2.h5ad"]
    assert done.parts > 3
    parts = [anndata.read_h5ad(file) for file in done.files]
    assert [len(part) for part in parts] == [2500, 2500, 1000]
    same_cells(anndata.concat(parts, merge="same"), anndata.read_h5ad(source))
    assert {"a", "b", "c"} == set(parts[2].obs["kind"])  # sorted in the input


def test_equal_seeds_give_equal_orders(tmp_path: Path) -> None:
    source = cells(tmp_path / "in.h5ad", 500)
    names = {}
    for name, seed in {"a": 0, "b": 0, "c": 1}.items():
        rewrite_shuffled(source, tmp_path / f"{name}.h5ad", seed=seed)
        names[name] = list(anndata.read_h5ad(tmp_path / f"{name}.h5ad").obs_names)
    assert names["a"] == names["b"] != names["c"]


def test_an_output_of_before_is_not_taken_for_this_one(tmp_path: Path) -> None:
    source = cells(tmp_path / "in.h5ad", 500)
    names = []
    for seed in (0, 1):
        rewrite_shuffled(source, tmp_path / "out.h5ad", seed=seed, overwrite=True)
        names.append(list(anndata.read_h5ad(tmp_path / "out.h5ad").obs_names))
    assert names[0] != names[1]


def test_rows_of_a_label_stand_together_and_are_shuffled(tmp_path: Path) -> None:
    source = cells(tmp_path / "in.h5ad", 5000)  # labels end within parts
    rewrite_shuffled(source, tmp_path / "out.h5ad", groupby="kind", memory=SMALL)
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    same_cells(found, anndata.read_h5ad(source))
    assert list(found.obs["kind"]) == sorted(found.obs["kind"])
    assert (np.diff(found.obs["number"]) == 1).mean() < 0.1


def test_files_with_other_genes_and_labels_are_joined_as_anndata_does(tmp_path: Path) -> None:
    first, second = (anndata.read_h5ad(cells(tmp_path / f"{i}.h5ad", 1500, seed=i)) for i in range(2))
    second = second[:, list(range(200, 40, -1))].copy()
    second.obs["kind"] = second.obs["kind"].cat.rename_categories({"a": "z"})
    write(second, tmp_path / "1.h5ad", "gzip")
    rewrite_shuffled([tmp_path / "0.h5ad", tmp_path / "1.h5ad"], tmp_path / "out.h5ad", memory=SMALL)
    expected = anndata.concat([first, second])
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert set(found.obs["kind"].cat.categories) == {"a", "b", "c", "z"}
    found.obs["kind"], expected.obs["kind"] = found.obs["kind"].astype(str), expected.obs["kind"].astype(str)
    same_cells(found[:, expected.var_names].copy(), expected)


def test_numbers_here_and_labels_there_become_strings(tmp_path: Path) -> None:
    for number, values in enumerate([pd.Categorical(["a", None, "b"]), [1.5, np.nan, 2.0]]):
        adata = tiny(3)
        adata.obs_names = [f"{number}-{i}" for i in range(3)]
        adata.obs["mixed"] = values
        write(adata, tmp_path / f"{number}.h5ad")
    rewrite_shuffled([tmp_path / "0.h5ad", tmp_path / "1.h5ad"], tmp_path / "out.h5ad")
    found = anndata.read_h5ad(tmp_path / "out.h5ad").obs["mixed"].sort_index()
    assert found.astype(str).tolist() == ["a", "", "b", "1.5", "", "2.0"]


@pytest.mark.parametrize("n_obs", [0, 1])
def test_no_rows_or_one(tmp_path: Path, n_obs: int) -> None:
    source = write(tiny(n_obs), tmp_path / "in.h5ad")
    rewrite_shuffled(source, tmp_path / "out.h5ad")
    assert anndata.read_h5ad(tmp_path / "out.h5ad").shape == (n_obs, 3)


def test_narrower_types_are_refused_where_a_value_would_change(tmp_path: Path) -> None:
    source = cells(tmp_path / "in.h5ad", 200)
    rewrite_shuffled(source, tmp_path / "out.h5ad", dtype="uint8")
    found, expected = anndata.read_h5ad(tmp_path / "out.h5ad"), anndata.read_h5ad(source)
    assert found.X.dtype == np.uint8
    assert (found[expected.obs_names].X != expected.X).nnz == 0
    with pytest.raises(ParameterError, match=r"int8 cannot hold .* of X, row \d+: choose a wider one"):
        rewrite_shuffled(source, tmp_path / "narrow.h5ad", dtype="int8")
    assert not (tmp_path / "narrow.h5ad").exists()


def test_what_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = cells(tmp_path / "in.h5ad", 200)
    (tmp_path / "there.h5ad").touch()
    for output, options, message in [
        ("there.h5ad", {}, "is there already"),
        ("in.h5ad", {}, "is an input"),
        ("out.h5", {}, "must end in .h5ad"),
        ("out.h5ad", {"memory": "100MB"}, "memory must be at least"),
        ("out.h5ad", {"codec": "rar"}, "codec must be one of"),
    ]:
        with pytest.raises(ParameterError, match=message):
            rewrite_shuffled(source, tmp_path / output, **options)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(DiskSpaceError, match="has 10 B free"):
        rewrite_shuffled(source, tmp_path / "out.h5ad")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.h5ad", "there.h5ad"]


RUN = "import sys, annpipes; annpipes.rewrite_shuffled(sys.argv[1], sys.argv[2], memory='604MB')"


def parts_in(folder: Path) -> dict[str, int]:
    """Finished parts, each with the time at which it was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.h5")}


def test_ten_kills_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    source, output = cells(tmp_path / "in.h5ad", 30_000), tmp_path / "out.h5ad"
    folder, rng = tmp_path / "out.h5ad.unfinished", np.random.default_rng(0)
    kills, held = 0, {}
    while kills < 10:
        process = subprocess.Popen([sys.executable, "-c", RUN, source, output])
        while process.poll() is None and not (folder / "job.json").exists():
            time.sleep(0.002)
        while process.poll() is None and parts_in(folder).items() <= held.items():
            time.sleep(0.002)  # until it has made one part more
        time.sleep(rng.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
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


def test_blocks_of_a_result_are_four_times_as_long_unless_labels_stand_together(tmp_path: Path) -> None:
    source = cells(tmp_path / "in.h5ad", 2000, 1500)
    rewrite_shuffled(source, tmp_path / "mixed.h5ad")
    rewrite_shuffled(source, tmp_path / "grouped.h5ad", groupby="kind")
    mixed, grouped = (ap.IndexSource(tmp_path / f"{name}.h5ad") for name in ("mixed", "grouped"))
    assert mixed.plan.block_size == 4096
    assert "4 times two storage chunks" in mixed.block_reason
    assert "shuffled already" in mixed.block_reason
    assert grouped.plan.block_size == 1024
    assert ap.IndexSource([tmp_path / "mixed.h5ad", tmp_path / "grouped.h5ad"]).plan.block_size == 4096
    loader = ap.stream(tmp_path / "mixed.h5ad", 64, fields=["X", "obs/number"])
    assert sorted(number for batch in loader for number in batch["obs_number"].tolist()) == [*range(2000)]


@pytest.mark.parametrize("mark", ["no JSON", "[1]", 7])
def test_a_strange_mark_is_no_mark(tmp_path: Path, mark: Any) -> None:
    source = cells(tmp_path / "in.h5ad", 50)
    advised = ap.IndexSource(source).block_reason
    with h5py.File(source, "r+") as file:
        file.attrs["annpipes-shuffled"] = mark
    assert ap.IndexSource(source).block_reason == advised


def test_parts_are_drawn_from_many_blocks(tmp_path: Path) -> None:
    """Blocks are longer than those to train with, unless a part would then be of few."""
    source = cells(tmp_path / "in.h5ad", 6000, compression=None)
    advised = ap.IndexSource(source).plan.block_size
    for name, memory in {"large": "2GB", "small": SMALL}.items():
        done = rewrite_shuffled(source, tmp_path / f"{name}.h5ad", memory=memory)
        with h5py.File(tmp_path / f"{name}.h5ad") as file:
            size = json.loads(file.attrs["annpipes-shuffled"])["block_size"]
        rows = 6000 / done.parts
        assert size == max(advised, min(4 * advised, rows // 64))


def test_a_cluster_makes_the_same_files(tmp_path: Path) -> None:
    """In a process of its own: Dask leaves threads and warnings of its own behind."""
    first, second = (cells(tmp_path / f"{i}.h5ad", 3000, seed=i) for i in range(2))
    fewer = anndata.read_h5ad(second)[:, 100:].copy()  # how many values a row keeps is known only from reading
    write(fewer, second, "gzip")
    program = (
        "import sys, annpipes\n"
        "from distributed import LocalCluster\n"
        "if __name__ == '__main__':\n"
        "    with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:\n"
        "        *data, output = sys.argv[1:]\n"
        "        annpipes.rewrite_shuffled(data, output, memory='604MB', scheduler=cluster.scheduler_address)\n"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    for name, sources in {"one": [first], "two": [first, second]}.items():
        subprocess.run([sys.executable, script, *sources, tmp_path / f"{name}-there.h5ad"], check=True)
        rewrite_shuffled(sources, tmp_path / f"{name}-here.h5ad", memory=SMALL)
        there, here = (anndata.read_h5ad(tmp_path / f"{name}-{place}.h5ad") for place in ("there", "here"))
        assert list(there.obs_names) == list(here.obs_names)
        assert_equal(there.obs, here.obs)
        np.testing.assert_array_equal(there.X.toarray(), here.X.toarray())
