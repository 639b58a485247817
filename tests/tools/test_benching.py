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
from builders import adata_of, tiny, write
from scipy import sparse
from storage_files import create, csr_file, csr_of, dense_file, relayout
from storage_files import write as write_x

from annpipes.errors import DamageError, FieldError, FormatError, ParameterError, ParameterTypeError, SourceError
from annpipes.reporting import brief_time
from annpipes.stages.sources import IndexSource
from annpipes.stores import open_store
from annpipes.tools.benching import bench
from annpipes.tools.benching import cases as _trials
from annpipes.tools.benching.cases import Sample
from annpipes.tools.benching.results import BenchCase, BenchLimit, Benchmark, BenchPeer, binding, together
from annpipes.tools.benching.verdicts import conclude, find

DECODE = BenchLimit("decode", "inflating gzip", 108_000.0, 1310.0)
COPY = BenchLimit("copy", "copying", 1_000_000.0, 9000.0)
DENSIFY = BenchLimit("densify", "making batches dense", 200_000.0, 16_000.0)
HDF5 = BenchLimit("hdf5", "HDF5's own reading", 20_000.0, 200.0)
DISK = BenchLimit("disk", "the disk", 21_000.0, 215.0)


def case(
    cells_per_second: float,
    *limits: BenchLimit,
    order: str = "blocks",
    form: str = "csr",
    n_obs: int = 200_000,
    **changes: Any,
) -> BenchCase:
    """A case of a made-up file."""
    values = {
        "block_size": {"random": 1, "blocks": 64}.get(order, 16_384),
        "rows": 100_000,
        "turns": 3,
        "slowest": cells_per_second * 0.9,
        "fastest": cells_per_second * 1.1,
        "disk": None,
        "read_amplification": 1.0,
    }
    return BenchCase.of(
        n_obs, cells_per_second=cells_per_second, limits=limits, order=order, form=form, **{**values, **changes}
    )


# Arithmetic


def test_the_cores_do_one_work_after_the_other() -> None:
    assert together([DENSIFY, DENSIFY]) == pytest.approx(100_000)
    assert together([COPY]) == 1_000_000.0
    assert together([]) == float("inf")


@pytest.mark.parametrize(
    ("cells_per_second", "expected"),
    [
        (104_000, "decode"),
        (60_000, "decode"),  # 9.3 of 16.7 µs
        (30_000, "annpipes"),  # 10.3 of 33.3 µs are explained
        (500_000, "decode"),  # noise: faster than its limits
    ],
)
def test_what_takes_the_most_time_binds(cells_per_second: float, expected: str) -> None:
    assert binding(cells_per_second, [DECODE, COPY]) == expected


def test_a_case_follows_from_its_numbers() -> None:
    found = case(80_000.0, DECODE, COPY, n_obs=160_000)
    assert found.at_most == pytest.approx(1 / (1 / 108_000 + 1 / 1_000_000))
    assert found.share == pytest.approx(80_000 / found.at_most)
    assert found.epoch_seconds == 2.0
    assert found.limit("copy") is COPY
    assert found.limit("disk") is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "under 1 ms"),
        (0.0994, "99 ms"),
        (0.1, "0.1 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (89, "89 s"),
        (90, "1.5 min"),
        (3600, "60 min"),
        (5400, "1.5 h"),
        (400_000, "111 h"),
    ],
)
def test_times_are_brief(seconds: float, text: str) -> None:
    assert brief_time(seconds) == text


# The sentence of one order


