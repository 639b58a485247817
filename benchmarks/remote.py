"""Batches from a gzip-compressed file on a web server that waits 30 ms before it answers each request.

The server is a process of its own on this machine, so bytes come fast once they come, unless each connection has so
many MB/s only, as object stores have it. The limit is the same bytes
in the same merged ranges, asked for by as many threads and not decoded: where cores are busy, decoding makes the
difference, and ``local_cells_per_second`` is what the file itself gives then; ``later_beside_plain`` is an epoch out of
a cache against the uncompressed file on this machine. h5py over fsspec (which needs aiohttp)
reads a few blocks of rows of the same file.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import annpipes as ap
import files
import measuring
from annpipes.plans.chunks import ChunkPlan
from annpipes.stores import BareReading, Threads, open_store

BATCH, CHUNK, BLOCK, DELAY = 256, 16_384, 64, 0.03
H5PY_BLOCKS = 3
CASES = {"30 ms a request": 0, "30 ms a request, 10 MB/s a connection": 10}
"""MB/s of each connection; 0 for as many as there are."""


class Handler(BaseHTTPRequestHandler):
    """Answers for the file in the environment, in ranges, after a while."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Size and version."""
        self.answer(False)

    def do_GET(self) -> None:
        """A range."""
        self.answer(True)

    def answer(self, wanted: bool) -> None:
        """Wait, and send."""
        time.sleep(DELAY)
        path = os.environ["SERVED"]
        size = os.path.getsize(path)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(asked[1]), min(int(asked[2]), size - 1)) if asked else (0, size - 1)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("ETag", '"one"')
        self.send_header("Last-Modified", "Mon, 26 Oct 2026 10:00:00 GMT")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if wanted:
            if rate := int(os.environ["RATE"]):
                time.sleep((last - first + 1) / 1e6 / rate)
            with open(path, "rb") as file:
                os.sendfile(self.connection.fileno(), file.fileno(), first, last - first + 1)


class Server(ThreadingHTTPServer):
    """Many at once."""

    daemon_threads = True
    request_queue_size = 128


@contextmanager
def served(path: Path, rate: int) -> Iterator[str]:
    """The address of the file, on a server that runs until the block ends."""
    command = [sys.executable, __file__, "serve"]
    environment = {**os.environ, "SERVED": str(path), "RATE": str(rate)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}/cells.h5ad"
        finally:
            server.terminate()


class Reading:
    """A pass over the file, and its limit."""

    def __init__(self, path: Path, uncompressed: Path, url: str, folder: str) -> None:
        self.path, self.uncompressed, self.store = path, uncompressed, open_store(url)
        source = ap.IndexSource(self.store, block_size=BLOCK)
        self.rows = self.store.n_obs
        plan = ChunkPlan(source.shuffle_blocks().plan, CHUNK)
        epoch = plan.epoch((0, 0))
        self.chunks = [epoch.chunk(number) for number in range(plan.n_chunks)]
        self.bare = BareReading(self.store, self.chunks).network()
        self.kept = self._loader(url, ap.Cache(folder, "100GB"))
        self.cached()

    def batches(self) -> None:
        """All rows, decoded, in batches."""
        self.loader = self._loader(self.store)
        measuring.consume(self.loader)

    def local(self) -> None:
        """The same from the file itself."""
        measuring.consume(self._loader(self.path))

    def plain(self) -> None:
        """The same from an uncompressed file."""
        measuring.consume(self._loader(self.uncompressed))

    def cached(self) -> None:
        """The same once all of it was kept in a cache."""
        measuring.consume(self.kept)

    def _loader(self, data: Any, cache: ap.Cache | None = None) -> ap.Loader:
        pipe = ap.IndexSource(data, block_size=BLOCK, cache=cache).shuffle_blocks().sort_within_chunks(CHUNK)
        return ap.Loader(pipe.read_rows().batch_rows(BATCH).collate_rows("csr"))

    def limit(self) -> None:
        """The same bytes, by the same requests."""
        with Threads(self.bare.at_once) as threads:
            threads.run([task for chunk in self.bare.tasks for task in chunk])


def by_h5py(url: str, reading: Reading) -> float:
    """Cells a second of h5py over fsspec, from a few blocks."""
    import fsspec
    import h5py

    rows = reading.chunks[0].rows
    with fsspec.open(url, "rb") as opened, h5py.File(opened, "r") as file:
        data, indices, indptr = (file[f"X/{part}"] for part in ("data", "indices", "indptr"))
        indptr = indptr[:]
        begin = time.perf_counter()
        for number in range(H5PY_BLOCKS):
            first = int(rows[number * (len(rows) // H5PY_BLOCKS) // BLOCK * BLOCK])
            where = slice(int(indptr[first]), int(indptr[min(first + BLOCK, len(indptr) - 1)]))
            data[where], indices[where]
        return H5PY_BLOCKS * BLOCK / (time.perf_counter() - begin)


def first_batch(url: str) -> float:
    """Seconds until the first batch of a source that is made anew."""
    begin = time.perf_counter()
    next(iter(ap.stream(url, BATCH, block_size=BLOCK, chunk_size=CHUNK, form="csr")))
    return time.perf_counter() - begin


def measure(rate: int, quick: bool) -> dict[str, Any]:
    n_obs, turns = (20_000, 2) if quick else (60_000, 5)
    path = files.sparse_file(n_obs, "gzip")
    uncompressed = files.sparse_file(n_obs, None)
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as kept, served(path, rate) as url:
        os.environ["ANNPIPES_CACHE_DIR"] = cache
        cold = first_batch(url)
        warm = first_batch(url)
        reading = Reading(path, uncompressed, url, kept)
        names = ("batches", "limit", "local", "plain", "cached")
        contenders = {name: getattr(reading, name) for name in names}
        times = measuring.interleaved(contenders, turns, lambda: None)
        h5py = by_h5py(url, reading)
        statistics = reading.loader.stats()
    return {
        "file": path.name,
        "turns": turns,
        "cells_per_second": times.rate("batches", reading.rows),
        "limit_cells_per_second": times.rate("limit", reading.rows),
        "local_cells_per_second": times.rate("local", reading.rows),
        "later_beside_plain": times.speed("cached", "plain"),
        "later_beside_plain_spread": times.spread("cached", "plain"),
        "ratio": times.speed("batches", "limit"),
        "ratio_spread": times.spread("batches", "limit"),
        "h5py_cells_per_second": h5py,
        "times_h5py": times.rate("batches", reading.rows) / h5py,
        "first_batch_seconds": cold,
        "first_batch_seconds_warm_table": warm,
        "requests_per_chunk": statistics.requests_per_chunk,
        "received_mb_per_chunk": statistics.received_per_chunk,
    }


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        with Server(("127.0.0.1", 0), Handler) as server:
            print(server.server_port, flush=True)
            server.serve_forever()
    measuring.main(CASES, measure, __doc__)
