"""A container of one's own, whose storage chunks lie in several files: what `Container` asks is all that is needed."""

from __future__ import annotations

import os
import pickle
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numcodecs import Fletcher32
from numpy.typing import NDArray

from annpipes.errors import ChangedError, DamageError
from annpipes.stores.bytes.local import LocalFile
from annpipes.stores.bytes.protocol import OpenBytes, read_each
from annpipes.stores.codecs.pipelines import Pipeline
from annpipes.stores.codecs.registry import BY_NAME
from annpipes.stores.containers.base import Container, StoredArray
from annpipes.stores.containers.layout import Layout
from annpipes.stores.engine.elements import Dataset, open_dataset
from annpipes.stores.engine.pieces import Spans
from annpipes.stores.engine.pools import run
from annpipes.stores.genes import Genes
from annpipes.stores.indptr import PlainIndptr
from annpipes.stores.matrices import CsrRows
from annpipes.types import Chunk

FILES = 3
CODECS = {
    "plain": Pipeline((), ()),
    "gzip": Pipeline((BY_NAME["gzip"],), ((1,),)),
    "fletcher32": Pipeline((BY_NAME["fletcher32"],), ((),)),  # which compiled loops cannot decode
}
RANDOM = np.random.default_rng(5)


class Held:
    """A byte source of one's own: bytes held in an object, without a descriptor or a mapping."""

    distant = False
    descriptor = None
    requesting = None
    stamp: tuple[Any, ...] = ()

    def __init__(self, path: str) -> None:
        self.name, self.content = path, Path(path).read_bytes()

    @property
    def size(self) -> int:
        return len(self.content)

    def opened(self) -> OpenBytes:
        return self

    def steady(self) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None: ...

    def read(self, offset: int, size: int) -> bytes:
        return self.content[offset : offset + size]

    def read_ranges(self, *ranges: Any) -> int:
        return read_each(self, *ranges)

    def mapped(self) -> None: ...

    def cached(self, offsets: Any) -> bool:
        return False


