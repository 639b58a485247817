"""What a benchmark found, as text and as plain values."""

from __future__ import annotations

import json
from dataclasses import replace

from bench_cases import COPY, DECODE, DENSIFY, DISK, case

from annpipes.tools.benching.results import Benchmark, BenchPeer

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
    assert "the kernel kept 97% of the file, so disk is the speed of the page cache" in kept
    assert "what the page cache kept is unknown" in unknown


def test_values_are_plain() -> None:
    values = json.loads(json.dumps(FOUND.to_dict()))
    assert values["cases"][1]["limits"][0] == {
        "name": "decode",
        "work": "inflating gzip",
        "cells_per_second": 108_000.0,
        "megabytes_per_second": 1310.0,
        "quick": False,
    }
    assert values["peers"][1]["speed"] is None
