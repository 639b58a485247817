"""ISA-L called without Python: the streams that zlib takes, and nothing else."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import blosc
from storage_files import create, csr_file, dense_file, matrix_values, places_of, read_x, refused, relayout, same, write
from storage_processes import run_alone

from annpipes.stores.codecs import gzip
from annpipes.stores.codecs.gzip import isal_functions
from annpipes.stores.codecs.registry import BY_NAME
from annpipes.stores.engine import targets
from annpipes.stores.engine.decoding import Decoder, decode, scratch_for

N_OBS = 400


def inflated(encoded: bytes, size: int) -> bytes | None:
    """The stream's content, or None if it is refused."""
    step = BY_NAME["gzip"].step(())
    assert step is not None, "these tests are for platforms where isal's functions can be called"
    decoder = Decoder.of([step])
    scratch = scratch_for([decoder], len(encoded), size)
    scratch.encoded[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    return scratch.decoded.tobytes() if decode(decoder.steps, len(encoded), scratch, 0, size) else None


def by_zlib(encoded: bytes, size: int) -> bytes | None:
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(encoded, size + 1)
    except zlib.error:
        return None
    whole = stream.eof and not stream.unused_data and not stream.unconsumed_tail
    return content if whole and len(content) == size else None


contents = st.binary(min_size=1, max_size=3000) | st.integers(1, 5000).map(
    lambda n: bytes(i // 7 % 5 for i in range(n))
)


@given(content=contents, level=st.integers(0, 9))
def test_inflates_what_zlib_deflated(content: bytes, level: int) -> None:
    encoded = zlib.compress(content, level)
    assert inflated(encoded, len(content)) == content
    assert inflated(encoded, len(content) + 1) is None
    assert inflated(encoded[:-1], len(content)) is None
    assert inflated(encoded + b"\0", len(content)) is None
    if len(content) > 1:
        assert inflated(encoded, len(content) - 1) is None


def inflate_broken() -> None:
    rng = np.random.default_rng(0)
    refusals = 0
    for _ in range(20_000):
        content = rng.poisson(1, rng.integers(1, 3000)).astype("u1").tobytes()
        broken = bytearray(zlib.compress(content, int(rng.integers(0, 10))))
        for place in rng.integers(len(broken), size=rng.integers(1, 4)):
            broken[place] ^= 1 << int(rng.integers(8))
        found = inflated(bytes(broken), len(content))
        assert found == by_zlib(bytes(broken), len(content))
        refusals += found is None
    assert refusals > 15_000


def test_broken_streams_are_refused_as_zlib_does_and_crash_nothing() -> None:
    run_alone(inflate_broken)


def decompress_broken(part: bool) -> None:
    rng, refusals = np.random.default_rng(0), 0
    step = BY_NAME["blosc"].step(())
    assert step is not None
    decoder = Decoder.of([step])
    for _ in range(20_000):
        content = np.sort(rng.integers(0, 20_000, rng.integers(1, 3000))).astype(np.int32)
        encoded = blosc.compress(content, b"lz4", 5, int(rng.integers(3)), 1024 if part else 0)
        broken = np.frombuffer(encoded, np.uint8).copy()
        broken[rng.integers(len(broken) if rng.random() < 0.5 else 40, size=3) % len(broken)] ^= np.uint8(
            1 << int(rng.integers(8))
        )
        scratch = scratch_for([decoder], len(broken), content.nbytes)
        scratch.encoded[: len(broken)] = broken
        first, last = np.sort(rng.integers(0, content.nbytes + 1, 2)).tolist()
        refusals += not decode(decoder.steps, len(broken), scratch, *((first, last) if part else (0, content.nbytes)))
    assert refusals > (3_000 if part else 5_000)


@pytest.mark.parametrize("part", [False, True])
def test_broken_blosc_buffers_crash_nothing(*, part: bool) -> None:
    run_alone(decompress_broken, part)


@given(octets=st.binary(max_size=60))
def test_nonsense_is_refused(octets: bytes) -> None:
    assert inflated(octets, 100) == by_zlib(octets, 100)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Hundreds of storage chunks, so that threads share them out."""
    values = matrix_values(N_OBS, 30)
    path = write(tmp_path / "many.h5ad", values)
    relayout(path, "X", create(chunks=(2, 7), compression="gzip"))
    return path


@pytest.mark.parametrize("reachable", [True, False])
def test_rows_are_the_same_with_and_without(many: Path, reachable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    copy = targets.copy_decoded
    monkeypatch.setattr(targets, "copy_decoded", lambda *args: called.append(args) or copy(*args))
    if not reachable:
        monkeypatch.setattr("annpipes.stores.codecs.gzip.isal_functions", lambda: None)
    drawn = np.random.default_rng(0).permutation(N_OBS)
    assert same(read_x(many, drawn), matrix_values(N_OBS, 30)[drawn])
    assert bool(called) == reachable


def test_where_isal_cannot_be_called_python_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    isal_functions.cache_clear()
    monkeypatch.setattr(gzip, "_FUNCTIONS", ("no", "such", "functions"))
    assert isal_functions() is None
    isal_functions.cache_clear()
    monkeypatch.undo()
    assert isal_functions() is not None


@pytest.mark.parametrize("field", ["X", "X/data"])
def test_two_storage_chunks_at_one_place_are_refused(tmp_path: Path, field: str) -> None:
    path, gzip = tmp_path / "twice.h5ad", {"compression": "gzip"}
    path = dense_file(path, chunks=(4, 9), **gzip) if field == "X" else csr_file(path, chunks=16, **gzip)
    (first, _), (second, _) = places_of(path, field)[:2]
    octets = path.read_bytes()
    assert octets.count(struct.pack("<Q", second)) == 1
    path.write_bytes(octets.replace(struct.pack("<Q", second), struct.pack("<Q", first)))
    assert "overlap" in refused(path)
