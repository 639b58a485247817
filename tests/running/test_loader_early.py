"""The first batch of a pass comes as soon as its rows are there, and nothing else becomes another."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from storage_files import create, csr_of, matrix_values, places_of, relayout, write

import annpipes as ap
from annpipes.errors import DamageError
from annpipes.running.workers import Workers
from annpipes.stores.engine import elements
from annpipes.stores.engine.elements import Direct

N_OBS, BATCH = 400, 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = write(tmp_path / "x.h5ad", csr_of(matrix_values(N_OBS)))
    for name in ("data", "indices"):
        relayout(made, f"X/{name}", create(chunks=16, compression="gzip"))
    return made


def loader_of(data: Any, **options: Any) -> ap.Loader:
    return ap.stream(data, batch_size=BATCH, block_size=1, chunk_size=N_OBS, fields=["X", "rows"], seed=3, **options)


def test_rows_that_cannot_be_read_come_up_when_it_is_their_turn(path: Path) -> None:
    x = anndata.read_h5ad(path).X
    drawn = loader_of(path).planned(0).chunk(0).drawn
    wanted = {place // 16 for row in drawn[:BATCH] for place in range(x.indptr[row], x.indptr[row + 1])}
    spoilt = next(number for number in range(len(places_of(path, "X/data"))) if number not in wanted)
    offset, size = places_of(path, "X/data")[spoilt]
    broken = bytearray(path.read_bytes())
    broken[offset + size // 2] ^= 0xFF
    path.write_bytes(broken)
    batches = iter(loader_of(path))
    first = next(batches)
    assert first["rows"].tolist() == drawn[:BATCH].tolist()
    np.testing.assert_array_equal(first["X"], x[drawn[:BATCH]].toarray())
    with pytest.raises(DamageError, match="X/data"):
        next(batches)


def test_rows_of_the_first_batch_that_cannot_be_read_end_the_pass(path: Path) -> None:
    x = anndata.read_h5ad(path).X
    row = next(row for row in loader_of(path).planned(0).chunk(0).drawn[:BATCH] if x.indptr[row + 1] > x.indptr[row])
    offset, size = places_of(path, "X/indices")[x.indptr[row] // 16]
    broken = bytearray(path.read_bytes())
    broken[offset + size // 2] ^= 0xFF
    path.write_bytes(broken)
    before = threading.enumerate()
    with pytest.raises(DamageError, match="X/indices"):
        next(iter(loader_of(path)))
    for thread in threading.enumerate():  # one that is reading ahead ends with what it reads
        if thread.name.startswith("annpipes_") and thread not in before:
            thread.join(20)
            assert not thread.is_alive()


@pytest.mark.parametrize("prefetch", [0, 1, 3])
@pytest.mark.parametrize("rows", [range(5), range(BATCH), range(BATCH + 1), range(N_OBS)], ids=len)
def test_batches_are_those_of_a_whole_chunk(path: Path, prefetch: int, rows: range) -> None:
    x = anndata.read_h5ad(path).X.toarray()
    loader = loader_of(path, prefetch=prefetch, rows=rows)
    for _ in range(2):
        drawn = loader.planned().chunk(0).drawn
        seen = list(loader)
        assert np.concatenate([batch["rows"] for batch in seen]).tolist() == drawn.tolist()
        np.testing.assert_array_equal(np.concatenate([batch["X"] for batch in seen]), x[drawn])


def test_rows_and_what_transforms_know_of_them_stay_together() -> None:
    counts = np.arange(1, N_OBS + 1, dtype=np.float32)
    adata = anndata.AnnData(np.ones((N_OBS, 3), np.float32), obs={"n_counts": counts})
    pipe = ap.IndexSource(adata, block_size=1).shuffle_blocks().sort_within_chunks(N_OBS).read_rows(["X", "rows"])
    batches = list(ap.Loader(pipe.batch_rows(BATCH).transform(ap.NormalizeTotal(1.0, total="obs/n_counts"))))
    for batch in batches:
        assert batch.rows.tolist() == batch["rows"].tolist()
        np.testing.assert_allclose(batch["X"][:, 0], 1 / counts[batch["rows"]], rtol=1e-6)
    assert sorted(np.concatenate([batch.rows for batch in batches])) == [*range(N_OBS)]


def test_a_pass_may_be_left_after_its_first_batch(path: Path) -> None:
    loader = loader_of(path)
    for _ in range(5):
        next(iter(loader))
    assert loader.epoch == 5


def test_a_pass_that_is_left_decodes_no_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indptr, drawn = anndata.read_h5ad(path).X.indptr, loader_of(path).planned(0).chunk(0).drawn
    wanted = {place // 16 for row in drawn[:BATCH] for place in range(indptr[row], indptr[row + 1])}
    decode, end = Direct.decode, Workers.end
    left, others = threading.Event(), list[int]()

    def held(self: Direct, number: int, again: bool) -> Any:
        if number not in wanted:
            others.append(number)
            assert left.wait(60)
        return decode(self, number, again)

    def ended(self: Workers, *, wait: bool = True) -> None:
        left.set()
        end(self, wait=wait)

    monkeypatch.setattr(elements, "loop_of", lambda *_: None)  # one storage chunk after the other, by Python
    monkeypatch.setattr(Direct, "decode", held)
    monkeypatch.setattr(Workers, "end", ended)
    batches = iter(loader_of(path, num_threads=2))
    assert next(batches)["rows"].tolist() == drawn[:BATCH].tolist()
    batches.close()
    assert len(others) <= 2 < len(places_of(path, "X/data")) - len(wanted)  # those that both threads were at


class Halved(ap.RowReader):
    """A reader whose users changed what it makes of a chunk."""

    def each(self, item: ap.Chunk) -> ap.Batch:
        batch = super().each(item)
        return batch.replace(X=batch["X"].with_data(batch["X"].data / 2))


def test_a_reader_of_ones_own_makes_all_of_each_chunk(path: Path) -> None:
    source = ap.IndexSource(path, block_size=1).shuffle_blocks().sort_within_chunks(N_OBS)
    ours, halved = (
        ap.Loader(reader(source, ["X"]).batch_rows(BATCH).collate_rows(), seed=3) for reader in (ap.RowReader, Halved)
    )
    for one, half in zip(ours, halved, strict=True):
        np.testing.assert_array_equal(one["X"] / 2, half["X"])
