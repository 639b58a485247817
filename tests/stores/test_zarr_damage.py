"""Zarr stores that are damaged, lack something or change: told with file, field and rows; never other numbers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from builders import matrix_of
from storage_files import csr_of, matrix_values, read_x, write
from zarr_stores import VALUES, codecs, csr_store, dense_store, expected, put, stored, written, zarr, zipped

from annpipes import stream
from annpipes.errors import ChangedError, DamageError, FormatError, SourceError
from annpipes.stores import open_store

ALL = range(23)


def flip(path: Path, place: int) -> None:
    octets = bytearray(path.read_bytes())
    octets[place] ^= 1
    path.write_bytes(octets)


def unchecked(metadata: Any) -> Any:
    """Metadata of which no array has a checksum."""
    if isinstance(metadata, dict):
        return {key: unchecked(value) for key, value in metadata.items()}
    if isinstance(metadata, list):
        return [unchecked(value) for value in metadata if value != {"name": "crc32c"}]
    return metadata


def test_a_storage_chunk_that_was_cut_off_is_named_with_its_rows(tmp_path: Path) -> None:
    path = csr_store(tmp_path / "cells.zarr", 3)
    file = path / "X" / "data" / "c" / "1"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(DamageError, match=r"X/data of .*cells.zarr, rows \d+ … \d+: storage chunk 1 "):
        read_x(path, ALL)


CHECKED = {"alone": [codecs.Crc32cCodec()], "behind zstd": [codecs.ZstdCodec(), codecs.Crc32cCodec()]}


@pytest.mark.parametrize("compressors", CHECKED.values(), ids=CHECKED)
@pytest.mark.parametrize("shards", [None, (21,)])
def test_a_wrong_crc32c_is_told(tmp_path: Path, compressors: list[object], shards: tuple[int] | None) -> None:
    path = csr_store(tmp_path / "cells.zarr", 3, compressors=compressors, shards=shards)
    flip(path / "X" / "data" / "c" / "0", 1)
    with pytest.raises(DamageError, match=r"rows 1 … \d+: storage chunk 0 has a wrong crc32c checksum"):
        read_x(path, ALL)


def test_the_index_of_a_shard_that_is_not_whole_is_told(tmp_path: Path) -> None:
    path = csr_store(tmp_path / "cells.zarr", 3, shards=(21,))
    shard = path / "X" / "data" / "c" / "1"
    whole = shard.read_bytes()
    flip(shard, len(whole) - 7)
    with pytest.raises(DamageError, match=r"X/data in .*: the index of shard 1 has a wrong crc32c checksum"):
        read_x(path, ALL)
    shard.write_bytes(whole[-20:])
    with pytest.raises(DamageError, match="shard 1 has 20 bytes, fewer than its index alone"):
        read_x(path, ALL)


def test_an_index_that_leads_outside_of_its_shard_is_told(tmp_path: Path) -> None:
    path = csr_store(tmp_path / "cells.zarr", 3)
    put(path, "X/data", chunks=(7,), shards=(21,))
    metadata = (path / "X" / "data" / "zarr.json").read_text()
    assert '"crc32c"' in metadata
    for file in (path / "zarr.json", path / "X" / "data" / "zarr.json"):  # an index without a checksum
        file.write_text(json.dumps(unchecked(json.loads(file.read_text()))))
    for shard in stored(path, "X/data"):
        whole = bytearray(shard.read_bytes()[:-4])
        whole[-16:-8] = (10_000).to_bytes(8, "little")  # where the last storage chunk begins
        shard.write_bytes(whole)
    with pytest.raises(DamageError, match=r"storage chunk 2 of shard 0 should lie at byte 10000"):
        read_x(path, ALL)


def test_what_is_not_there_stands_for_the_fill_value(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[8:16] = 0
    for version in (2, 3):
        path = dense_store(tmp_path / f"cells{version}.zarr", version, values)
        assert len(stored(path, "X")) < 12
        assert open_store(path).route("X").kind == "direct"
        assert np.array_equal(read_x(path, ALL), expected(path).X)
    filled = put(path, "X", values, chunks=(4, 5), fill_value=3.5)
    for file in stored(filled, "X")[:2]:
        file.unlink()
    assert np.array_equal(read_x(filled, ALL), expected(filled).X)
    assert (read_x(filled, ALL) == 3.5).any()


UNLIKE = {
    "zstd": {},
    "uncompressed": {"compressors": None},
    "through zarr": {"serializer": codecs.BytesCodec(endian="big")},
}


@pytest.mark.parametrize("how", UNLIKE.values(), ids=UNLIKE)
def test_columns_that_are_lost_are_never_taken_for_zeros(tmp_path: Path, how: dict[str, Any]) -> None:
    path = csr_store(tmp_path / "cells.zarr", 3, **how)
    (path / "X" / "indices" / "c" / "2").unlink()
    with pytest.raises(DamageError, match=r"X/indices of .*, rows \d+ … \d+: storage chunk 2 is missing"):
        read_x(path, ALL)


@pytest.mark.parametrize("how", UNLIKE.values(), ids=UNLIKE)
def test_values_that_may_be_lost_are_told_of(tmp_path: Path, how: dict[str, Any]) -> None:
    path = csr_store(tmp_path / "cells.zarr", 3, **how)
    (path / "X" / "data" / "c" / "2").unlink()
    with pytest.warns(UserWarning, match=r"X/data of .* lacks 1 storage chunks, which are read as zeros"):
        found = read_x(path, ALL)
    assert np.array_equal(found.to_dense(), expected(path).X.toarray())


def test_rows_that_are_lost_are_told(tmp_path: Path) -> None:
    path = written(anndata.AnnData(matrix_of(VALUES, "csr", "float32")), tmp_path / "cells.zarr")
    shutil.rmtree(path / "X" / "indptr" / "c")
    with pytest.raises(DamageError, match=r"X/indptr of .*cells.zarr"):
        read_x(path, ALL)


@pytest.mark.parametrize("many", [False, True])
def test_a_file_that_is_written_anew_is_refused(tmp_path: Path, many: bool) -> None:
    values = matrix_values(300) if many else VALUES
    path = csr_store(tmp_path / "cells.zarr", 3, values)
    store = open_store(path)
    read_x(store, [0, 22])
    files = stored(path, "X/data")
    assert (len(files) > 64) == many
    for file in files:
        os.utime(file, ns=(1, 1))
    with pytest.raises(ChangedError, match=r"changed since it was first opened"):
        read_x(store, ALL)


@pytest.mark.parametrize("many", [False, True])
def test_a_file_that_is_gone_is_told(tmp_path: Path, many: bool) -> None:
    path = csr_store(tmp_path / "cells.zarr", 3, matrix_values(300) if many else VALUES)
    store = open_store(path)
    store.check(["X"])
    for file in stored(path, "X/data"):
        file.unlink()
    with pytest.raises(SourceError, match="has been removed since it was first opened"):
        read_x(store, ALL)


def test_a_store_that_is_written_anew_is_refused(tmp_path: Path) -> None:
    path = csr_store(tmp_path / "cells.zarr", 3)
    pipe = stream(path, 8, fields=["X", "obs_names"])
    shutil.rmtree(path)
    csr_store(path, 3, matrix_values(seed=1))
    with pytest.raises(ChangedError, match=r"cells.zarr changed since it was first opened; make the source again"):
        list(pipe)


def test_a_zip_archive_that_is_damaged_is_told(tmp_path: Path) -> None:
    path = zipped(csr_store(tmp_path / "cells.zarr", 3), tmp_path / "cells.zarr.zip")
    whole = path.read_bytes()
    place = whole.index(b"X/data/c/0") - 30
    path.write_bytes(whole[:place] + b"XXXX" + whole[place + 4 :])
    with pytest.raises(DamageError, match=r"X/data/c/0 does not begin where the archive says"):
        read_x(path, ALL)


def test_a_zip_archive_that_compresses_is_read_through_zarr(tmp_path: Path) -> None:
    folder = csr_store(tmp_path / "cells.zarr", 3)
    path = zipped(folder, tmp_path / "cells.zarr.zip", compression=8)
    assert open_store(path).route("X") == "zarr (compressed once more by the zip archive)"
    assert np.array_equal(read_x(path, ALL).to_dense(), expected(folder).X.toarray())


def test_a_store_of_something_else_says_what_it_is(tmp_path: Path) -> None:
    folder = str(tmp_path / "other.zarr")
    zarr.open_group(folder, mode="w").create_group("a")
    with pytest.raises(FormatError, match=r"other.zarr is a Zarr store, but not an AnnData: it has no group 'obs' or"):
        open_store(folder)
    zarr.open_group(folder, mode="w").create_group("mod/rna")
    with pytest.raises(
        FormatError, match=r"a MuData store with the modalities rna, .* give the path of one, '.*mod/rna'"
    ):
        open_store(folder)
    zarr.open_group(folder, mode="w").create_group("tables/cells")
    with pytest.raises(
        FormatError, match=r"It is a SpatialData store: give the path of a table in it, '.*tables/cells'"
    ):
        open_store(folder)
    zarr.open_array(folder, mode="w", shape=(3,), dtype="f4")
    with pytest.raises(FormatError, match="a single array, not an AnnData"):
        open_store(folder)


def test_matrices_by_columns_say_what_to_do(tmp_path: Path) -> None:
    path = written(anndata.AnnData(matrix_of(VALUES, "csc", "float32")), tmp_path / "cells.zarr")
    with pytest.raises(FormatError, match=r"stored by columns \(CSC\).*read_zarr\(.*write_zarr"):
        open_store(path).check(["X"])


def test_a_file_that_ends_like_an_archive_is_none(tmp_path: Path) -> None:
    archive = zipped(csr_store(tmp_path / "cells.zarr", 3), tmp_path / "cells.zip").read_bytes()
    path = write(tmp_path / "cells.h5ad", csr_of(VALUES))
    with path.open("ab") as file:
        file.write(archive[-22:])  # the record at its end
    assert np.array_equal(read_x(path, ALL).to_dense(), VALUES)
