"""Each codec by itself: found by the registry, right in both ways of decoding, and called as Zarr calls it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import carray
from numcodecs import blosc

from annpipes.stores import codecs
from annpipes.stores.codecs.base import Buffer, Codec, Parameters, Step
from annpipes.stores.codecs.encoding import CODECS, codec_of
from annpipes.stores.codecs.pipelines import Pipeline, pipeline_of
from annpipes.stores.codecs.registry import BY_NAME, BY_NUMBER, name_of
from annpipes.stores.compiled.calling import address_of, addresses_in
from annpipes.stores.engine.decoding import Decoder, decode, scratch_for

COMPILED = [codec for codec in BY_NAME.values() if codec.step((4,)) is not None]


def decoded(filters: Pipeline, encoded: bytes, size: int) -> bytes | None:
    """What the compiled loop makes of a storage chunk, or None if it refuses it."""
    steps = filters.steps()
    assert steps
    decoder = Decoder.of(steps)
    scratch = scratch_for([decoder], len(encoded), size)
    scratch.encoded[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    return scratch.decoded.tobytes() if decode(decoder.steps, len(encoded), scratch, 0, size) else None


def pipeline(*parts: tuple[str, Parameters]) -> Pipeline:
    return Pipeline(tuple(BY_NAME[name] for name, _ in parts), tuple(values for _, values in parts))


def shuffled(content: bytes, width: int) -> bytes:
    """By definition: the first bytes of all elements, then all second ones …; what is left over stays."""
    whole = len(content) // width * width
    return b"".join(content[i:whole:width] for i in range(width)) + content[whole:]


def test_every_module_has_one_codec_that_the_registry_finds() -> None:
    files = {path.stem for path in Path(codecs.__path__[0]).glob("*.py")}
    modules = [type(codec).__module__.rpartition(".")[2] for codec in BY_NAME.values()]
    assert len(set(modules)) == len(modules) == len(BY_NAME)
    assert files - set(modules) == {"__init__", "base", "registry", "pipelines", "encoding"}


def test_files_are_named_as_hdf5_numbers_them() -> None:
    assert {codec.number: codec.name for codec in BY_NUMBER.values()} == {
        1: "gzip",
        2: "shuffle",
        3: "fletcher32",
        32000: "lzf",
        32001: "blosc",
        32004: "lz4",
        32015: "zstd",
    }
    assert name_of(32008, b"bitshuffle") == "bitshuffle"
    assert name_of(77, b"") == "77"


def test_the_fastest_choice_comes_first_and_none_last() -> None:
    assert list(CODECS) == ["lz4", "zstd", "gzip", "none"]
    assert [name for name, output in CODECS.items() if output.plugin] == ["lz4", "zstd"]
    assert all(codec_of(name).name == name for name in CODECS)


ZARR = [
    (codec, name)
    for codec in BY_NAME.values()
    for name in codec.zarr
    if "." not in name and name != "crc32c"  # for which numcodecs needs one more package
]


@pytest.mark.parametrize(("codec", "name"), ZARR, ids=str)
@given(content=st.binary(min_size=4, max_size=400).map(lambda octets: octets[: len(octets) // 4 * 4]))
def test_zarr_means_the_same_bytes_by_a_name(codec: Codec, name: str, content: bytes) -> None:
    encoded = bytes(numcodecs.get_codec({"id": name}).encode(np.frombuffer(content, "i4")))
    size = len(content)
    assert bytes(codec.decode(encoded, size, (4,))) == content
    assert name == "fletcher32" or bytes(codec.decode_bare(encoded, size, (4,))) == content


def test_codecs_are_compiled_where_their_functions_can_be_called() -> None:
    assert [codec.name for codec in COMPILED] == ["blosc", "gzip", "shuffle", "stored", "zstd"]
    assert addresses_in("/no/such/library", "f") is None
    assert addresses_in(blosc.__file__, "no_such_function") is None


@given(content=st.binary(min_size=1, max_size=500), width=st.sampled_from([1, 2, 3, 4, 8, 600]))
def test_shuffled_bytes_are_put_together_again(content: bytes, width: int) -> None:
    filters = pipeline(("shuffle", (width,)))
    encoded = shuffled(content, width)
    assert decoded(filters, encoded, len(content)) == content == bytes(filters.decode(encoded, 0, len(content)))
    assert decoded(filters, encoded, len(content) + 1) is None
    assert decoded(filters, encoded + b"\0", len(content)) is None


@given(content=st.binary(min_size=1, max_size=500), widths=st.lists(st.sampled_from([2, 3, 4, 8]), max_size=4))
def test_any_number_of_steps_follow_each_other(content: bytes, widths: list[int]) -> None:
    filters = pipeline(*[("shuffle", (width,)) for width in widths], ("gzip", ()))
    arranged = content
    for width in widths:
        arranged = shuffled(arranged, width)
    encoded = zlib.compress(arranged)
    assert decoded(filters, encoded, len(content)) == content == bytes(filters.decode(encoded, 0, len(content)))
    assert decoded(filters, encoded[:-1], len(content)) is None
    assert decoded(filters, encoded, len(content) + 1) is None


@pytest.mark.parametrize("codec", COMPILED, ids=lambda codec: codec.name)
@given(encoded=st.binary(min_size=1, max_size=80), size=st.integers(1, 100))
def test_both_ways_of_decoding_take_and_refuse_the_same(codec: Codec, encoded: bytes, size: int) -> None:
    filters = Pipeline((codec,), ((4,),))
    try:
        expected = bytes(filters.decode(encoded, 0, size))
    except ValueError:
        expected = None
    assert decoded(filters, encoded, size) == expected


@pytest.mark.parametrize(
    ("content", "stored"),
    [(bytes(32), "aa36918a"), (b"\xff" * 32, "43aba862"), (bytes(range(32)), "4e79dd46"), (b"", "00000000")],
)
def test_crc32c_is_that_of_rfc_3720(content: bytes, stored: str) -> None:
    encoded = content + bytes.fromhex(stored)  # appendix B.4 lists the bytes in this order
    codec = BY_NAME["crc32c"]
    assert bytes(codec.decode(encoded, len(encoded), ())) == content
    assert bytes(codec.decode(bytearray(encoded), len(encoded), ())) == content
    for wrong in (content + b"\1\2\3\4", encoded[:3]):
        with pytest.raises(ValueError, match="wrong crc32c"):
            codec.decode(wrong, len(wrong), ())


class Inverted(Codec):
    """Every bit the other way round: a codec as one may be added."""

    name, number = "inverted", 999
    compresses = False

    def decode(self, encoded: Buffer, size: int, parameters: Parameters) -> Buffer:
        return ~np.frombuffer(encoded, np.uint8)

    def step(self, parameters: Parameters) -> Step:
        return Step(address_of(_invert), (255,), 16)


def _invert(parameters: Any, scratch: Any, encoded: Any, encoded_size: int, decoded: Any, decoded_size: int) -> int:
    if encoded_size != decoded_size:
        return 0
    ones, source = carray(parameters, 7, np.int64)[0], carray(encoded, encoded_size, np.uint8)
    target = carray(decoded, decoded_size, np.uint8)
    carray(scratch, 2, np.uint64)[1] = 1
    for i in range(decoded_size):
        target[i] = source[i] ^ ones
    return 1


def test_another_codec_needs_nothing_but_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BY_NUMBER, 999, Inverted())  # type: ignore[arg-type] # a dict
    filters = pipeline_of([(2, 0, (4,), b"shuffle"), (999, 0, (), b""), (1, 0, (6,), b"deflate")])
    assert isinstance(filters, Pipeline)
    assert filters.names == ("shuffle", "inverted", "gzip")
    content = bytes(range(200))
    encoded = zlib.compress(bytes(~np.frombuffer(shuffled(content, 4), np.uint8)))
    assert bytes(filters.decode(encoded, 0, 200)) == content == decoded(filters, encoded, 200)


def test_a_checksum_is_left_to_python() -> None:
    assert pipeline(("gzip", ()), ("fletcher32", ())).steps() is None
    assert pipeline(("shuffle", (4,)), ("lz4", ())).steps() is None


def test_what_cannot_be_decoded_says_why() -> None:
    assert pipeline_of([(2, 0, (), b"shuffle")]) == "shuffle of unknown elements"
    assert pipeline_of([(1, 0, (4,), b""), (32015, 0, (), b"")]) == "compressed twice"
    assert pipeline_of([(32000, 0, (), b"lzf")]) == "filter lzf (32000) is decoded only by HDF5"
    assert pipeline_of([(77, 0, (), b"seven")]) == "filter seven (77) is decoded only by HDF5"
    with pytest.raises(ValueError, match="only by HDF5"):
        BY_NAME["lzf"].decode(b"", 1, ())


@pytest.mark.parametrize(
    ("filters", "quick"),
    [
        (pipeline(("gzip", ())), False),
        (pipeline(("shuffle", (4,)), ("lz4", ())), True),
        (pipeline(("zstd", ())), False),
        (pipeline(("blosc", (2, 2, 4, 64, 5, 1, 1))), True),
        (pipeline(("blosc", (2, 2, 4, 64, 5, 1, 5))), False),
        (pipeline(("blosc", (2, 2, 4, 64))), False),
    ],
)
def test_lz4_is_as_quick_as_it_gets(filters: Pipeline, quick: bool) -> None:
    assert filters.quick == quick


def test_a_pipeline_that_was_used_can_be_pickled() -> None:
    filters = pipeline(("shuffle", (4,)), ("gzip", ()))
    encoded = zlib.compress(shuffled(bytes(40), 4))
    assert filters.decode(encoded, 0, 40) is not None
    assert filters.steps() is not None
    copy = pickle.loads(pickle.dumps(filters))
    assert copy.names == filters.names
    assert decoded(copy, encoded, 40) == bytes(40)


@pytest.mark.parametrize("compressor", blosc.list_compressors())
@pytest.mark.parametrize(("width", "shuffle"), [(1, blosc.NOSHUFFLE), (4, blosc.SHUFFLE), (8, blosc.BITSHUFFLE)])
def test_of_a_blosc_buffer_a_window_is_decoded(compressor: str, width: int, shuffle: int) -> None:
    content = np.sort(np.random.default_rng(0).integers(0, 100, 20_003)).astype(f"i{width}")  # the last block is short
    encoded = np.frombuffer(blosc.compress(content, compressor.encode(), 5, shuffle, 2048), np.uint8)
    whole = np.frombuffer(blosc.decompress(encoded), np.uint8)
    decoder = Decoder.of([BY_NAME["blosc"].step(())])  # type: ignore[list-item] # there is one on these platforms
    for first, last in [(0, 1), (1, 2), (2047, 2049), (2048, 4096), (700, 2400), (len(whole) - 1, len(whole)), (3, 3)]:
        scratch = scratch_for([decoder], len(encoded), len(whole))
        scratch.encoded[: len(encoded)], scratch.decoded[:] = encoded, 255
        assert decode(decoder.steps, len(encoded), scratch, first, last)
        assert (scratch.decoded[first:last] == whole[first:last]).all()
        assert scratch.decoded[(last + 3000) % len(whole)] == 255, "more was decoded than the blocks of the window"


COMPILE = """
import numpy as np, zlib
from numcodecs import blosc
from annpipes.stores.codecs.registry import BY_NAME
from annpipes.stores.engine.decoding import Decoder, decode, scratch_for
content = np.zeros(10, np.int32)
for names, encoded in (("gzip", "shuffle"), zlib.compress(content)), (("blosc",), blosc.compress(content, b"lz4", 5)):
    decoder = Decoder.of([BY_NAME[name].step((4,)) for name in names])
    scratch = scratch_for([decoder], len(encoded), 40)
    scratch.encoded[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    assert decode(decoder.steps, len(encoded), scratch, 0, 40)
    assert decode(decoder.steps, len(encoded), scratch, 4, 8)
"""


def test_another_process_compiles_nothing_again(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    found = []
    for _ in range(2):
        subprocess.run([sys.executable, "-c", COMPILE], env=environment, check=True)
        found.append({path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")})
    assert found[0] == found[1]
    assert {path.name.partition(".")[0] for path in found[0]} >= {"gzip", "shuffle", "blosc", "decoding"}