@pytest.mark.parametrize(
    ("cases", "sentence"),
    [
        (
            [case(104_000, DECODE)],
            "Blocks of 64: inflating gzip is the limit, 104,000 of at most 108,000 cells/s.",
        ),
        (
            [case(104_000, DECODE), case(60_000, DECODE, DENSIFY, form="dense")],
            "Blocks of 64: inflating gzip is the limit, 104,000 of at most 108,000 cells/s as CSR batches, "
            "60,000 of at most 70,100 as dense batches.",
        ),
        (
            [case(800_000, COPY, order="random"), case(150_000, COPY, DENSIFY, order="random", form="dense")],
            "Random: for CSR batches copying is the limit, 800,000 of at most 1,000,000 cells/s; for dense batches "
            "making batches dense is the limit, 150,000 of at most 167,000 cells/s.",
        ),
        (
            [case(390_000, COPY, order="sequential")],
            "Sequential: annpipes itself is the limit, 390,000 cells/s (39% of 1,000,000).",
        ),
        (
            [case(110_000, DECODE)],
            "Blocks of 64: inflating gzip is the limit, 110,000 of about 108,000 cells/s.",
        ),
        (
            [case(15_000, HDF5)],
            "Blocks of 64: HDF5's own reading is the limit, 15,000 of at most 20,000 cells/s.",
        ),
    ],
)
def test_an_order_has_one_sentence_that_says_which_limit_binds(cases: list[BenchCase], sentence: str) -> None:
    assert find(cases) == sentence


def test_the_disk_binds_where_the_file_never_fits_into_memory() -> None:
    cases = [case(104_000, DECODE, disk=DISK), case(60_000, DECODE, DENSIFY, form="dense", disk=DISK)]
    assert find(cases, fits_memory=False) == (
        "Blocks of 64: the disk is the limit, as the file does not fit into memory: at most 21,000 cells/s (215 MB/s); "
        "from memory it would be 104,000."
    )
    assert "inflating gzip is the limit" in find(cases, fits_memory=True)
    assert "inflating gzip is the limit" in find(cases, fits_memory=None)


def test_a_disk_faster_than_reading_never_binds() -> None:
    assert "inflating gzip is the limit" in find(
        [case(104_000, DECODE, disk=replace(DISK, cells_per_second=2e5))], fits_memory=False
    )


# The conclusion


def test_compression_that_binds_is_the_files_fault() -> None:
    assert conclude([case(104_000, DECODE, COPY)]) == (
        "The file is the limit: inflating gzip takes most of the time. An uncompressed or LZ4 copy (annpipes shuffle) "
        "would not need it; without decoding, at most 1,000,000 cells/s from memory."
    )


def test_nobody_is_sent_from_lz4_to_lz4() -> None:
    lz4 = replace(DECODE, work="decoding shuffle + lz4", quick=True)
    assert "decoding shuffle + lz4 takes most of the time. An uncompressed copy (" in conclude(
        [case(104_000, lz4, COPY)]
    )


def test_copying_that_binds_is_the_machines_fault() -> None:
    assert conclude([case(900_000, COPY)]) == (
        "The machine is the limit: copying takes most of the time, and how the file is compressed has no part in it."
    )


def test_hdf5_that_binds_is_the_files_fault_with_the_reason() -> None:
    assert conclude([case(15_000, HDF5)], reason="filter lzf (32000) is decoded by HDF5 alone") == (
        "The file is the limit: HDF5 alone can read it (filter lzf (32000) is decoded by HDF5 alone), in one thread. "
        "A copy written by annpipes shuffle is read directly, by all cores."
    )


def test_annpipes_admits_to_be_the_limit() -> None:
    assert conclude([case(390_000, COPY)]) == (
        "annpipes itself is the limit (39% of what this machine could do at best): larger batches and chunks cost it "
        "less."
    )


def test_a_file_of_milliseconds_is_told_to_be_one() -> None:
    assert conclude([case(390_000, COPY, n_obs=700, rows=700)]) == (
        "Neither file nor machine is the limit: the whole file takes 2 ms, and most of that is starting a pass and "
        "handing out batches."
    )


def test_a_disk_that_binds_every_epoch_is_named() -> None:
    text = conclude([case(104_000, DECODE, disk=DISK)], fits_memory=False)
    assert text.startswith("The disk is the limit: put the file on a faster one")
    assert "first epoch" not in text


def test_a_disk_slower_than_reading_costs_the_first_epoch() -> None:
    assert conclude([case(104_000, DECODE, disk=DISK)]).endswith(
        "The first epoch, while the file is not in memory yet, takes at least 9.5 s: the disk gives 21,000 cells/s "
        "(215 MB/s)."
    )


def test_what_random_rows_cost_is_told_where_it_is_much() -> None:
    blocks, random = case(104_000, DECODE), case(13_000, DECODE, order="random", read_amplification=10.8)
    assert "Blocks of 64 are 8 times as fast as random rows, which decode 11 bytes for each one used." in conclude(
        [random, blocks]
    )
    assert "times as fast" not in conclude([replace(random, cells_per_second=90_000.0), blocks])


