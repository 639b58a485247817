"""Workers that fail, consumers that stop: an error or an end within seconds, and nothing left running."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest
from builders import tiny, write
from passes import OddError, dawdle, ids, kill_at_17, loader_of, mapped, odd_at_17, raise_at_17, still_living, with_pid

from annpipes.errors import DamageError, WorkerError
from annpipes.stores import Request

FORK = {"num_workers": 2, "method": "process", "multiprocessing_context": "fork"}
SPAWN = {"num_workers": 1, "method": "process"}
THREADS = {"num_workers": 2}
ALONE = {"num_workers": 0, "prefetch": 0}
KINDS = {"alone": ALONE, "reading ahead": {"prefetch": 4}, "threads": THREADS, "fork": FORK}

JOBS = Path(__file__).parent / "jobs"

kinds = pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tiny(101), tmp_path_factory.mktemp("workers") / "cells.h5ad", "gzip")


def running_threads() -> list[str]:
    """Our threads, but for those that decode, which stay for the process's life."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("annpipes") and not name.startswith("annpipes-decode")]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(scope="module")
def _what_stays_is_there(path: Path) -> None:
    """A process keeps the threads that decode, and the helper with which multiprocessing cleans up."""
    for options in KINDS.values():
        ids(loader_of(path, **options))
    resource_tracker.ensure_running()


@pytest.fixture
def nothing_left(_what_stays_is_there: None) -> Iterator[None]:
    """When the test has ended, no thread, process or descriptor is there that was not there before."""
    before = descriptors()

    def left() -> Any:
        return running_threads(), multiprocessing.active_children(), max(0, descriptors() - before)

    yield
    begin = time.monotonic()
    while any(left()) and time.monotonic() - begin < 30:
        gc.collect()
    assert left() == ([], [], 0)


@pytest.mark.usefixtures("nothing_left")
class Collecting:
    """Once it is told to, it collects garbage in the worker that calls it, but for the first batch.

    Or, as decoding may, in a thread for which that worker waits.
    """

    def __init__(self, waited_for: bool = False) -> None:
        self.waited_for = waited_for
        self.begin, self.done, self.calls = threading.Event(), threading.Event(), count()

    def __call__(self, batch: Any) -> Any:
        if next(self.calls) and self.begin.wait(10):
            if self.waited_for:
                thread = threading.Thread(target=self.collect)
                thread.start()
                thread.join(5)
            else:
                self.collect()
        return batch

    def collect(self) -> None:
        gc.collect()
        self.done.set()


class TestStopping:
    @kinds
    def test_break(self, path: Path, options: dict[str, Any]) -> None:
        loader = loader_of(path, **options)
        for _ in range(3):
            for _batch in loader:
                break
        assert loader.epoch == 3

    @kinds
    def test_close_ends_workers_at_once(self, path: Path, options: dict[str, Any]) -> None:
        running = iter(loader_of(path, **options))
        next(running)
        running.close()
        assert not running_threads()
        assert not multiprocessing.active_children()

    @kinds
    def test_a_pass_that_was_never_begun(self, path: Path, options: dict[str, Any]) -> None:
        iter(loader_of(path, **options))

    @pytest.mark.parametrize("waited_for", [False, True])
    def test_a_pass_that_is_collected_by_a_worker_of_its_own(self, path: Path, waited_for: bool) -> None:
        collecting = Collecting(waited_for)
        passes: list[Any] = [iter(mapped(path, collecting, num_workers=1))]
        passes.append(passes)  # so that only the garbage collector finds it
        gc.disable()
        try:
            next(passes[0])
            del passes
            collecting.begin.set()
            assert collecting.done.wait(3)  # pytest raises what a worker could not do there
        finally:
            gc.enable()

    @kinds
    @pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, ValueError])
    def test_an_exception_in_the_loop(
        self, path: Path, options: dict[str, Any], interruption: type[BaseException]
    ) -> None:
        loader = loader_of(path, **options)
        with pytest.raises(interruption):
            self.interrupted(loader, interruption)
        assert loader.state_dict()["batch"] == 1

    def interrupted(self, loader: Any, interruption: type[BaseException]) -> None:
        for _ in loader:
            raise interruption

    @kinds
    def test_the_end(self, path: Path, options: dict[str, Any]) -> None:
        running = iter(loader_of(path, **options))
        assert len(list(running)) == 13
        assert not running_threads()
        assert not multiprocessing.active_children()


