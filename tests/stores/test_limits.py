"""The bare work of reading: it does all that is needed and no more, whatever happens to the readers."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import anndata
import h5py
import hdf5plugin
import numpy as np
import pytest
from storage_files import chunk_of, create, csr_file, csr_of, dense_file, matrix_values, relayout, write

from annpipes import SparseRows
from annpipes.stores import BareReading, BareWork, Threads, densifying

ROWS = [4, 5, 1, 20, 2]
"""In drawn order; row 1, 2 and 4, 5 touch."""


def works(path: Path, *chunks: list[int]) -> dict[str, BareWork]:
    """The bare work of reading chunks, by name, all of it run once."""
    with Threads(2) as threads:
        found = {work.name: work for work in BareReading(path, [chunk_of(rows) for rows in chunks]).works(threads)}
        for work in found.values():
            threads.run_chunks(work.tasks)
    return found


def needed(path: Path, field: str, rows: list[int]) -> list[int]:
    """Which storage chunks of a one-dimensional dataset hold some of these rows, by the file's own indptr."""
    with h5py.File(path) as file:
        indptr, side = file["X/indptr"][:], file[field].chunks[0]
    return sorted({place // side for row in rows for place in range(indptr[row], indptr[row + 1])})


def test_copying_puts_every_value_where_the_drawn_order_wants_it(tmp_path: Path) -> None:
    path = csr_file(tmp_path / "plain.h5ad", chunks=10)
    copy = works(path, ROWS)["copy"]
    data, indices = {id(out): out for out in outs(copy)}.values()
    expected = anndata.read_h5ad(path).X[ROWS]
    with h5py.File(path) as file:
        kind = file["X/indices"].dtype
    assert data.view(expected.dtype)[: expected.nnz].tolist() == expected.data.tolist()
    assert indices.view(kind)[: expected.nnz].tolist() == expected.indices.tolist()


def outs(work: BareWork) -> list[Any]:
    """What the tasks of copying write into."""
    return [task.args[-1] for tasks in work.tasks for task in tasks]


def test_copying_dense_rows_puts_them_in_the_drawn_order(tmp_path: Path) -> None:
    path = dense_file(tmp_path / "plain.h5ad", chunks=(4, 4))
    copy = works(path, ROWS)["copy"]
    expected = anndata.read_h5ad(path).X[ROWS]
    assert outs(copy)[0].view(expected.dtype).reshape(expected.shape).tolist() == expected.tolist()
    assert copy.n_bytes == expected.nbytes


def test_an_uncompressed_file_is_copied_and_not_decoded(tmp_path: Path) -> None:
    assert works(csr_file(tmp_path / "plain.h5ad"), ROWS).keys() == {"copy"}


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"compression": "gzip"}, "inflating gzip"),
        ({"compression": "gzip", "shuffle": True}, "decoding shuffle + gzip"),
        (hdf5plugin.Blosc(), "decoding blosc"),
        (hdf5plugin.Zstd(), "decoding zstd"),
        (hdf5plugin.LZ4(), "decoding lz4"),
    ],
)
def test_each_storage_chunk_with_a_row_is_decoded_once(tmp_path: Path, options: Any, what: str) -> None:
    path = csr_file(tmp_path / "packed.h5ad", chunks=10, **options)
    found = works(path, ROWS)
    chunks = len(needed(path, "X/data", ROWS)) + len(needed(path, "X/indices", ROWS))
    assert found.keys() == {"decode", "copy"}
    assert found["decode"].what == what
    assert len(found["decode"].tasks[0]) == chunks
    assert found["decode"].n_bytes == chunks * 10 * 4


def test_two_chunks_decode_what_they_share_twice(tmp_path: Path) -> None:
    path = csr_file(tmp_path / "packed.h5ad", chunks=1000, compression="gzip")
    assert [len(tasks) for tasks in works(path, [1], [2])["decode"].tasks] == [2, 2]


@pytest.mark.parametrize(("make", "options"), [(csr_file, {"chunks": 10}), (dense_file, {"chunks": (4, 9)})])
def test_what_hdf5_alone_can_decode_is_read_by_it(tmp_path: Path, make: Any, options: Any) -> None:
    found = works(make(tmp_path / "lzf.h5ad", compression="lzf", **options), ROWS)
    assert found.keys() == {"hdf5"}


def test_hdf5_reads_each_storage_chunk_once(tmp_path: Path) -> None:
    path = dense_file(tmp_path / "lzf.h5ad", compression="lzf", chunks=(4, 9))  # 23 rows: 0-3, 4-7, 20-22 are needed
    assert works(path, ROWS)["hdf5"].n_bytes == (4 + 4 + 3) * 9 * 4


