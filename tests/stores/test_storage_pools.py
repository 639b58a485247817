"""Memory and threads that are used again and again."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import sparse
from storage_files import csr_file

from annpipes import stream
from annpipes.errors import ParameterError
from annpipes.stores.engine import pools
from annpipes.stores.engine.pools import Work, empty, run, thread_count

MIB = 1 << 20


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory of other tests is at hand."""
    monkeypatch.setattr(pools, "_free", deque(maxlen=8))


VIEWS: dict[str, Callable[[NDArray[Any]], Any]] = {
    "itself": lambda a: a,
    "a slice": lambda a: a[100:200],
    "a slice of a slice": lambda a: a[100:9000][5:10],
    "every third": lambda a: a[::-3],
    "another shape": lambda a: a.reshape(2, -1)[1],
    "another type": lambda a: a.view("u1")[4:],
    "transposed": lambda a: a.reshape(4, -1).T[7:],
    "a memoryview": lambda a: memoryview(a)[10:],
    "an array of a memoryview": lambda a: np.asarray(memoryview(a)[10:]),
    "a tensor": lambda a: torch.from_numpy(a[5:]),
    "a slice of a tensor": lambda a: torch.from_numpy(a)[9:20].view(-1),
    "a tensor's array": lambda a: torch.from_numpy(a[5:]).numpy()[3:],
    "a tensor by dlpack": lambda a: torch.from_dlpack(a)[50:],
    "a sparse matrix": lambda a: sparse.csr_matrix((a[:9], np.arange(9), [0, 9]), (1, 9), copy=False).data,
}


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("view_of", VIEWS.values(), ids=VIEWS)
def test_memory_is_not_used_again_while_anything_looks_at_it(view_of: Callable[[NDArray[Any]], Any]) -> None:
    array = empty(MIB // 2, "i4")
    array[:] = 0x07070707
    view = view_of(array)
    before = bytes(np.asarray(view))
    del array
    gc.collect()
    others = [empty(MIB // 2, "i4") for _ in range(6)]
    for other in others:
        other[:] = 0x09090909
    assert bytes(np.asarray(view)) == before
    del others, other


@pytest.mark.usefixtures("kept")
def test_memory_is_used_again_when_nothing_does() -> None:
    array = empty(MIB, "i4")
    place = array.ctypes.data
    del array
    assert empty((MIB // 2, 2), "f4").ctypes.data == place
    assert empty(MIB - 100, "i4").ctypes.data == place  # a little less will do
    assert empty(4 * MIB, "i4").nbytes == 16 * MIB  # more will not


@pytest.mark.usefixtures("kept")
def test_only_a_few_pieces_of_memory_are_kept() -> None:
    arrays = [empty(MIB, "i4") for _ in range(20)]
    del arrays
    assert len(pools._free) <= 8


@pytest.mark.usefixtures("kept")
def test_the_smallest_memory_that_is_large_enough_is_used_again() -> None:
    sizes = [8 * MIB, 2 * MIB, 4 * MIB]
    arrays = [empty(size, "u1") for size in sizes]
    places = [array.ctypes.data for array in arrays]
    del arrays
    assert empty(2 * MIB, "u1").ctypes.data == places[1]
    assert empty(3 * MIB, "u1").ctypes.data == places[2]
    short = empty(MIB, "u1"), empty(MIB, "u1"), empty(MIB, "u1")  # as for a pass's short last chunk
    assert {part.ctypes.data for part in short} == set(places)
    del short
    assert empty(8 * MIB, "u1").ctypes.data == places[0]


@pytest.mark.usefixtures("kept")
def test_memory_that_became_too_small_is_not_kept_for_ever() -> None:
    for size in range(1, 20):
        arrays = [empty(size * MIB, "u1") for _ in range(2)]
        del arrays
    assert len(pools._free) == 2
    assert all(len(memory) >= 19 * MIB for memory in pools._free)


@pytest.mark.usefixtures("kept")
def test_no_two_threads_get_the_same_memory() -> None:
    def fill(number: int) -> bool:
        array = empty(MIB // 2, "i4")
        array[:] = number
        time.sleep(0.001)
        return bool((array == number).all())

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(fill, range(200)))


@pytest.mark.parametrize("shape", [0, 1, (0, 5), (3, 0), (2, 3), (MIB, 1)])
@pytest.mark.parametrize("dtype", ["bool", "u1", "f2", "f8"])
def test_empty_has_the_shape_and_type_asked_for(shape: Any, dtype: str) -> None:
    array = empty(shape, dtype)
    assert array.shape == np.empty(shape).shape
    assert array.dtype == dtype
    assert array.flags.writeable
    assert array.flags.c_contiguous


def test_every_task_is_run_once() -> None:
    done: deque[int] = deque()
    run(Work([partial(done.append, i) for i in range(50)]), Work([]), Work([partial(done.append, 50)]))
    assert sorted(done) == list(range(51))
    run(Work([]))


def test_an_error_comes_when_all_tasks_have_stopped() -> None:
    running: set[int] = set()

    def task(number: int) -> None:
        running.add(number)
        time.sleep(0.002 if number % 3 else 0.03)
        running.discard(number)
        if number in (1, 2):
            raise ValueError(number)

    for _ in range(5):
        with pytest.raises(ValueError, match=r"^[12]$"):
            run(Work([partial(task, i) for i in range(12)], at_once=16))
        assert not running


@pytest.mark.parametrize(
    ("work", "most"),
    [({"task_bytes": 1 << 31}, 1), ({"at_once": 16}, 16), ({}, thread_count())],
    ids=["much memory", "a slow disk", "cores"],
)
def test_no_more_run_at_once_than_may(work: dict[str, Any], most: int) -> None:
    running, peak, lock = 0, 0, threading.Lock()

    def task() -> None:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0.005)
        with lock:
            running -= 1

    run(Work([task] * 40, **work))
    assert peak <= most
    assert work.get("at_once") is None or peak > (os.cpu_count() or 1) or most == 1


def test_many_threads_may_run_work_at_once() -> None:
    with ThreadPoolExecutor(20) as threads:
        for _ in threads.map(lambda i: run(Work([partial(time.sleep, 0.001)] * 9)), range(100)):
            pass


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({}, 8),
        ({"LOCAL_WORLD_SIZE": "2"}, 4),
        ({"LOCAL_WORLD_SIZE": "16"}, 1),
        ({"ANNPIPES_NUM_THREADS": "3"}, 3),
        ({"ANNPIPES_NUM_THREADS": "12", "LOCAL_WORLD_SIZE": "2"}, 12),
        ({"ANNPIPES_NUM_THREADS": ""}, 8),
    ],
)
def test_ranks_of_one_machine_share_its_cores(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], count: int
) -> None:
    monkeypatch.setattr(pools, "core_count", lambda: 8)
    for name in ("LOCAL_WORLD_SIZE", "ANNPIPES_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert thread_count() == count


def test_what_one_loader_reads_is_decoded_by_its_threads(tmp_path: Path) -> None:
    path = csr_file(tmp_path / "x.h5ad", chunks=16, compression="gzip")
    seen = []
    with mock.patch.object(pools, "_run", lambda works: works and seen.append([work.threads for work in works])):
        for given in (None, 1, 5):
            list(stream(path, num_threads=given))
            seen.append(given)
    assert seen == [[thread_count()] * 2, None, [1, 1], 1, [5, 5], 5]
    with pytest.raises(ParameterError, match="num_threads must be at least 1, got 0"):
        stream(path, num_threads=0)


@pytest.mark.parametrize("name", ["LOCAL_WORLD_SIZE", "ANNPIPES_NUM_THREADS"])
@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_a_number_of_threads_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.delenv("ANNPIPES_NUM_THREADS", raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(ParameterError, match=f"{name} must be a whole number of at least 1, got '{value}'"):
        thread_count()
