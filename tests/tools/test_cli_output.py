"""What the commands print about a small file, word for word but for what is measured."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from scipy import sparse

from annpipes.tools.cli import annpipes


def assert_prints(expected: str, *arguments: str, exit_code: int = 0) -> None:
    """``#`` stands for any number, ``…`` for anything in a line; how wide columns are follows from the numbers."""
    ran = CliRunner().invoke(annpipes, arguments)
    assert ran.exit_code == exit_code, ran.output
    unwrapped = re.sub(r"\n  (?=\S+(?: \S|\n))", " ", ran.stdout)
    printed, wanted = (
        [" ".join(line.split()) for line in text.strip().splitlines()]
        for text in (unwrapped, textwrap.dedent(expected))
    )
    for line, pattern in zip(printed, wanted, strict=False):
        numbers = re.escape(pattern).replace(r"\#", r"[\d,.]+").replace("…", ".*")
        assert re.fullmatch(numbers, line), f"{line!r} is not {pattern!r} in:\n{ran.stdout}"
    assert len(printed) == len(wanted), ran.stdout


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``small.h5ad``, 400 cells sorted by kind, in the current folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, (400, 50)) * (rng.random((400, 50)) < 0.2)
    adata = anndata.AnnData(sparse.csr_matrix(counts.astype(np.float32)))
    adata.obs["kind"] = np.array(["a", "b"])[np.arange(400) // 200]
    adata.write_h5ad("small.h5ad", compression="gzip")


def test_bench() -> None:
    expected = """
        small.h5ad: 400 cells × 50 genes, # kB, X direct (gzip)

        order          batches  cells/s  slowest–fastest  at most  reached  limit  epoch
        random         csr            #              #–#        #       #%  …
        random         dense          #              #–#        #       #%  …
        blocks of 512  csr            #              #–#        #       #%  …
        blocks of 512  dense          #              #–#        #       #%  …
        sequential     csr            #              #–#        #       #%  …
        sequential     dense          #              #–#        #       #%  …

        Each limit alone, in cells/s (MB/s):
        order          disk   decoding  copying  making dense  decoded/used
        random         # (#)     # (#)    # (#)         # (#)             1
        blocks of 512  # (#)     # (#)    # (#)         # (#)             1
        sequential     # (#)     # (#)    # (#)         # (#)             1

        Random: … is the limit, # …
        Blocks of 512: … is the limit, # …
        Sequential: … is the limit, # …

        …

        …; # threads, batches of 256, chunks of 16,384; read from the page cache (…)
    """
    assert_prints(expected, "bench", "small.h5ad", "--seconds", "0.01")


def test_tune() -> None:
    expected = """
        small.h5ad: 400 rows, batches of 50, X as dense; mixing of obs/kind

        block  chunk   memory  cells/s  ±  mixing  entropy  random  neighbours
        > 1       50  7.84 kB        #      1.001     0.99    0.99       11.9%
        32        50  7.84 kB        #      0.616     0.61    0.99       95.1%

        mixing: entropy of the labels in a batch, over that of random batches.
        neighbours: rows whose successor in the file is in the same batch.
        Random batches have 12.3% of them, mixed ones at most 56.1%.
        Timed once each (more seconds give a median).…
        Left out for lack of time (raise seconds): chunks of 400 with blocks of 1, 32, 128.

        Blocks of 1 in chunks of 50 are the fastest with a mixing of at least 0.95.
        ap.stream("small.h5ad", batch_size=50, block_size=1, chunk_size=50)
    """
    assert_prints(expected, "tune", "small.h5ad", "--label", "kind", "--batch-size", "50", "--seconds", "0.000001")


def test_tune_takes_every_parameter() -> None:
    expected = """
        small.h5ad: 400 rows, batches of 50, X, obs/kind:code as csr; mixing of obs/kind

        block  chunk   memory  cells/s  ±  mixing  entropy  random  neighbours
        > 1       50  8.64 kB        #      0.997     0.98    0.99       12.4%
        32        50  8.64 kB        #      0.625     0.62    0.99       95.2%

        mixing: entropy of the labels in a batch, over that of random batches.
        neighbours: rows whose successor in the file is in the same batch.
        Random batches have 12.3% of them, mixed ones at most 56.1%.
        Timed once each (more seconds give a median).…

        Blocks of 1 in chunks of 50 are the fastest with a mixing of at least 0.9.
        ap.stream("small.h5ad", batch_size=50, fields=["X", "obs/kind:code"], form="csr", block_size=1, chunk_size=50, …
    """
    numbers = {"batch-size": 50, "seconds": 0.000001, "mixing": 0.9, "seed": 7, "memory": "9kB"}
    options = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    fields = ["--label", "kind", "--form", "csr", "--field", "X", "--field", "obs/kind:code"]
    assert_prints(expected, "tune", "small.h5ad", *options, *fields)


def test_shuffle() -> None:
    expected = """
        out.h5ad: 400 rows, # kB (#% of the input), codec lz4
        # s, # rows/s
        anndata.read_h5ad reads it after `import hdf5plugin`; annpipes needs nothing.
        read it: ap.stream('out.h5ad', batch_size=256)
    """
    assert_prints(expected, "shuffle", "small.h5ad", "-o", "out.h5ad")


def test_shuffle_into_several_files() -> None:
    expected = """
        4 files, out-0.h5ad to out-3.h5ad: 400 rows, # kB (#% of the input), codec gzip
        # s, # rows/s
        read it: ap.stream('out-*.h5ad', batch_size=256)
    """
    assert_prints(expected, "shuffle", "small.h5ad", "-o", "out.h5ad", "--codec", "gzip", "--rows-per-file", "100")


def test_check() -> None:
    assert_prints("small.h5ad: no damage (# kB read)", "inspect", "--check", "small.h5ad")


def test_check_of_damage() -> None:
    with h5py.File("small.h5ad", "r+") as file:
        row = int(np.searchsorted(file["X/indptr"][:], 1000, side="right")) - 1
        file["X/indices"][1000] = 50
    expected = f"""
        small.h5ad: NOT INTACT (# kB read)
        damage    X/indices, row {row}: a column is not in 0 … 49
        remark    X/indices, row {row}: columns do not ascend
    """
    assert_prints(expected, "inspect", "--check", "small.h5ad", exit_code=1)
