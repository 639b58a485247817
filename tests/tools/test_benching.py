"""What a benchmark says: its sentences from made-up numbers, and all of it on small files of every kind."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import hdf5plugin
import numpy as np
import pytest
from bench_cases import DISK
from builders import adata_of, tiny, write
from scipy import sparse
from storage_files import create, csr_file, csr_of, dense_file, relayout
from storage_files import write as write_x

from annpipes.errors import DamageError, FieldError, FormatError, ParameterError, ParameterTypeError, SourceError
from annpipes.stages.sources import IndexSource
from annpipes.stores import open_store
from annpipes.tools.benching import bench
from annpipes.tools.benching import cases as _trials
from annpipes.tools.benching.cases import Sample
from annpipes.tools.benching.results import Benchmark, BenchPeer

# Text and values


# Samples


@pytest.mark.parametrize("order", ["random", "blocks", "sequential"])
@pytest.mark.parametrize("n_obs", [1, 40])
def test_a_sample_of_a_small_file_is_all_of_it(order: str, n_obs: int, tmp_path: Path) -> None:
    path = write(tiny(n_obs), tmp_path / "cells.h5ad")
    sample = Sample.of(str(path), IndexSource(path), order, 8, 1000)
    drawn = np.concatenate([chunk.drawn for chunk in sample.chunks])
    assert sorted(drawn.tolist()) == list(range(n_obs))
    assert (drawn.tolist() == list(range(n_obs))) == (order == "sequential" or n_obs == 1)


@pytest.mark.parametrize("order", ["random", "blocks", "sequential"])
def test_the_limits_are_given_the_rows_that_the_loader_reads(order: str, numbered: Path) -> None:
    sample = Sample(str(numbered), open_store(numbered), order, {"random": 1, "blocks": 4}.get(order, 16), 8, 16, 20)
    rows = [int(row) for batch in sample.loader("dense") for row in batch["X"][:, 0] / 100]
    assert rows == np.concatenate([chunk.drawn for chunk in sample.chunks]).tolist()
    assert 20 <= len(set(rows)) == len(rows) < 40


# The whole


def check(found: Benchmark, forms: tuple[str, ...]) -> Benchmark:
    """What every benchmark has, whatever the file."""
    orders = ("random", "blocks", "sequential")
    assert [(case.order, case.form) for case in found.cases] == [(order, form) for order in orders for form in forms]
    for each in found.cases:
        assert 0 < each.slowest <= each.cells_per_second <= each.fastest
        assert {"densify"} & {limit.name for limit in each.limits} == (
            {"densify"} if forms == ("csr", "dense") and each.form == "dense" else set()
        )
        assert each.binding in {"annpipes", *(limit.name for limit in each.limits)}
    assert [sentence.split(":")[0].split()[0] for sentence in found.findings] == ["Random", "Blocks", "Sequential"]
    json.dumps(found.to_dict(), allow_nan=False)
    assert found.conclusion in " ".join(str(found).split())
    return found


def limits_of(found: Benchmark) -> set[str]:
    return {limit.name for each in found.cases for limit in (*each.limits, each.disk) if limit}


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ({}, {"copy", "disk", "densify"}),
        ({"compression": "gzip"}, {"decode", "copy", "disk", "densify"}),
        (hdf5plugin.Blosc(), {"decode", "copy", "disk", "densify"}),
        ({"compression": "lzf"}, {"hdf5", "densify"}),
    ],
)
def test_a_sparse_file_has_the_limits_of_its_storage(tmp_path: Path, options: Any, limits: set[str]) -> None:
    found = check(bench(csr_file(tmp_path / "cells.h5ad", chunks=10, **options), seconds=0.01), ("csr", "dense"))
    assert limits_of(found) == limits


@pytest.mark.parametrize(
    ("options", "limits"),
    [({}, {"copy", "disk"}), ({"compression": "gzip"}, {"decode", "copy", "disk"}), ({"compression": "lzf"}, {"hdf5"})],
)
def test_a_dense_file_has_dense_batches_alone(tmp_path: Path, options: Any, limits: set[str]) -> None:
    found = check(bench(dense_file(tmp_path / "cells.h5ad", chunks=(4, 9), **options), seconds=0.01), ("dense",))
    assert limits_of(found) == limits


def test_real_cells_are_measured_against_every_peer(pbmc_folder: Path) -> None:
    path, seen = pbmc_folder / "pbmc.h5ad", []
    found = check(bench(path, seconds=0.02, against="installed", progress=lambda *step: seen.append(step)), ("dense",))
    assert (found.file, found.n_obs, found.n_vars) == (str(path), 700, 765)
    assert found.file_bytes == os.path.getsize(path)
    assert [(peer.name, peer.order, peer.note) for peer in found.peers] == [
        (name, order, "")
        for order in ("random", "blocks", "sequential")
        for name in ("anndata", "scdataset", "annloader")
    ]
    assert seen == [(step, 15) for step in range(16)]


def test_a_peer_that_is_missing_is_told_once(numbered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = BenchPeer("scdataset", note="not installed: pip install it")
    monkeypatch.setattr(_trials, "compare", lambda name, task: missing)
    assert bench(numbered, seconds=0.01, against="scdataset").peers == (missing,)


def test_mixed_routes_are_measured(tmp_path: Path) -> None:
    path = csr_file(tmp_path / "cells.h5ad", chunks=10, compression="gzip")
    relayout(path, "X/indices", create(compression="lzf", chunks=10))
    found = check(bench(path, seconds=0.01), ("csr", "dense"))
    assert limits_of(found) == {"hdf5", "decode", "copy", "densify"}


def test_one_cell_is_a_file(tmp_path: Path) -> None:
    found = check(bench(write(adata_of(1), tmp_path / "cell.h5ad"), seconds=0.01), ("csr", "dense"))
    assert {each.rows for each in found.cases} == {1}


def test_cells_without_values_are_measured(tmp_path: Path) -> None:
    path = write_x(tmp_path / "zeros.h5ad", csr_of(np.zeros((30, 4), np.float32)))
    found = check(bench(path, seconds=0.01), ("csr", "dense"))
    assert {limit.name for each in found.cases if each.form == "csr" for limit in each.limits} == set()


def test_batches_larger_than_the_file_and_chunks_smaller_than_a_batch_work(numbered: Path) -> None:
    found = check(bench(numbered, batch_size=1000, chunk_size=1, seconds=0.01), ("dense",))
    assert found.chunk_size == 1000


def test_an_odd_name_is_no_obstacle(tmp_path: Path) -> None:
    path = write(tiny(5), tmp_path / "cells [1] é*.h5ad")
    assert check(bench(path, seconds=0.01), ("dense",)).file == str(path)


def test_the_file_can_be_replaced_afterwards(tmp_path: Path) -> None:
    path = write(tiny(5), tmp_path / "cells.h5ad")
    bench(path, seconds=0.01, against=["anndata", "annloader"])
    assert bench(write(tiny(9), path), seconds=0.01).n_obs == 9


def test_a_disk_that_seeks_for_each_row_reads_fewer_rows(numbered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        _trials.Cold,
        "__init__",
        lambda self, sample, seconds: vars(self).update(kept=0.0, limit=replace(DISK, cells_per_second=1.0)),
    )
    found = bench(numbered, batch_size=8, chunk_size=32, seconds=0.01)
    assert {each.rows for each in found.cases if each.order == "random"} == {8}


# What is refused


def test_no_cells_are_nothing_to_measure(tmp_path: Path) -> None:
    path = write(tiny(0), tmp_path / "none.h5ad")
    with pytest.raises(FormatError, match=r"none\.h5ad has no cells"):
        bench(path)


def test_columns_are_refused_with_the_line_that_converts_them(tmp_path: Path) -> None:
    path = write_x(tmp_path / "columns.h5ad", sparse.csc_matrix(np.eye(4, dtype=np.float32)))
    with pytest.raises(FormatError, match=r"\(CSC\).*tocsr\(\)"):
        bench(path)


def test_a_file_without_x_is_refused(tmp_path: Path) -> None:
    path = write(anndata.AnnData(obs=adata_of().obs[[]]), tmp_path / "obs.h5ad")
    with pytest.raises(FieldError, match="no field 'X'"):
        bench(path)


@pytest.mark.parametrize("data", [tiny(3), ["a.h5ad", "b.h5ad"], None])
def test_what_is_no_path_is_refused(data: Any) -> None:
    with pytest.raises(ParameterTypeError, match=r"data must be the path or address of one file, got"):
        bench(data)


def test_many_files_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        write(tiny(3), tmp_path / f"{name}.h5ad")
    with pytest.raises(ParameterError, match=r"data must be one file, got 2 in .*: measure one of them"):
        bench(str(tmp_path / "*.h5ad"))


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(SourceError, match=r"no file 'absent\.h5ad'"):
        bench("absent.h5ad")


def test_damage_is_an_error_and_no_speed(tmp_path: Path) -> None:
    path = csr_file(tmp_path / "cells.h5ad", chunks=10, compression="gzip")
    with open(path, "r+b") as file:
        content = file.read()
        file.seek(content.index(b"\x78\x5e", len(content) // 4))
        file.write(b"\x00" * 8)
    with pytest.raises(DamageError, match=r"cells\.h5ad"):
        bench(path, seconds=0.01)


@pytest.mark.parametrize(
    ("parameters", "kind", "message"),
    [
        ({"batch_size": 0}, ParameterError, "batch_size must be at least 1, got 0"),
        ({"chunk_size": 1.5}, ParameterTypeError, "chunk_size must be an integer, got 1.5"),
        ({"seconds": 0}, ParameterError, "seconds must be more than 0, got 0"),
        ({"seconds": float("nan")}, ParameterError, "seconds must be more than 0, got nan"),
        ({"seconds": "long"}, ParameterTypeError, "seconds must be a number, got 'long'"),
        ({"against": "everybody"}, ParameterError, "against must be 'installed' or some of"),
    ],
)
def test_parameters_are_checked_at_once(
    parameters: dict[str, Any], kind: type[Exception], message: str, numbered: Path
) -> None:
    with pytest.raises(kind, match=message):
        bench(numbered, **parameters)
