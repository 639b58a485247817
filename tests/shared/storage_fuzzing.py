"""Files with flipped bytes, read in a process that may crash."""

from __future__ import annotations

import faulthandler
import os
import random
import resource
import select
import signal
import struct
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata
import h5py
from anndata.io import read_elem
from storage_files import chunk_of, in_h5py_alone, rows_of, same

from annpipes.errors import AnnpipesError
from annpipes.stores import open_store

__all__ = ["fuzz"]

PARTS = ("data", "indices", "indptr")
ROWS = [*range(23), 3, 3, 22, 0]
OTHERS = ("obs_names", "obs/kind", "obs/kind:code", "obs/score")
NUMBERS = (0, 1, 15, 17, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 8, 2**63, 2**64 - 2, 2**64 - 1)
BUSY = 1  # seconds of computing over one file, which takes hundredths
SILENCE = 30  # seconds without a sign of life
MEMORY = 3 << 30


def fuzz(path: Path, seed: int, count: int) -> tuple[list[str], int]:
    """What went wrong in ``count`` damaged copies of a file, and how often HDF5 itself broke down."""
    whole, x = path.read_bytes(), anndata.read_h5ad(path).X
    right = rows_of(x, ROWS)
    assert not list(_complaints(path, right))  # and kernels are compiled
    damaged, names = path.with_name(f"damaged-{path.name}"), _names(path)
    wrong: list[str] = []
    broken = next_case = 0
    while next_case < count:
        last, end, said = _watched(
            lambda tell, start=next_case: _judge(whole, right, damaged, seed, start, count, tell)
        )
        wrong += said
        next_case = last + 1
        if end == "done":
            break
        damaged.write_bytes(_damage(whole, seed, last))
        _, alone, _ = _watched(lambda tell: _read_by_hdf5(damaged, names, tell))
        if alone == "done":
            wrong.append(f"case {last}: {end}")
        else:
            broken += 1
    return wrong, broken


def _damage(whole: bytes, seed: int, number: int) -> bytes:
    """Case ``number``: bits flipped, numbers replaced, or the end cut off."""
    rng = random.Random(f"{seed}-{number}")
    content = bytearray(whole)
    if rng.random() < 0.04:
        return bytes(content[: rng.randrange(len(content))])
    used = [place for place, octet in enumerate(whole) if octet]
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        place = rng.choice(used) if rng.random() < 0.8 else rng.randrange(len(content))
        kind = rng.random()
        if kind < 0.6:
            content[place] ^= 1 << rng.randrange(8)
        elif kind < 0.85:
            content[place] = rng.choice([0, 0xFF, rng.randrange(256)])
        else:
            width = rng.choice([2, 4, 8])
            number_there = struct.pack("<Q", rng.choice(NUMBERS) & (2 ** (8 * width) - 1))[:width]
            content[place : place + width] = number_there[: len(content) - place]
    return bytes(content)


def _judge(
    whole: bytes, right: Any, path: Path, seed: int, start: int, count: int, tell: Callable[[str], None]
) -> None:
    for number in range(start, count):
        tell(f"{number}")
        path.write_bytes(_damage(whole, seed, number))
        if number % 4 == 3:
            with in_h5py_alone():
                found = list(_complaints(path, right))
        else:
            found = list(_complaints(path, right))
        for complaint in found:
            tell(f"case {number}: {complaint}")


def _complaints(path: Path, right: Any) -> Iterator[str]:
    try:
        store = open_store(path)
        _ = store.fields, store.route("X"), store.block_advice()
        found = store.read(chunk_of(ROWS), ["X"])["X"]
    except AnnpipesError:
        pass
    except Exception:
        yield traceback.format_exc(limit=-4)
    else:
        if not same(found, right) and not _as_hdf5_reads(path, found, store.route("X")):
            yield f"wrong rows by {store.route('X')}"
    for field in OTHERS:
        try:
            store = open_store(path)
            store.read(chunk_of([row for row in ROWS if row < store.n_obs]), [field])
        except AnnpipesError:
            pass
        except Exception:
            yield traceback.format_exc(limit=-4)
            break


def _as_hdf5_reads(path: Path, found: Any, route: str) -> bool:
    """Whether the damage is one that HDF5 does not notice either."""
    try:
        with h5py.File(path) as file:
            x = file["X"]
            arrays = {name: x[name][()] for name in PARTS} if isinstance(x, h5py.Group) else x[()]
    except Exception:  # it does notice
        return False
    # HDF5 fills up what a filter left short with whatever is in memory: twice the same is too much to ask.
    if route.startswith("h5py"):
        return True
    return same(
        found, rows_of(SimpleNamespace(**arrays, shape=found.shape) if isinstance(arrays, dict) else arrays, ROWS)
    )


def _read_by_hdf5(path: Path, names: list[str], tell: Callable[[str], None]) -> None:
    """All that the file holds, without any of our own code."""
    for name in names:
        tell("0")
        with suppress(Exception), h5py.File(path) as file:
            element = file[name]
            for key in ("encoding-type", "encoding-version", "shape", "_index", "column-order", "ordered"):
                with suppress(Exception):
                    _ = element.attrs[key]
            if isinstance(element, h5py.Group):
                _ = list(element)
            else:
                with suppress(Exception):
                    element.id.chunk_iter(lambda info: None)
                _ = element[()]
        with suppress(Exception), h5py.File(path) as file:
            read_elem(file[name])


def _names(path: Path) -> list[str]:
    names = ["/"]
    with h5py.File(path) as file:
        file.visit(names.append)
    return names


def _watched(work: Callable[[Callable[[str], None]], None]) -> tuple[int, str, list[str]]:
    """Run ``work`` in a child: the last number it told, how it ended, and what else it told."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(reader)
            faulthandler.disable()  # pytest's, which would tell of every crash
            warnings.simplefilter("ignore")
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            with open("/proc/self/statm") as file:
                now = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
            work(lambda text: _tell(writer, text))
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    said, hangs = b"", False
    while not hangs and (ready := select.select([reader], [], [], SILENCE)[0] or not (hangs := True)):
        if not (part := os.read(reader, 1 << 16)):
            break
        said += part
        del ready
    os.close(reader)
    if hangs:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    texts = said.decode(errors="replace").split("\0")[:-1]
    numbers = [int(text) for text in texts if text.isdigit()]
    others = [text for text in texts if not text.isdigit()]
    end = "hangs" if hangs else "done" if status == 0 else f"ends with {_ending(status)}"
    return numbers[-1] if numbers else 0, end, others


def _tell(writer: int, text: str) -> None:
    signal.setitimer(signal.ITIMER_PROF, BUSY)  # ends the process, whatever loop it is in
    os.write(writer, text.encode() + b"\0")


def _ending(status: int) -> str:
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