def test_a_file_with_two_routes_has_both_kinds_of_work(tmp_path: Path) -> None:
    path = csr_file(tmp_path / "mixed.h5ad", chunks=10, compression="gzip")
    relayout(path, "X/indices", create(compression="lzf", chunks=10))
    reading = BareReading(path, [chunk_of(ROWS)])
    assert works(path, ROWS).keys() == {"hdf5", "decode", "copy"}
    assert reading.row_bytes == 2 * 4 * anndata.read_h5ad(path).X[ROWS].nnz
    assert reading.disk() is None


def test_decoded_bytes_are_those_of_the_rows_only_without_compression(tmp_path: Path) -> None:
    plain = BareReading(csr_file(tmp_path / "plain.h5ad", chunks=10), [chunk_of(ROWS)])
    packed = BareReading(csr_file(tmp_path / "packed.h5ad", chunks=10, compression="gzip"), [chunk_of(ROWS)])
    assert plain.row_bytes == plain.decoded_bytes == packed.row_bytes < packed.decoded_bytes


def test_the_disk_gives_the_stored_bytes_of_the_storage_chunks_needed(tmp_path: Path) -> None:
    path = csr_file(tmp_path / "packed.h5ad", chunks=10, compression="gzip")
    with h5py.File(path) as file:
        stored = sum(
            file[field].id.get_chunk_info(number).size
            for field in ("X/data", "X/indices")
            for number in needed(path, field, ROWS)
        )
    disk = BareReading(path, [chunk_of(ROWS)]).disk()
    assert disk is not None
    assert disk.n_bytes == stored
    assert sum(task() for tasks in disk.tasks for task in tasks) == stored


def test_tasks_outlive_the_reading_that_made_them(tmp_path: Path) -> None:
    disk = BareReading(csr_file(tmp_path / "plain.h5ad"), [chunk_of(ROWS)]).disk()
    gc.collect()
    assert disk is not None
    assert sum(task() for tasks in disk.tasks for task in tasks) == disk.n_bytes


def test_a_file_cut_short_is_no_fast_disk(tmp_path: Path) -> None:
    path = csr_file(tmp_path / "plain.h5ad")
    disk = BareReading(path, [chunk_of(list(range(23)))]).disk()
    os.truncate(path, 100)
    assert disk is not None
    with pytest.raises(OSError, match="could be read"):
        [task() for tasks in disk.tasks for task in tasks]


def test_rows_without_values_are_no_work(tmp_path: Path) -> None:
    assert works(csr_file(tmp_path / "plain.h5ad"), [0, 7, 14]) == {}


def test_a_matrix_without_values_is_no_work(tmp_path: Path) -> None:
    assert works(write(tmp_path / "zeros.h5ad", csr_of(np.zeros((3, 4), np.float32))), [0, 2]) == {}


def test_densifying_writes_the_dense_rows_over_what_was_there() -> None:
    matrices = [csr_of(matrix_values(5, 9, seed=seed)) for seed in range(3)]
    with Threads(2) as threads:
        work = densifying([SparseRows.of(matrix) for matrix in matrices], threads)
        threads.run_chunks(work.tasks)
    assert work.n_bytes == 3 * 5 * 9 * 4
    first, second = (work.tasks[number][0].args[-1] for number in (0, 1))
    assert work.tasks[2][0].args[-1] is first
    assert first.tolist() == matrices[2].toarray().tolist()
    assert second.tolist() == matrices[1].toarray().tolist()


def test_threads_do_every_task_once() -> None:
    done: list[int] = []
    with Threads(3) as threads:
        threads.run_chunks([[lambda n=n: done.append(n) for n in range(10)], [lambda: done.append(10)]])
    assert sorted(done) == list(range(11))
    assert done[-1] == 10


def test_threads_raise_what_a_task_raises() -> None:
    with Threads(2) as threads, pytest.raises(ZeroDivisionError):
        threads.run([lambda: 1 / 0])


def test_a_run_that_is_out_of_time_has_begun_all_the_same() -> None:
    with Threads(2) as threads:
        returned, seconds = threads.run_for([lambda: 1] * 1000, 0.0)
    assert 1 <= returned <= 2
    assert seconds > 0


def test_a_run_with_time_returns_the_sum_of_all() -> None:
    with Threads(2) as threads:
        assert threads.run_for([lambda: 3] * 4, 60.0)[0] == 12


def test_parts_cover_everything_once() -> None:
    with Threads(3) as threads:
        assert [n for part in threads.split(50) for n in range(50)[part]] == list(range(50))
