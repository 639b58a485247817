"""Storage chunks decoded outside of HDF5, as HDF5 decodes them; anything else is a ValueError."""

from __future__ import annotations

import io
import itertools
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from storage_files import matrix_values
from storage_processes import bounded, run_alone

from annpipes.stores.codecs.pipelines import Pipeline, pipeline_of

CODECS: dict[str, dict[str, Any]] = {
    "gzip": {"compression": "gzip"},
    "shuffle": {"shuffle": True},
    "shuffle + gzip": {"shuffle": True, "compression": "gzip"},
    "fletcher32": {"fletcher32": True},
    "gzip + fletcher32": {"compression": "gzip", "fletcher32": True},
    "lz4": dict(hdf5plugin.LZ4()),
    "lz4 in blocks": dict(hdf5plugin.LZ4(nbytes=64)),
    "zstd": dict(hdf5plugin.Zstd()),
    **{f"blosc {name}": dict(hdf5plugin.Blosc(cname=name)) for name in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")},
    "blosc, bits shuffled": dict(hdf5plugin.Blosc(shuffle=hdf5plugin.Blosc.BITSHUFFLE)),
}
CHECKED = {"gzip", "shuffle + gzip", "fletcher32", "gzip + fletcher32"}  # formats in which a flipped bit shows


def encoded(values: NDArray[Any], **options: Any) -> tuple[Pipeline, bytes, int]:
    """The filters HDF5 put on ``values`` as one storage chunk, what they made of it, and their mask."""
    with h5py.File(io.BytesIO(), "w") as file:
        dataset = file.create_dataset("values", data=values, chunks=values.shape, **options)
        created = dataset.id.get_create_plist()
        filters = pipeline_of([created.get_filter(i) for i in range(created.get_nfilters())])
        assert isinstance(filters, Pipeline)
        mask, content = dataset.id.read_direct_chunk((0,) * values.ndim)
    return filters, content, mask


@st.composite
def arrays(draw: Any) -> NDArray[Any]:
    """Storage chunks of any content and type: repetitive, random, long and of one element."""
    dtype = np.dtype(draw(st.sampled_from(["u1", "i2", "f4", "i8"])))
    count = draw(st.integers(1, 200) | st.sampled_from([1000, 16_385]))
    octets = draw(st.binary(min_size=1, max_size=40) | st.just(b"\0") | st.just(b"\xff"))
    if draw(st.booleans()):
        octets = random.Random(octets).randbytes(count * dtype.itemsize)
    return np.resize(np.frombuffer(octets, "u1"), count * dtype.itemsize).view(dtype)


@pytest.mark.parametrize("options", CODECS.values(), ids=CODECS)
@given(values=arrays())
def test_decodes_what_hdf5_encoded(options: dict[str, Any], values: NDArray[Any]) -> None:
    filters, content, mask = encoded(values, **options)
    assert bytes(filters.decode(content, mask, values.nbytes)) == values.tobytes()


@given(values=arrays(), block=st.integers(1, 500))
def test_lz4_frames_of_many_blocks(values: NDArray[Any], block: int) -> None:
    filters, content, mask = encoded(values, **hdf5plugin.LZ4(nbytes=block))
    assert bytes(filters.decode(content, mask, values.nbytes)) == values.tobytes()


@given(octets=st.binary(min_size=1, max_size=2000))
@example(octets=b"\0")
@example(octets=bytes(1000))
@example(octets=b"\xff\xff")
@example(octets=b"\xff" * 1001)
@example(octets=bytes(999) + b"\1")
@example(octets=b"\0\1\xff\xfe" * 3)  # sums that are multiples of 65,535
@example(octets=b"\xff" * (2 * 65_536 - 1))
@example(octets=b"\xff" * (2 * 65_536))
@example(octets=b"\x7f\xfe" * (2 * 65_536) + b"\xff")
@example(octets=bytes(range(256)) * 2000)
def test_checksums_are_hdf5s(octets: bytes) -> None:
    filters, content, mask = encoded(np.frombuffer(octets, "u1"), fletcher32=True)
    assert len(content) == len(octets) + 4
    assert bytes(filters.decode(content, mask, len(octets))) == octets
    for place in {0, len(octets) // 2, len(octets) - 1, *range(len(octets), len(content))}:
        wrong = bytearray(content)
        wrong[place] ^= 1
        with pytest.raises(ValueError, match="checksum"):
            filters.decode(bytes(wrong), mask, len(octets))


@pytest.mark.parametrize("mask", range(8))
def test_filters_that_were_left_out_are_not_undone(tmp_path: Path, mask: int) -> None:
    values = matrix_values(dtype="i4")
    options: dict[str, Any] = {"shuffle": True, "compression": "gzip", "fletcher32": True}
    filters, _, _ = encoded(values, **options)
    content = values.tobytes() if mask & 1 else values.reshape(-1, 1).view("u1").T.tobytes()
    content = content if mask & 2 else zlib.compress(content)
    content = content if mask & 4 else encoded(np.frombuffer(content, "u1"), fletcher32=True)[1]
    with h5py.File(tmp_path / "mask.h5", "w") as file:
        dataset = file.create_dataset("values", values.shape, "i4", chunks=values.shape, **options)
        dataset.id.write_direct_chunk((0, 0), content, filter_mask=mask)
    with h5py.File(tmp_path / "mask.h5") as file:  # what HDF5 makes of such a mask is what counts
        np.testing.assert_array_equal(file["values"][()], values)
    assert bytes(filters.decode(content, mask, values.nbytes)) == values.tobytes()


ALONE = [{"compression": "lzf"}, {"scaleoffset": 3}, dict(hdf5plugin.Bitshuffle())]


@pytest.mark.parametrize("options", ALONE, ids=str)
def test_what_cannot_be_decoded_is_named(options: dict[str, Any]) -> None:
    with h5py.File(io.BytesIO(), "w") as file:
        created = file.create_dataset("values", (8,), "i4", **options).id.get_create_plist()
        number, _, _, _ = created.get_filter(0)
        reason = pipeline_of([created.get_filter(0)])
    assert isinstance(reason, str)
    assert f"({number})" in reason


@pytest.mark.parametrize("options", CODECS.values(), ids=CODECS)
def test_another_size_than_expected_is_refused(options: dict[str, Any]) -> None:
    values = matrix_values(dtype="f4")
    filters, content, mask = encoded(values, **options)
    for size in (values.nbytes - 4, values.nbytes + 4, 1):
        with pytest.raises(ValueError, match=r"."):
            filters.decode(content, mask, size)


def broken(content: bytes, rng: random.Random) -> Iterator[bytes]:
    """The same bytes cut off, with some of them changed, and with others in their place."""
    for length in {0, 1, 3, 4, 11, 12, 15, 16, 17, len(content) // 2, len(content) - 1}:
        yield content[:length]
    for place in itertools.chain(range(min(40, len(content))), rng.choices(range(len(content)), k=200)):
        wrong = bytearray(content)
        wrong[place] ^= 1 << rng.randrange(8)
        yield bytes(wrong)
        wrong[place] = rng.randrange(256)
        yield bytes(wrong) + rng.randbytes(rng.randrange(3))
    for _ in range(20):
        yield rng.randbytes(len(content))


def decode_broken(name: str) -> None:
    """Run alone: every broken storage chunk is refused, or right where the format has a checksum."""
    rng = random.Random(name)
    small, random_values = matrix_values(dtype="i4"), np.frombuffer(rng.randbytes(4000), "i4")
    for values in (small, np.tile(small, (40, 9)), random_values):
        filters, content, mask = encoded(values, **CODECS[name])
        for wrong in broken(content, rng):
            try:
                decoded = bytes(filters.decode(wrong, mask, values.nbytes))
            except ValueError:
                continue
            assert len(decoded) == values.nbytes
            assert decoded == values.tobytes() or name not in CHECKED


@pytest.mark.parametrize("name", CODECS)
def test_broken_bytes_are_refused_and_crash_nothing(name: str) -> None:
    run_alone(decode_broken, name)


def _lz4(total: int, block: int, *contents: bytes) -> bytes:
    return struct.pack(">QI", total, block) + b"".join(struct.pack(">I", len(c)) + c for c in contents)


def _blosc(flags: int, decoded: int, block: int, length: int) -> bytes:
    return struct.pack("<BBBBIII", 2, 1, flags, 4, decoded, block, length)


def _zstd(header: bytes, blocks: int) -> bytes:
    """Blocks of 128 KiB zeros, three bytes and a zero each."""
    size = 1 << 17
    parts = [((size << 3) | (1 << 1) | (i == blocks - 1)).to_bytes(3, "little") + b"\0" for i in range(blocks)]
    return b"\x28\xb5\x2f\xfd" + header + b"".join(parts)


LIARS = {
    "lz4 of many blocks": ("lz4", lambda: _lz4(2**62, 2**22, *[b"\x1f\0" + b"\xff" * 3] * 9)),
    "lz4 of a large block": ("lz4", lambda: _lz4(2**31 - 1, 2**31 - 1, b"\x1f\0\1\0")),
    "lz4 of a larger block": ("lz4", lambda: _lz4(2**33, 2**32 - 1, b"\x1f\0\1\0")),
    "lz4 of blocks of nothing": ("lz4", lambda: _lz4(400, 0, b"abc", b"def")),
    "lz4 blocks that end early": ("lz4", lambda: _lz4(400, 400)),
    "blosc of two gigabytes": ("blosc lz4", lambda: _blosc(0x20, 2**31 - 1, 2**18, 60) + bytes(44)),
    "blosc longer than its bytes": ("blosc lz4", lambda: _blosc(0x20, 828, 828, 2**20) + bytes(44)),
    "blosc copied beyond its bytes": ("blosc lz4", lambda: _blosc(0x22, 828, 828, 844)),
    "zstd of two gigabytes": ("zstd", lambda: _zstd(b"\xe0" + struct.pack("<Q", 2**31), 1)),
    "zstd of any size": ("zstd", lambda: _zstd(b"\xe0" + struct.pack("<Q", 2**62), 1)),
    "zstd of no size, and long": ("zstd", lambda: _zstd(b"\x00\x78", 16_000)),
    "gzip of a gigabyte": ("gzip", lambda: zlib.compress(bytes(2**30), 1)),
}


def decode_liar(name: str) -> None:
    """Run alone: a storage chunk that promises more than 828 bytes is refused before it gets them."""
    codec, make = LIARS[name]
    values = matrix_values(dtype="i4")
    filters, _, mask = encoded(values, **CODECS[codec])
    content = make()
    with bounded(200 << 20), pytest.raises(ValueError, match=r"."):
        filters.decode(content, mask, values.nbytes)


@pytest.mark.parametrize("name", LIARS)
def test_a_header_cannot_ask_for_memory(name: str) -> None:
    run_alone(decode_liar, name)
