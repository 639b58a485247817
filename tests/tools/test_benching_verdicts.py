"""Which limit binds, and what follows from it: sentences from numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench_cases import COPY, DECODE, DENSIFY, DISK, case

from annpipes.messages.brevity import brief_time
from annpipes.tools.benching.bounds import BenchCase, BenchLimit, binding, together
from annpipes.tools.benching.verdicts import conclude, find

NETWORK = BenchLimit("network", "the network", 40_000.0, 80.0)
HDF5 = BenchLimit("hdf5", "HDF5's own reading", 20_000.0, 200.0)


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


@pytest.mark.parametrize(
    ("cells_per_second", "expected"),
    [
        (39_000, "network"),
        (21_000, "network"),  # 25 of 48 µs
        (15_000, "annpipes"),  # 25 of 67 µs are explained
        (90_000, "network"),  # it was faster than when it was measured
    ],
)
def test_cores_work_while_the_network_is_waited_for(cells_per_second: float, expected: str) -> None:
    assert binding(cells_per_second, [DECODE, COPY], NETWORK) == expected


def test_a_network_that_is_faster_than_the_cores_is_no_limit() -> None:
    fast = replace(NETWORK, cells_per_second=200_000.0)
    assert binding(95_000, [DECODE, COPY], fast) == "decode"
    assert case(95_000.0, DECODE, COPY, network=fast).at_most == together([DECODE, COPY])
    assert case(39_000.0, DECODE, COPY, network=NETWORK).at_most == pytest.approx(40_000)


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
        "The file is the limit: inflating gzip takes most of the time. A cache (cache=) does it only once, and an "
        "uncompressed or LZ4 copy (annpipes shuffle) does not need it; without decoding, at most 1,000,000 cells/s "
        "from memory."
    )


def test_nobody_is_sent_from_lz4_to_lz4() -> None:
    lz4 = replace(DECODE, work="decoding shuffle + lz4", quick=True)
    assert (
        "decoding shuffle + lz4 takes most of the time. A cache (cache=) does it only once, and an uncompressed copy ("
        in conclude([case(104_000, lz4, COPY)])
    )


def test_copying_that_binds_is_the_machines_fault() -> None:
    assert conclude([case(900_000, COPY)]) == (
        "The machine is the limit: copying takes most of the time, no matter how the file is compressed."
    )


def test_hdf5_that_binds_is_the_files_fault_with_the_reason() -> None:
    assert conclude([case(15_000, HDF5)], reason="filter lzf (32000) is decoded only by HDF5") == (
        "The file is the limit: HDF5 alone can read it (filter lzf (32000) is decoded only by HDF5), in one thread. "
        "A copy written by annpipes shuffle is read directly, by all cores."
    )


def test_annpipes_admits_to_be_the_limit() -> None:
    assert conclude([case(390_000, COPY)]) == (
        "annpipes itself is the limit (39% of what this machine could do at best): larger batches and chunks reduce "
        "its overhead."
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
        "The first epoch, while the file is not in memory yet, takes at least 9.5 s: the disk delivers 21,000 "
        "cells/s (215 MB/s)."
    )


def test_what_random_rows_cost_is_told_where_it_is_much() -> None:
    blocks, random = case(104_000, DECODE), case(13_000, DECODE, order="random", read_amplification=10.8)
    assert "Blocks of 64 are 8 times as fast as random rows, which decode 11 bytes for each one used." in conclude(
        [random, blocks]
    )
    assert "times as fast" not in conclude([replace(random, cells_per_second=90_000.0), blocks])


def test_what_dense_batches_cost_is_told_where_it_is_much() -> None:
    csr, dense = case(104_000, DECODE), case(52_000, DECODE, DENSIFY, form="dense")
    assert "Making batches dense costs 50% of the speed: use form='csr'" in conclude([csr, dense])
    assert "costs" not in conclude([csr, replace(dense, cells_per_second=100_000.0)])


def test_a_busy_machine_is_told_and_short_turns_are_not() -> None:
    assert conclude([case(104_000, DECODE, slowest=50_000.0)]).endswith("repeat this when it is quiet.")
    assert "quiet" not in conclude([case(104_000, DECODE, slowest=50_000.0, rows=700)])


def test_a_network_that_binds_is_named_with_what_a_cache_would_give() -> None:
    cases = [case(39_000.0, DECODE, COPY, network=NETWORK)]
    assert find(cases) == "Blocks of 64: the network is the limit, 39,000 of at most 40,000 cells/s."
    said = conclude(cases)
    assert said.startswith("The network is the limit: plain requests for the same bytes reach 40,000 cells/s (80 MB/s)")
    assert "later epochs reach up to 1,000,000 cells/s" in said