def test_what_dense_batches_cost_is_told_where_it_is_much() -> None:
    csr, dense = case(104_000, DECODE), case(52_000, DECODE, DENSIFY, form="dense")
    assert "Making batches dense costs 50% of the speed: take form='csr'" in conclude([csr, dense])
    assert "costs" not in conclude([csr, replace(dense, cells_per_second=100_000.0)])


def test_a_busy_machine_is_told_and_short_turns_are_not() -> None:
    assert conclude([case(104_000, DECODE, slowest=50_000.0)]).endswith("repeat this when it is quiet.")
    assert "quiet" not in conclude([case(104_000, DECODE, slowest=50_000.0, rows=700)])


# Text and values

FOUND = Benchmark(
    file="cells.h5ad",
    n_obs=200_000,
    n_vars=20_000,
    file_bytes=534_000_000,
    route="direct (gzip)",
    batch_size=256,
    chunk_size=16_384,
    machine="a processor, 2 cores, 25 GB",
    threads=2,
    cached_share=0.0,
    fits_memory=True,
    cases=(
        case(
            13_000, replace(DECODE, cells_per_second=14_000.0), COPY, order="random", disk=DISK, read_amplification=10.8
        ),
        case(104_000, DECODE, COPY),
        case(60_000, DECODE, COPY, DENSIFY, form="dense"),
    ),
    peers=(
        BenchPeer("anndata", "random", "csr", 1_300.0, 13_000.0, 10.0),
        BenchPeer("scdataset", note='not installed: pip install "scdataset==0.3.*"'),
    ),
    findings=("One sentence.", "Another one."),
    conclusion="What follows.",
)

TEXT = """\
cells.h5ad: 200,000 cells × 20,000 genes, 534 MB, X direct (gzip)

order         batches  cells/s  slowest–fastest  at most  reached  limit     epoch
random        csr       13,000    11,700–14,300   13,800      94%  decoding   15 s
blocks of 64  csr      104,000   93,600–114,000   97,500     107%  decoding  1.9 s
blocks of 64  dense     60,000    54,000–66,000   65,500      92%  decoding  3.3 s

Each limit alone, in cells/s (MB/s):
order                 disk         decoding            copying      making dense  decoded/used
random        21,000 (215)   14,000 (1,310)  1,000,000 (9,000)                 –          10.8
blocks of 64             –  108,000 (1,310)  1,000,000 (9,000)  200,000 (16,000)             1

peer       order   batches  cells/s  annpipes  times as fast
anndata    random  csr        1,300    13,000             10
scdataset                                                     not installed: pip install "scdataset==0.3.*"

One sentence.
Another one.

What follows.

a processor, 2 cores, 25 GB; 2 threads, batches of 256, chunks of 16,384; read from the page cache
  (disk: page cache dropped before)"""


def test_a_benchmark_prints_as_aligned_tables() -> None:
    assert str(FOUND) == TEXT


def test_no_peers_are_no_table() -> None:
    assert "times as fast" not in str(replace(FOUND, peers=()))


def test_a_kernel_that_kept_the_file_is_told() -> None:
    kept, unknown = (" ".join(str(replace(FOUND, cached_share=share)).split()) for share in (0.97, None))
    assert "the kernel kept 97% of the file, so disk is the page cache's speed" in kept
    assert "what the page cache kept is unknown" in unknown


def test_values_are_plain() -> None:
    values = json.loads(json.dumps(FOUND.to_dict()))
    assert values["cases"][1]["limits"][0] == {
        "name": "decode",
        "work": "inflating gzip",
        "cells_per_second": 108_000.0,
        "megabytes_per_second": 1310.0,
    }
    assert values["peers"][1]["speed"] is None


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
    with pytest.raises(ParameterTypeError, match=r"data must be the path of one \.h5ad file, got"):
        bench(data)


def test_many_files_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        write(tiny(3), tmp_path / f"{name}.h5ad")
    with pytest.raises(ParameterError, match=r"data must be one \.h5ad file, got 2 in .*: measure one of them"):
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
