"""Bars over epochs, and epochs that are broken off: what a bar counts to, and that nothing goes on working."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from builders import tiny
from tqdm import tqdm

import annpipes as ap
from annpipes.plotting import Recorder
from annpipes.running.workers import Workers


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Interrupts are heard: whoever runs tests in the background of a shell has them ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class TestBars:
    @pytest.mark.parametrize("wrap", [lambda loader: loader, Recorder], ids=["loader", "recorder"])
    def test_a_bar_counts_to_the_end_of_the_epoch(self, wrap: Callable[[Any], Any], tmp_path: Path) -> None:
        for batch_size in (8, 16, 40):
            with (tmp_path / "bar").open("w") as file, tqdm(wrap(ap.stream(tiny(40), batch_size)), file=file) as bar:
                assert bar.total == -(-40 // batch_size)
                assert len(list(bar)) == bar.n == bar.total

    @pytest.mark.parametrize("wrap", [lambda loader: loader, Recorder], ids=["loader", "recorder"])
    def test_within_an_epoch_it_begins_where_the_pass_does(self, wrap: Callable[[Any], Any], tmp_path: Path) -> None:
        loader, other = ap.stream(tiny(40), batch_size=8), ap.stream(tiny(40), batch_size=8)
        for _ in zip(range(2), loader, strict=False):
            pass
        other.load_state_dict(loader.state_dict())
        assert other.first_batch == 2
        with (tmp_path / "bar").open("w") as file, tqdm(wrap(other), initial=other.first_batch, file=file) as bar:
            assert bar.total == 5
            assert len(list(bar)) == 3
            assert bar.n == 5
        assert other.first_batch == 0  # the next epoch is whole

    def test_a_pass_that_was_broken_off_goes_on_in_the_same_loader(self) -> None:
        whole = [batch["X"].sum().item() for batch in ap.stream(tiny(40), batch_size=8)]
        loader = ap.stream(tiny(40), batch_size=8)
        seen = []
        for batch in loader:
            seen.append(batch["X"].sum().item())
            if len(seen) == 2:
                break
        loader.load_state_dict(loader.state_dict())
        assert seen + [batch["X"].sum().item() for batch in loader] == whole


class Noted(ap.Transform):
    """X as it is; each call leaves a byte in a file, so that calls can be counted from other processes."""

    batched = True

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __call__(self, x: Any) -> Any:
        with open(self.path, "ab") as file:
            file.write(b".")
        return x


class Interrupts(Noted):
    """The same; at the eighth call Ctrl-C reaches the main thread, wherever it is."""

    def __call__(self, x: Any) -> Any:
        super().__call__(x)
        if os.path.getsize(self.path) >= 8:  # of two threads, both may see the ninth: one is to interrupt
            with suppress(FileExistsError), open(f"{self.path}-sent", "x"):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return x


BEFORE: set[threading.Thread] = set()
"""What other tests left."""


def threads() -> list[str]:
    """Those of loaders, of this test; those that decode are everybody's, and wait for work."""
    names = [thread.name for thread in threading.enumerate() if thread not in BEFORE]
    return [name for name in names if name.startswith("annpipes") and not name.startswith("annpipes-decode")]


def loader_of(transform: Noted, method: Any) -> ap.Loader:
    context = "fork" if method == "process" else None
    return ap.stream(
        tiny(400), 4, transform=transform, num_workers=2, method=method, multiprocessing_context=context, chunk_size=8
    )


def fourth(batches: Iterable[Any], then: Callable[[], Any]) -> None:
    """Take batches, and with the fourth one do something."""
    for number, _ in enumerate(batches):
        if number == 3:
            then()


def by_break(loader: ap.Loader) -> None:
    for number, _ in enumerate(loader):
        if number == 3:
            break


def by_an_error(loader: ap.Loader) -> None:
    with pytest.raises(ZeroDivisionError):
        fourth(tqdm(loader, disable=True), lambda: 1 // 0)


def by_ctrl_c(loader: ap.Loader) -> None:
    with pytest.raises(KeyboardInterrupt):
        fourth(Recorder(loader), partial(signal.raise_signal, signal.SIGINT))


def interrupt_all() -> None:
    for worker in multiprocessing.active_children():
        os.kill(worker.pid or 0, signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def begun() -> Iterator[int]:
    """How many threads there are before; none of ours may be left."""
    BEFORE.clear()
    BEFORE.update(threading.enumerate())
    yield threading.active_count()
    assert not threads()
    BEFORE.clear()


@pytest.mark.parametrize("interrupt", [by_break, by_an_error, by_ctrl_c])
def test_an_interrupted_epoch_leaves_no_thread(
    interrupt: Callable[[ap.Loader], None], tmp_path: Path, begun: int
) -> None:
    loader = loader_of(Noted(tmp_path / "calls"), "thread")
    interrupt(loader)
    assert not threads()
    assert (tmp_path / "calls").stat().st_size < 100
    assert loader.epoch == 1
    assert len(list(loader)) == 100  # the next epoch is whole


def test_an_interrupt_that_comes_while_it_waits_leaves_no_thread(tmp_path: Path, begun: int) -> None:
    loader = loader_of(Interrupts(tmp_path / "calls"), "thread")
    with pytest.raises(KeyboardInterrupt):
        list(loader)
    assert not threads()
    assert (tmp_path / "calls").stat().st_size < 100


@pytest.mark.parametrize("interrupt", [by_break, by_an_error, by_ctrl_c])
def test_an_interrupted_epoch_leaves_no_process_working(
    interrupt: Callable[[ap.Loader], None], tmp_path: Path, begun: int
) -> None:
    loader = loader_of(Noted(tmp_path / "calls"), "process")
    interrupt(loader)
    done = (tmp_path / "calls").stat().st_size
    assert done < 100
    workers = multiprocessing.active_children()
    assert len(workers) == 2  # they are kept for the next pass, as after a whole one
    del loader
    gc.collect()  # ends them, once they have done what they had begun
    assert not [worker for worker in workers if worker.is_alive()]
    assert (tmp_path / "calls").stat().st_size == done


def test_an_interrupt_of_the_whole_group_as_of_a_notebook_leaves_processes_that_can_go_on(
    tmp_path: Path, begun: int
) -> None:
    loader = loader_of(Noted(tmp_path / "calls"), "process")
    with pytest.raises(KeyboardInterrupt):
        fourth(loader, interrupt_all)
    assert len(list(loader)) == 100


def test_an_interrupt_while_work_is_handed_out_leaves_none_that_nobody_does(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(abs, 1, processes="fork")
    pool: Any = workers.executor
    put = pool._work_ids.put

    def interrupted(item: Any) -> None:  # the pool has noted the work, and no process can see it yet
        os.kill(os.getpid(), signal.SIGINT)
        put(item)

    monkeypatch.setattr(pool._work_ids, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        workers.begin(-3)
    until = time.monotonic() + 60
    while pool._pending_work_items and time.monotonic() < until:
        time.sleep(0.01)
    assert not pool._pending_work_items
    workers.end()