class Folder(Container):
    """Arrays in a folder, each in a folder of its own, whose files hold the storage chunks in turns."""

    library = "h5py"

    def __init__(self, folder: Path, pipeline: Pipeline, *, direct: bool = True, source: Any = LocalFile) -> None:
        self.folder, self.pipeline, self.direct, self.source = folder, pipeline, direct, source
        self.arrays: dict[str, NDArray[Any]] = {}
        self.found: dict[str, StoredArray] = {}

    @property
    def path(self) -> str:
        return str(self.folder)

    def put(self, path: str, values: NDArray[Any], sides: tuple[int, ...]) -> None:
        grid = [-(-length // side) for length, side in zip(values.shape, sides, strict=True)]
        contents, places = [b"head"] * FILES, []
        for number, corner in enumerate(product(*map(range, grid))):
            part = np.zeros(sides, values.dtype)
            there = values[tuple(slice(at * side, (at + 1) * side) for at, side in zip(corner, sides, strict=True))]
            part[tuple(map(slice, there.shape))] = there
            owner, encoded = number % FILES, self._encoded(part.tobytes())
            places.append((owner, len(contents[owner]), len(encoded), 0))
            contents[owner] += encoded
        (self.folder / path).mkdir(parents=True)
        for owner, content in enumerate(contents):
            (self.folder / path / str(owner)).write_bytes(content)
        sources = tuple(self.source(str(self.folder / path / str(owner))) for owner in range(FILES))
        owners, offsets, sizes, masks = np.array(places, np.int64).T.copy()
        table = owners.astype(np.int32), offsets, sizes, masks.astype(np.uint32)
        layout = Layout(values.dtype, values.shape, sides, sources, *table, self.pipeline)
        self.arrays[path] = values
        self.found[path] = StoredArray(values.shape, values.dtype, sides[0], layout if self.direct else "a test")

    def _encoded(self, content: bytes) -> bytes:
        encode = {(): bytes, ("gzip",): zlib.compress, ("fletcher32",): Fletcher32().encode}[self.pipeline.names]
        return bytes(encode(content))

    def array(self, path: str) -> StoredArray:
        layout = self.found[path].layout
        if isinstance(layout, Layout):
            layout.check(f"{path} in {self.path}")
        return self.found[path]

    def read(self, path: str, first: int, last: int) -> NDArray[Any]:
        return self.arrays[path][first:last]

    def numbers(self, path: str) -> Iterator[NDArray[Any]]:
        yield self.arrays[path]

    def attribute(self, name: str) -> Any:
        return None

    def steady(self) -> AbstractContextManager[None]:
        return nullcontext()


def elements_of(dataset: Dataset, firsts: list[int], lengths: list[int]) -> NDArray[Any]:
    """These stretches of a one-dimensional array, one after the other."""
    tos = np.cumsum(lengths) - lengths
    out = np.empty(sum(lengths), dataset.dtype)
    run(dataset.copy_spans(Spans(np.array(firsts), np.array(lengths), tos), out))
    return out


@pytest.fixture(params=CODECS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return Folder(tmp_path, CODECS[request.param])


@pytest.mark.parametrize("codec", CODECS)
def test_bytes_come_from_a_source_of_ones_own(tmp_path: Path, codec: str) -> None:
    folder, values = Folder(tmp_path, CODECS[codec], source=Held), RANDOM.integers(0, 99, 1000)
    folder.put("data", values, (7,))
    dataset = open_dataset(pickle.loads(pickle.dumps(folder)), "data")
    assert (elements_of(dataset, [0], [1000]) == values).all()
    assert elements_of(dataset, [998, 3], [2, 9]).tolist() == [*values[998:], *values[3:12]]


def test_elements_come_from_whatever_file_holds_them(folder: Folder) -> None:
    values = RANDOM.integers(0, 99, 1000, np.int32)
    folder.put("data", values, (7,))
    dataset = open_dataset(folder, "data")
    assert dataset.route.kind == "direct"
    assert (elements_of(dataset, [0], [1000]) == values).all()
    assert elements_of(dataset, [3, 500, 998], [9, 1, 2]).tolist() == [*values[3:12], values[500], *values[998:]]


def test_rows_come_in_the_order_asked_for(folder: Folder) -> None:
    values = RANDOM.random((50, 11), np.float32)
    folder.put("X", values, (4, 5))
    dataset = open_dataset(folder, "X")
    rows, places, out = np.array([0, 1, 17, 30, 49]), np.array([4, 0, 3, 1, 2]), np.empty((5, 11), np.float32)
    run(dataset.copy_rows(rows, places, out))
    assert (out[places] == values[rows]).all()


@pytest.mark.parametrize("genes", [None, [0, 7, 3]])
def test_rows_of_a_sparse_matrix(folder: Folder, genes: list[int] | None) -> None:
    dense = RANDOM.poisson(0.5, (60, 12)).astype(np.float32)
    rows, columns = np.nonzero(dense)
    folder.put("X/data", dense[rows, columns], (16,))
    folder.put("X/indices", columns.astype(np.int32), (16,))
    indptr = PlainIndptr(np.concatenate([[0], np.cumsum((dense != 0).sum(1))]))
    data, indices = (open_dataset(folder, f"X/{part}", indptr) for part in ("data", "indices"))
    matrix = CsrRows(data, indices, indptr, dense.shape, "indptr", container=folder)
    drawn = RANDOM.permutation(60)[:40]
    chosen = None if genes is None else Genes.of(np.array(genes), 12)
    found = matrix.read(Chunk.of(drawn), chosen).to_dense()
    assert (found == (dense if genes is None else dense[:, genes])[drawn]).all()


def test_what_has_no_layout_is_read_through_the_library(tmp_path: Path) -> None:
    folder, values = Folder(tmp_path, CODECS["plain"], direct=False), np.arange(100)
    folder.put("data", values, (7,))
    dataset = open_dataset(folder, "data")
    assert dataset.route == "h5py (a test)"
    assert elements_of(dataset, [90, 5], [10, 2]).tolist() == [*range(90, 100), 5, 6]


def test_a_file_that_changes_is_refused_whichever_it_is(folder: Folder) -> None:
    folder.put("data", np.arange(100), (7,))
    dataset = open_dataset(pickle.loads(pickle.dumps(folder)), "data")
    assert elements_of(dataset, [0], [100]).tolist() == list(range(100))
    os.utime(folder.folder / "data" / "2", ns=(1, 1))
    assert elements_of(dataset, [0], [14]).tolist() == list(range(14))  # of the files 0 and 1
    with pytest.raises(ChangedError, match=r"data/2 changed since"):
        elements_of(dataset, [0], [100])


def test_a_table_that_leads_outside_of_a_file_is_refused(folder: Folder) -> None:
    folder.put("data", np.arange(100), (7,))
    layout = folder.found["data"].layout
    assert isinstance(layout, Layout)
    layout.offsets[4] += 1 << 20
    with pytest.raises(DamageError, match="storage chunk 4 should lie at byte"):
        open_dataset(folder, "data")
    layout.offsets[4] = layout.offsets[1] + 1  # in the same file
    with pytest.raises(DamageError, match="storage chunks 1 and 4 overlap"):
        open_dataset(folder, "data")
    layout.owners[4], layout.offsets[4] = 2, layout.offsets[5]
    with pytest.raises(DamageError, match=r"storage chunks [45] and [45] overlap"):
        open_dataset(folder, "data")
