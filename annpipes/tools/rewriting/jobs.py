"""A rewrite that can be taken up again: what it is, and which of its parts are finished."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from typing import Any

from annpipes.errors import ParameterError, ParameterTypeError, StateError
from annpipes.plans.rows import RowArray
from annpipes.plans.state import State
from annpipes.stores import (
    Assembly,
    Collection,
    Encoding,
    FieldStore,
    Matrix,
    Remote,
    TurnedRows,
    addresses_of,
    as_remote,
    bytes_of,
    codec_of,
    exclusive,
    field_named,
    finish,
    is_pattern,
    matrices_of,
    name_of,
    open_store,
    part_lengths,
    paths_of,
    row_lengths,
    turn_columns,
)
from annpipes.tools.rewriting.arrangement import Arrangement, Piece, pieces_of
from annpipes.types import Chunk

__all__ = [
    "Bases",
    "Job",
    "Workshop",
    "by_rows",
    "named_inputs",
    "open_inputs",
    "opened",
    "unfinished",
    "working_folder",
]

Bases = Mapping[str, int]

_UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class Job:
    """All that the outputs depend on.

    Parameters
    ----------
    inputs
        Absolute paths, and addresses.
    join
        Which genes several inputs have in common, as for `Collection`.
    data
        A few characters that differ for other inputs.
    output
        Where the rewritten file goes; with several, the beginning of their names.
    without
        What is left out.
    """

    inputs: tuple[str | Remote, ...]
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
    without: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """What is written down of it: of an address neither options nor a signature, which may be others next time."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        record: dict[str, Any] = json.loads(json.dumps({**values, "inputs": list(map(name_of, self.inputs))}))
        return record

    @property
    def folder(self) -> str:
        """Where parts lie until the outputs are complete."""
        return folder_of(self.output)

    def output_of(self, file: int, n_files: int) -> str:
        """The name of an output file."""
        stem, suffix = os.path.splitext(self.output)
        return self.output if n_files == 1 else f"{stem}-{file:0{len(str(n_files - 1))}}{suffix}"


def named_inputs(data: Any) -> list[str | Remote]:
    """The files and addresses that are meant."""
    remote = as_remote(data)
    if remote is not None:
        return [*addresses_of(remote)]
    if isinstance(data, str | os.PathLike):
        path = os.path.expanduser(data)
        return [*paths_of(path)] if is_pattern(path) else [path]
    if not isinstance(data, list | tuple) or not all(isinstance(one, str | os.PathLike | Remote) for one in data):
        raise ParameterTypeError(
            f"data must be paths of files, or addresses, got {type(data).__name__}: write an AnnData with "
            f"write_h5ad first"
        )
    if not data:
        raise ParameterError("data is an empty list: there is nothing to shuffle")
    return [path for one in data for path in named_inputs(one)]


def open_inputs(inputs: Sequence[str | Remote], join: str) -> FieldStore:
    """The inputs as one store."""
    store = open_store(inputs[0]) if len(inputs) == 1 else Collection(list(inputs), join=join)
    assert isinstance(store, FieldStore)
    return store


def folder_of(output: str) -> str:
    """Where parts of an output lie until it is complete."""
    return f"{output}{_UNFINISHED}"


def by_rows(store: FieldStore, output: str, without: Sequence[str]) -> list[TurnedRows]:
    """What inputs hold by columns is read by rows from now on, once it is written to the folder of parts."""
    stores = store.stores if isinstance(store, Collection) else [store]
    left_out = partial(field_named, without=without)
    turned = (turn_columns(one, folder_of(output), number, left_out) for number, one in enumerate(stores))
    return [rows for some in turned for rows in some]