@pytest.mark.usefixtures("nothing_left")
class TestFailing:
    @kinds
    def test_a_functions_error_comes_out_after_the_batches_before_it(self, path: Path, options: dict[str, Any]) -> None:
        expected = ids(loader_of(path))
        place = next(number for number, rows in enumerate(expected) if 17 in rows)
        loader = mapped(path, raise_at_17, **options)
        running = iter(loader)
        assert [next(running)["rows"].tolist() for _ in range(place)] == expected[:place]
        with pytest.raises(ZeroDivisionError, match="cell 17 has no counts"):
            next(running)
        assert loader.state_dict()["batch"] == place
        loader.load_state_dict(loader.state_dict())
        with pytest.raises(ZeroDivisionError, match="cell 17 has no counts"):  # a loader survives it
            next(iter(loader))

    def test_an_error_that_cannot_be_unpickled_is_told_all_the_same(self, path: Path) -> None:
        with pytest.raises(OddError, match="cell 17: no counts"):
            list(mapped(path, odd_at_17, **THREADS))
        with pytest.raises(WorkerError, match=r"OddError.*cell 17: no counts"):
            list(mapped(path, odd_at_17, **FORK))

    @kinds
    def test_an_error_while_reading_comes_out(self, tmp_path: Path, options: dict[str, Any]) -> None:
        path = write(tiny(101), tmp_path / "cells.h5ad")
        loader = loader_of(path, **options)
        os.utime(path, (0, 0))
        for _ in range(2):
            with pytest.raises(DamageError, match=r"cells\.h5ad changed since it was first opened"):
                list(loader)

    @pytest.mark.parametrize("options", [FORK, SPAWN], ids=["fork", "spawn"])
    def test_a_worker_that_dies_at_its_work(self, path: Path, options: dict[str, Any]) -> None:
        begin = time.monotonic()
        with pytest.raises(WorkerError, match="a worker process ended without an error message"):
            list(mapped(path, kill_at_17, **options))
        assert time.monotonic() - begin < 60  # without `spawn` it is far less than a second

    @pytest.mark.parametrize("pause", [0, 0.5])
    def test_a_worker_that_is_killed_from_outside(self, path: Path, pause: float) -> None:
        # After the pause, all that was begun is done, and the workers wait for more. The one that is left may do all
        # the rest before anybody looks after the other: only of a loop that rests is it certain that it is told.
        running = iter(mapped(path, with_pid, **FORK))
        victim = next(running)["pid"]
        time.sleep(pause)
        os.kill(victim, signal.SIGKILL)
        time.sleep(pause)
        begin = time.monotonic()
        with pytest.raises(WorkerError, match="a worker process ended without an error message"):
            self.rested(running)
        assert time.monotonic() - begin < 30

    def rested(self, running: Iterator[Any]) -> None:
        for _ in running:
            time.sleep(0.05)

    def test_what_cannot_be_sent_to_a_process_is_said_at_once(self, path: Path) -> None:
        with pytest.raises((AttributeError, TypeError), match="pickle"):
            list(mapped(path, Unsendable(), **SPAWN))
        assert len(list(mapped(path, Unsendable(), **FORK))) == 13  # inherited


class Unsendable:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return batch


class TestAhead:
    @pytest.mark.parametrize("options", [THREADS, {"num_workers": 3, "prefetch": 2}, FORK])
    def test_a_batch_that_is_done_early_waits_for_its_turn(self, path: Path, options: dict[str, Any]) -> None:
        assert ids(mapped(path, dawdle, **options)) == ids(loader_of(path))

    @pytest.mark.parametrize(("prefetch", "num_workers"), [(0, 0), (1, 0), (4, 0), (1, 2)])
    def test_no_more_chunks_are_read_ahead_than_asked_for(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, prefetch: int, num_workers: int
    ) -> None:
        begun: list[int] = []
        begin = Request.begin
        monkeypatch.setattr(Request, "begin", lambda *given: begun.append(len(given[1])) or begin(*given))
        loader = loader_of(path, 4, chunk_size=8, prefetch=prefetch, num_workers=num_workers)
        for received, _ in enumerate(loader, 1):
            time.sleep(0.005)
            asked_for = min(26, received + 2 * num_workers)  # a worker may have two batches in front of it
            assert len(begun) <= -(-asked_for // 2) + max(prefetch, 1)
        assert sum(begun) == 101


class TestLeaving:
    """A program may end in the middle of a pass."""

    def start(self, path: Path, way: str, options: dict[str, Any]) -> subprocess.Popen[str]:
        command = [sys.executable, str(JOBS / "leave.py"), str(path), way, json.dumps(options)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def end(self, job: subprocess.Popen[str]) -> str:
        try:
            return job.communicate(timeout=60)[1]
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            pytest.fail(f"the program hangs: {job.communicate()}")

    @pytest.mark.parametrize("options", [{"prefetch": 4, **THREADS}, FORK, SPAWN], ids=["threads", "fork", "spawn"])
    def test_a_pass_that_was_not_finished_does_not_keep_a_program_from_ending(
        self, path: Path, options: dict[str, Any]
    ) -> None:
        job = self.start(path, "return", options)
        assert self.end(job) == ""
        assert job.returncode == 0

    def test_nor_does_an_error(self, path: Path) -> None:
        job = self.start(path, "raise", FORK)
        errors = self.end(job)
        assert job.returncode == 1
        assert errors.endswith("ZeroDivisionError: in the loop's body\n")

    @pytest.mark.parametrize("options", [THREADS, FORK], ids=["threads", "fork"])
    def test_control_c_ends_a_program_and_its_workers(self, path: Path, options: dict[str, Any]) -> None:
        job = self.start(path, "wait", options)
        assert job.stdout is not None
        assert job.stdout.readline() == "begun\n"
        os.killpg(job.pid, signal.SIGINT)  # as a terminal does: the workers are told, too
        assert "KeyboardInterrupt" in self.end(job)
        assert job.returncode == -signal.SIGINT
        assert not still_living(job.pid, seconds=30)  # what has closed its output may not have ended yet
