"""Parts and outputs of a rewrite, made several steps at once, here or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from annpipes.errors import ParameterError, WorkerError
from annpipes.plans.rows import RowArray
from annpipes.stores import PartFile, finish, mark_of, sync
from annpipes.tools.rewriting.arrangement import Piece
from annpipes.tools.rewriting.jobs import Bases, Job, Workshop, opened

__all__ = ["make"]


Parts = Mapping[int, Future[None]]
"""For each part by its number whether it is finished, to be waited for."""

Run = Callable[[Workshop, Sequence[Piece], Parts], None]


@dataclass(frozen=True)
class _Awaited:
    """A part that an output file waits for."""

    workshop: Workshop
    piece: Piece
    finished: Future[None]

    def path(self) -> str:
        self.finished.result()
        return self.workshop.path_of(self.piece)

    def rows(self) -> RowArray:
        return self.workshop.arrangement.rows(self.piece)

    def lengths(self, field: str) -> RowArray:
        if not self.workshop.lengths_known:
            self.finished.result()
        return self.workshop.lengths(self.piece, field)


def make(workshop: Workshop, attempt: str, scheduler: str | None, tell: Callable[[int], None]) -> int:
    """Make all outputs of which parts are missing; how many parts were finished before.

    While parts are made, the outputs are put together of those that are finished.
    """
    for rows in workshop.turned:
        rows.make(workshop.job.memory // 2)
    run: Run = _run_here if scheduler is None else _on_cluster(scheduler)
    complete = [mark_of(path).get("attempt") == attempt for path in workshop.outputs()]
    parts: dict[int, Future[None]] = {piece.number: Future() for piece in workshop.pieces}
    todo: list[Piece] = []
    for piece in workshop.pieces:
        if complete[piece.file] or os.path.exists(workshop.path_of(piece)):
            parts[piece.number].set_result(None)
        else:
            todo.append(piece)
            parts[piece.number].add_done_callback(partial(_tell_unless_failed, tell, len(piece)))

    def put_together() -> None:
        for file, done in enumerate(complete):
            for rows in () if done else _assemble(workshop, attempt, file, parts):
                tell(rows)
            for piece in workshop.pieces_of_file(file):
                with suppress(FileNotFoundError):
                    os.remove(workshop.path_of(piece))

    with ThreadPoolExecutor(1, thread_name_prefix="annpipes-assemble") as pool:
        assembling = pool.submit(put_together)
        assembling.add_done_callback(lambda done: _give_up(parts, done.exception()))
        try:
            run(workshop, todo, parts)
        except BaseException as error:
            _give_up(parts, error)
            raise
        assembling.result()
    return len(parts) - len(todo)


def _assemble(workshop: Workshop, attempt: str, file: int, parts: Parts) -> Iterator[int]:
    """Put an output file together, yielding how many rows are done."""
    pieces = workshop.pieces_of_file(file)
    job = workshop.job
    unfinished = os.path.join(job.folder, f"output-{file}")
    mark = {"seed": job.seed, "block_size": job.block_size, "groupby": job.groupby, "attempt": attempt}
    awaited = [_Awaited(workshop, piece, parts[piece.number]) for piece in pieces]
    with ThreadPoolExecutor(1, thread_name_prefix="annpipes-flush") as flusher:
        flushed = []
        for rows in workshop.assembly.write(unfinished, awaited, sum(map(len, pieces)), mark):
            flushed.append(flusher.submit(sync, unfinished))  # or all of it would wait for the disk at the end
            yield rows
    for one in flushed:
        one.result()  # the kernel reports a failed write only once
    finish(unfinished, workshop.outputs()[file])


def _run_here(workshop: Workshop, todo: Sequence[Piece], parts: Parts) -> None:
    """Read part after part; while one is read, the one before is encoded, and one before that brought to the disk."""
    with ThreadPoolExecutor(1, "annpipes-encode") as encoder, ThreadPoolExecutor(1, "annpipes-finish") as finisher:
        encoding: Future[None] | None = None
        for piece in todo:
            if parts[piece.number].done():  # given up
                break
            before = parts.get(piece.number - 1)
            if not workshop.lengths_known and before is not None:
                before.result()
            part = _part_of(workshop, piece, workshop.bases(piece))
            for matrix in workshop.matrices:
                values = workshop.read(part.chunk, matrix)
                if encoding is not None:
                    encoding.result()
                encoding = encoder.submit(part.add, matrix, values)
                del values
            finisher.submit(_finish, part, encoding, parts[piece.number])
    for piece in todo:
        parts[piece.number].result()


def _part_of(workshop: Workshop, piece: Piece, bases: Bases) -> PartFile:
    """A part to be written."""
    return PartFile(workshop.path_of(piece), workshop.arrangement.chunk(piece), bases, workshop.encoding)


def _finish(part: PartFile, encoding: Future[None] | None, finished: Future[None]) -> None:
    try:
        if encoding is not None:
            encoding.result()
        part.finish()
    except BaseException as error:
        _settle(finished, error)
    else:
        _settle(finished)


def write_piece(job: Job, number: int, bases: Bases) -> int:
    """Make a part by itself, wherever this runs; the part's number."""
    workshop = opened(job)
    piece = workshop.pieces[number]
    if not os.path.exists(workshop.path_of(piece)):
        part = _part_of(workshop, piece, bases)
        for matrix in workshop.matrices:
            part.add(matrix, workshop.read(part.chunk, matrix))
        part.finish()
    return number


def _on_cluster(scheduler: str) -> Run:
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise ParameterError("scheduler= needs Dask: pip install 'annpipes[dask]'") from error

    def run(workshop: Workshop, todo: Sequence[Piece], parts: Parts) -> None:
        try:
            client = Client(scheduler, timeout="30s", set_as_default=False)
        except (OSError, ValueError) as error:
            raise WorkerError(f"no Dask scheduler answers at {scheduler!r}: {error}") from error
        with client:
            futures = [
                client.submit(write_piece, workshop.job, piece.number, workshop.bases_in_any_order(piece), pure=False)
                for piece in todo
            ]
            for future in as_completed(futures, loop=client.loop):
                _settle(parts[future.result()])

    return run


def _settle(part: Future[None], error: BaseException | None = None) -> None:
    """Say that a part is finished or will not come, unless it is known already."""
    with suppress(InvalidStateError):
        part.set_exception(error) if error is not None else part.set_result(None)


def _tell_unless_failed(tell: Callable[[int], None], rows: int, part: Future[None]) -> None:
    if part.exception() is None:
        tell(rows)


def _give_up(parts: Parts, error: BaseException | None) -> None:
    """Let nobody wait for a part that will not come."""
    for part in parts.values() if error is not None else ():
        _settle(part, error)