class Workshop:
    """A job with its inputs open as one store, of which some matrices are turned first."""

    def __init__(self, job: Job, store: FieldStore, turned: Sequence[TurnedRows]) -> None:
        self.job: Job = job
        self.store: FieldStore = store
        self.turned: Sequence[TurnedRows] = turned
        labels = None if job.groupby is None else self.store.codes(job.groupby)
        self.arrangement: Arrangement = Arrangement(self.store.n_obs, job.block_size, job.seed, labels)
        self.pieces: list[Piece] = pieces_of(self.store.n_obs, job.rows_per_file, job.rows_per_part)
        self.n_files: int = self.pieces[-1].file + 1
        self.matrices: list[Matrix] = matrices_of(self.store, dict(job.dtypes), job.without)
        self.encoding: Encoding = codec_of(job.codec)
        self.assembly: Assembly = Assembly(self.store, self.matrices, self.encoding, job.memory // 4, job.without)
        self._lengths = {matrix.field: row_lengths(self.store, matrix) for matrix in self.matrices if matrix.sparse}
        self._before: dict[int, Bases] = {}  # of values, by part
        self.lengths_known: bool = None not in self._lengths.values()
        """Whether it is known before reading how many values each row stores."""

    def read(self, chunk: Chunk, matrix: Matrix) -> Any:
        """A matrix's rows."""
        return self.store.matrix(matrix.field).read(chunk)

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
        """How many values of each sparse matrix, and how many rows of others, stand before a part in its output file.

        If only reading can tell how many values there are, the parts before it must be finished.
        """
        start = piece.number
        while start not in self._before and self.pieces[start].first > 0:
            start -= 1
        for number in range(start, piece.number + 1):
            if number not in self._before:
                self._before[number] = self._values_before(self.pieces[number])
        return self._as_bases(piece, self._before[piece.number])

    def bases_in_any_order(self, piece: Piece) -> Bases:
        """As `bases`; if only reading can tell, as if no values stood before: storage chunks are cut anew later."""
        return self.bases(piece) if self.lengths_known else self._as_bases(piece, dict.fromkeys(self._lengths, 0))

    def _values_before(self, piece: Piece) -> Bases:
        """How many values of each sparse matrix, counted from those before the part before it."""
        if piece.first == 0:
            return dict.fromkeys(self._lengths, 0)
        last = self.pieces[piece.number - 1]
        return {
            field: count + int(self.lengths(last, field).sum()) for field, count in self._before[last.number].items()
        }

    def _as_bases(self, piece: Piece, values: Bases) -> Bases:
        return {matrix.field: values.get(matrix.field, piece.first) for matrix in self.matrices}


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
                json.dump(State({"attempt": uuid.uuid4().hex}, job.record()).as_dict(), file, indent=1)
            finish(f"{record}.new", record)
        yield _attempt(job, record)
        shutil.rmtree(job.folder)


def _attempt(job: Job, record: str) -> str:
    """The name of the attempt that the record is of, if it is one at this job."""
    try:
        with open(record) as file:
            saved = json.load(file)
        position = State.read(saved, {"attempt": str}).checked(job.record())
    except (StateError, ValueError) as error:  # ValueError: what is no JSON
        raise StateError(
            f"{job.folder} holds parts of another rewrite ({error}): give the same parameters to continue it, or "
            f"remove that folder"
        ) from error
    return str(position["attempt"])


@contextmanager
def _locked(path: str, folder: str) -> Iterator[None]:
    """Nobody else in here; the kernel lets go of the lock if this process is killed."""
    with open(path, "w") as file:
        if not exclusive(file):
            raise StateError(f"another process is writing to {folder}: wait for it")
        yield


@lru_cache(1)
def opened(job: Job) -> Workshop:
    """The job's workshop in a process that knows only the job."""
    store = open_inputs(job.inputs, job.join)
    return Workshop(job, store, by_rows(store, job.output, job.without))


def unfinished(output: str) -> tuple[str, int]:
    """Where the parts of a rewrite that was broken off are kept, and how many bytes they have."""
    folder = folder_of(os.path.expanduser(output))
    return folder, bytes_of(folder) if os.path.isdir(folder) else 0
