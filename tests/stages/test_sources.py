from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
from builders import adata_of, tiny, write
from contracts import StageContract, rows_seen

from annpipes import IndexSource
from annpipes.errors import FieldError, ParameterError, ParameterTypeError, RowIndexError, SourceError


class TestIndexSource(StageContract):
    def chained(self, path: Path) -> Any:
        return IndexSource(path, block_size=4)

    constructed = chained

    def complete(self, pipe: Any) -> Any:
        return pipe.sort_within_chunks(5)


class TestIndexSourceWithRows(TestIndexSource):
    def chained(self, path: Path) -> Any:
        return IndexSource(path, range(29), 64)

    constructed = chained


def blocks(source: Any) -> list[list[int]]:
    return [rows_seen(block) for block in source]


@pytest.mark.filterwarnings("ignore:.*chooses no row")
@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (None, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]),
        (range(3, 9), [[3, 4, 5, 6], [7, 8]]),
        (slice(None, None, 4), [[0, 4, 8]]),
        ([9, 0, 9, 9, 1], [[9, 0, 9, 9], [1]]),
        (np.arange(10) % 3 == 0, [[0, 3, 6, 9]]),
        (["c7", "c2"], [[7, 2]]),
        ([], []),
    ],
)
def test_rows_come_in_blocks_as_they_were_named(rows: Any, expected: list[list[int]]) -> None:
    source = IndexSource(tiny(10), rows=rows, block_size=4)
    assert blocks(source) == expected
    assert len(source) == len(expected)


def test_no_rows_no_blocks() -> None:
    source = IndexSource(tiny(3)[:0])
    assert (blocks(source), len(source)) == ([], 0)


def test_a_block_size_of_nobodys_choice_follows_from_the_storage(tmp_path: Path) -> None:
    adata = adata_of()
    plain, packed = write(adata, tmp_path / "plain.h5ad"), write(adata, tmp_path / "packed.h5ad", "gzip")
    for data in (adata, plain, packed, str(packed)):
        source = IndexSource(data)
        assert source.plan.block_size >= 1
        assert source.block_reason
        assert f"block_size={source.plan.block_size})" in repr(source)
    assert IndexSource(plain).plan.block_size <= IndexSource(packed).plan.block_size
    assert IndexSource(packed, block_size=7).plan.block_size == 7
    assert IndexSource(packed, block_size=7).block_reason == "as given"


def test_without_an_x_there_is_a_block_size_all_the_same() -> None:
    source = IndexSource(anndata.AnnData(obs=tiny(5).obs))
    assert sorted(row for block in blocks(source) for row in block) == list(range(5))


def test_it_tells_how_a_field_is_read(tmp_path: Path) -> None:
    adata = adata_of()
    assert IndexSource(adata).route() == IndexSource(adata).route("obs/donor") == "memory"
    path = write(adata, tmp_path / "plain.h5ad")
    assert IndexSource(path).route().startswith("direct")
    with h5py.File(path, "r+") as file:
        values = file["X/data"][...]
        del file["X/data"]
        file["X"].create_dataset("data", data=values, scaleoffset=3)
    assert "h5py" in IndexSource(path).route() or IndexSource(path).route() == "mixed"
    with pytest.raises(FieldError, match="no field 'x'"):
        IndexSource(path).route("x")


def test_a_path_may_be_a_string_and_an_object_backed(h5ad: Path) -> None:
    backed = anndata.read_h5ad(h5ad, backed="r")
    for data in (str(h5ad), h5ad, backed):
        assert sum(map(len, blocks(IndexSource(data)))) == 29
    backed.file.close()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"block_size": 0}, ParameterError, "block_size must be at least 1, got 0"),
        ({"block_size": 2.5}, ParameterTypeError, r"block_size must be an integer, got 2\.5"),
        ({"rows": [0, 10]}, RowIndexError, r"rows must lie in 0 … 9 \(10 rows\), got 10"),
        ({"rows": [-1]}, RowIndexError, r"rows must lie in 0 … 9 \(10 rows\), got -1"),
        ({"rows": [True]}, ParameterError, "rows is a mask of length 1, but there are 10 rows"),
        ({"rows": ["c1", "x", "y"]}, FieldError, r"no obs name .*x.* in AnnData.* \(2 of 3 names unknown\)"),
        ({"rows": [0.5]}, ParameterTypeError, "rows must be positions, a mask or obs names"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        IndexSource(tiny(10), **arguments)


def test_wrong_data_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file"):
        IndexSource(tmp_path / "none.h5ad")
    with pytest.raises(ParameterTypeError, match="data must be a path, an AnnData or a list of these, got dict"):
        IndexSource({})


def test_only_short_rows_are_shown(h5ad: Path) -> None:
    assert repr(IndexSource(h5ad, [3, 1], 2)) == f"IndexSource({str(h5ad)!r}, rows=[3, 1], block_size=2)"
    assert repr(IndexSource(h5ad, np.arange(20), 2)) == f"IndexSource({str(h5ad)!r}, rows=<20 rows>, block_size=2)"
