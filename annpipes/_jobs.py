"""A rewrite that can be taken up again: what it is, and which of its parts are finished."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from annpipes._rewrites import Arrangement, Piece, pieces_of
from annpipes._rows import RowArray
from annpipes._store import (
    Assembly,
    Collection,
    FieldStore,
    Matrix,
    encoding_of,
    field_key,
    finish,
    matrices_of,
    open_store,
    part_counts,
    part_lengths,
    row_lengths,
)
from annpipes.errors import StateError
from annpipes.types import Chunk

__all__ = ["Bases", "Job", "Workshop", "open_inputs", "opened", "working_folder"]

Bases = Mapping[str, int]


@dataclass(frozen=True)
class Job:
    """All that the outputs depend on.

    Parameters
    ----------
    inputs
        Absolute paths.
    join
        Which genes several inputs have in common, as of `Collection`.
    data
        A few characters that differ for other inputs.
    output
        Where the rewritten file goes; with several, the beginning of their names.
    """

    inputs: tuple[str, ...]
    join: str
    data: str
    output: str
    seed: int
    groupby: str | None
    block_size: int
    rows_per_file: int
    rows_per_part: int
    codec: str
    dtypes: tuple[tuple[str, str], ...]
    memory: int

    @property
    def folder(self) -> str:
        """Where parts lie until the outputs are complete."""
        return f"{self.output}.unfinished"

    def output_of(self, file: int, n_files: int) -> str:
        """The name of an output file."""
        stem, suffix = os.path.splitext(self.output)
        return self.output if n_files == 1 else f"{stem}-{file:0{len(str(n_files - 1))}}{suffix}"


def open_inputs(inputs: Sequence[str], join: str) -> FieldStore:
    """The inputs as one store."""
    store = open_store(inputs[0]) if len(inputs) == 1 else Collection(list(inputs), join=join)
    assert isinstance(store, FieldStore)
    return store


class Workshop:
    """A job with its inputs open."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.store = open_inputs(job.inputs, job.join)
        labels = None if job.groupby is None else self.store.codes(job.groupby)
        self.arrangement = Arrangement(self.store.n_obs, job.block_size, job.seed, labels)
        self.pieces = pieces_of(self.store.n_obs, job.rows_per_file, job.rows_per_part)
        self.n_files = self.pieces[-1].file + 1
        self.matrices = matrices_of(self.store, dict(job.dtypes))
        self.encoding = encoding_of(job.codec)
        self.assembly = Assembly(self.store, self.matrices, self.encoding, job.memory // 4)
        self._lengths = {matrix.field: row_lengths(self.store, matrix) for matrix in self.matrices if matrix.sparse}
        self._bases: list[Bases] = []
        self.lengths_known = None not in self._lengths.values()
        """Whether it is known before reading how many values each row stores."""

    def read(self, chunk: Chunk, matrix: Matrix) -> Any:
        """A matrix's rows."""
        return self.store.read(chunk, [matrix.field])[field_key(matrix.field)]

    def outputs(self) -> list[str]:
        """The names of all output files."""
        return [self.job.output_of(file, self.n_files) for file in range(self.n_files)]

    def pieces_of_file(self, file: int) -> list[Piece]:
        """The parts of an output file."""
        return [piece for piece in self.pieces if piece.file == file]

    def path_of(self, piece: Piece) -> str:
        """Where a finished part lies."""
        return os.path.join(self.job.folder, f"part-{piece.number:06}.h5")

    def lengths(self, piece: Piece, field: str) -> RowArray:
        """How many values each row of a part stores; of a finished part, if only reading could tell."""
        get = self._lengths[field]
        return part_lengths(self.path_of(piece), field) if get is None else get(self.arrangement.rows(piece))

    def bases(self, piece: Piece) -> Bases:
        """What stands before a part in its output file; if only reading can tell, those before it must be finished."""
        if self.lengths_known and not self._bases:
            self._bases = self._all_bases()
        if self._bases:
            return self._bases[piece.number]
        before = [
            part_counts(self.path_of(other)) for other in self.pieces_of_file(piece.file) if other.start < piece.start
        ]
        return {
            matrix.field: sum(counts[matrix.field] for counts in before) if matrix.sparse else piece.first
            for matrix in self.matrices
        }

    def _all_bases(self) -> list[Bases]:
        bases: list[Bases] = []
        for piece in self.pieces:
            if piece.first == 0:
                before = dict.fromkeys((matrix.field for matrix in self.matrices), 0)
            bases.append(
                {matrix.field: before[matrix.field] if matrix.sparse else piece.first for matrix in self.matrices}
            )
            for field in self._lengths:
                before[field] += int(self.lengths(piece, field).sum())
        return bases


@contextmanager
def working_folder(job: Job) -> Iterator[str]:
    """The folder of parts, which this process alone writes to, and which goes when all is done.

    Its name for this attempt, which outputs carry: what another one wrote is not taken for this one's.
    """
    os.makedirs(job.folder, exist_ok=True)
    record = os.path.join(job.folder, "job.json")
    with _locked(os.path.join(job.folder, "lock"), job.folder):
        if not os.path.exists(record):
            with open(f"{record}.new", "w") as file:
                json.dump({**asdict(job), "attempt": uuid.uuid4().hex}, file, indent=1)
            finish(f"{record}.new", record)
        yield _compared(job, record)
        shutil.rmtree(job.folder)


def _compared(job: Job, record: str) -> str:
    with open(record) as file:
        saved = json.load(file)
    now = json.loads(json.dumps(asdict(job)))
    differences = [
        f"{name} was {saved.get(name)!r} and is {now[name]!r}" for name in now if saved.get(name) != now[name]
    ]
    if differences:
        raise StateError(
            f"{job.folder} holds parts of another shuffle ({'; '.join(differences)}): give the same parameters to "
            f"go on with it, or remove that folder"
        )
    return str(saved["attempt"])


@contextmanager
def _locked(path: str, folder: str) -> Iterator[None]:
    """Nobody else in here; the kernel lets go of the lock if this process is killed."""
    import fcntl

    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(f"another process is writing to {folder}: wait for it") from None
        yield


@lru_cache(1)
def opened(job: Job) -> Workshop:
    """The job's workshop in this process."""
    return Workshop(job)
