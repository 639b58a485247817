"""Files rewritten in shuffled order.

`arrangement`  which rows stand where in a rewritten file
`checks`       what must hold before a rewrite begins
`jobs`         a rewrite that can be taken up again
`execution`    parts and outputs made several at once, here or on a cluster
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from annpipes.errors import ParameterError
from annpipes.messages.brevity import brief_bytes, brief_number
from annpipes.messages.progress import Progress, Steps, no_progress
from annpipes.messages.reporting import Report
from annpipes.messages.showing import PAGE, Code, Page, Part, Prose, Shown, text_of
from annpipes.plans.rows import as_bytes, as_count, as_natural
from annpipes.stores import (
    CODECS,
    FieldStore,
    Remote,
    as_left_out,
    codec_of,
    matrices_of,
)
from annpipes.tools.rewriting.checks import check_outputs, check_space
from annpipes.tools.rewriting.execution import make
from annpipes.tools.rewriting.jobs import Job, Workshop, by_rows, named_inputs, open_inputs, working_folder

__all__ = ["Rewrite", "rewrite_shuffled"]

_PROGRAM_BYTES = 600_000_000  # Python with what annpipes imports, and working memory of decoding
_LARGEST_PART = 500_000_000  # longer parts mix no better, and more is lost when one is broken off
_LEAST_ROWS = 1024
_LONGER, _BLOCKS_PER_PART = 4, 64  # longer blocks are read faster, and so many mix a part: benchmarks/README.md


@dataclass(frozen=True)
class Rewrite(Report, Shown):
    """What `rewrite_shuffled` wrote.

    Parameters
    ----------
    files
        The output files, in order.
    n_obs
        How many rows all of them have together.
    input_bytes, output_bytes
        Total size of the inputs, and of the outputs.
    codec
        How values are compressed.
    parts, reused_parts
        How many parts there were, and how many of them had been finished by an earlier call.
    seconds
        How long it took.
    left_out
        What the inputs have but the outputs lack.
    """

    files: tuple[str, ...]
    n_obs: int
    input_bytes: int
    output_bytes: int
    codec: str
    parts: int
    reused_parts: int
    seconds: float
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        return self.on(PAGE)

    def on(self, page: Page) -> str:
        return text_of(self._shown(), page, between="\n")

    def _shown(self) -> list[Part]:
        many = f"{len(self.files)} files, {self.files[0]} to {self.files[-1]}" if len(self.files) > 1 else self.files[0]
        share = self.output_bytes / max(1, self.input_bytes)
        lines = [
            f"{many}: {self.n_obs:,} rows, {brief_bytes(self.output_bytes)} "
            f"({share:.0%} of the input), codec {self.codec}",
            f"{self.seconds:,.1f} s, {brief_number(self.n_obs / max(self.seconds, 1e-9))} rows/s"
            + (f"; {self.reused_parts} of {self.parts} parts were finished before" if self.reused_parts else ""),
        ]
        if self.left_out:
            lines.append(f"left out: {', '.join(self.left_out)}")
        if plugin := CODECS[self.codec].plugin:
            lines.append(f"anndata.read_h5ad reads it after `import {plugin}`; annpipes needs nothing.")
        data = self.files[0] if len(self.files) == 1 else list(self.files) if len(self.files) < 4 else self._pattern()
        return [Prose(lines, indent="  "), Code("", f"read it: ap.stream({data!r}, batch_size=256)")]

    def _pattern(self) -> str:
        stem, suffix = os.path.splitext(self.files[0])
        return f"{stem.rpartition('-')[0]}-*{suffix}"


def rewrite_shuffled(
    data: Any,
    output: str | os.PathLike[str],
    *,
    rows_per_file: int | None = None,
    codec: str = "lz4",
    dtype: str | Mapping[str, str] | None = None,
    memory: int | str = "4GB",
    seed: int = 0,
    groupby: str | None = None,
    block_size: int | None = None,
    join: str = "inner",
    without: str | Sequence[str] = (),
    overwrite: bool = False,
    scheduler: str | None = None,
    progress: Progress = no_progress,
) -> Rewrite:
    """One or many files or Zarr stores rewritten in shuffled order, fast to read, as plain ``.h5ad``.

    >>> done = rewrite_shuffled("pbmc.h5ad", "shuffled.h5ad")
    >>> import anndata, hdf5plugin
    >>> adata = anndata.read_h5ad("shuffled.h5ad")
    >>> adata.n_obs, adata.obs_names[0] == anndata.read_h5ad("pbmc.h5ad").obs_names[0]
    (700, False)

    Blocks of rows are drawn in random order and read part by part; within a part, rows are
    permuted. The order depends on the inputs, ``seed`` and the parameters, including ``memory``.

    Finished parts are kept in ``<output>.unfinished`` until everything is done. If the work is interrupted, the
    same call continues with what is missing. An output file appears under its name when it is complete.

    The output has X, layers, raw, obs, obsm (including tables and arrays of any dimensions) and var, and with a single
    input also uns, varm and varp; ``obsp`` is left out. Several inputs are joined as by a `Collection`:
    genes as ``join`` says, those of raw apart from those of var, and the obs columns, layers and obsm that all have.

    Parameters
    ----------
    data
        A path or an address, a list of these, or a pattern.
    output
        Path of the result. With ``rows_per_file``, ``out.h5ad`` becomes ``out-0.h5ad``, ``out-1.h5ad`` …
    rows_per_file
        Rows per output file; all in one file when None.
    codec
        ``"lz4"`` (fast) and ``"zstd"`` (smaller) need ``hdf5plugin`` wherever the file is read with h5py or anndata;
        ``"gzip"`` needs nothing and is slower; ``"none"`` is the fastest and largest.
    dtype
        A narrower type for the values of X, such as ``"uint16"`` for counts, or types by field; refused
        if a value would change.
    memory
        How much memory one process may take, in bytes or as a string such as ``"4GB"``.
    seed
        Equal seeds give equal orders.
    groupby
        An obs column of labels: rows of one label stay together, label after label, and are shuffled within it.
    block_size
        How many rows are read together. When None, up to four times what `IndexSource` would choose, as long as
        every part is drawn from 64 blocks.
    join
        The genes of several inputs, and those of their raw, ``"inner"`` or ``"outer"``.
    without
        What to leave out: ``"X"``, ``"raw"``, ``"layers/x"``, ``"obsm/x"``, ``"obs/column"``, ``"var/column"``,
        ``"uns/key"``, ``"varm/x"``, ``"varp/x"``, or a whole group such as ``"uns"``.
    overwrite
        Replace an existing output.
    scheduler
        Address of a Dask scheduler whose workers write the parts; the paths must be valid on the workers. ``memory``
        is then that of each worker. Options of a `Remote`, such as credentials, are sent to the workers.
    progress
        Called with the number of steps done and of all steps.

    Raises
    ------
    ParameterError
        An output already exists, ``memory`` is too small for a part, or a value does not fit into ``dtype``.
    DiskSpaceError
        The disk is too full for the parts and the result.
    StateError
        The folder of parts belongs to another rewrite, or another process is working in it.
    FieldError
        ``without`` names something that no input has.
    SourceError, FormatError, DamageError
        An input is missing, cannot be read by rows, or is damaged.
    RemoteError
        An address cannot be read; finished parts are kept.
    """
    began = time.monotonic()
    paths = named_inputs(data)
    if join not in ("inner", "outer"):
        raise ParameterError(f"join must be 'inner' or 'outer', got {join!r}")
    codec_of(codec)
    dtypes, budget = _dtypes(dtype), as_bytes(memory, "memory")
    store = open_inputs(paths, join)
    left_out = as_left_out(without, store)
    wanted = _output(output, paths)
    turned = by_rows(store, wanted, left_out)
    rows_per_part = _rows_per_part(store, dtypes, budget, left_out)
    job = Job(
        inputs=tuple(one if isinstance(one, Remote) else os.path.abspath(one) for one in paths),
        join=join,
        data=f"{zlib.crc32(json.dumps(dict(store.fingerprint())).encode()):08x}",
        output=wanted,
        seed=as_natural(seed, "seed"),
        groupby=groupby,
        block_size=_block_size(store, rows_per_part) if block_size is None else as_count(block_size, "block_size"),
        rows_per_file=as_count(max(1, store.n_obs) if rows_per_file is None else rows_per_file, "rows_per_file"),
        rows_per_part=rows_per_part,
        codec=codec,
        dtypes=tuple(sorted(dtypes.items())),
        memory=budget,
        without=left_out,
    )
    workshop = Workshop(job, store, turned)
    workshop.assembly.check()
    if not os.path.isdir(job.folder):
        check_outputs(workshop, overwrite)
    check_space(workshop)
    with working_folder(job) as attempt:
        reused = make(workshop, attempt, scheduler, Steps(progress, 2 * store.n_obs))
    progress(2 * store.n_obs, 2 * store.n_obs)
    return _rewrite(workshop, os.path.isabs(output), reused, time.monotonic() - began)


def _rewrite(workshop: Workshop, absolute: bool, reused: int, seconds: float) -> Rewrite:
    """What was done."""
    job, outputs = workshop.job, workshop.outputs()
    return Rewrite(
        files=tuple(path if absolute else os.path.relpath(path) for path in outputs),
        n_obs=workshop.store.n_obs,
        input_bytes=sum(one.n_bytes for one in workshop.assembly.inputs),
        output_bytes=sum(map(os.path.getsize, outputs)),
        codec=job.codec,
        parts=len(workshop.pieces),
        reused_parts=reused,
        seconds=seconds,
        left_out=tuple(workshop.assembly.left_out),
    )


def _output(output: str | os.PathLike[str], inputs: Sequence[str | Remote]) -> str:
    path = os.path.abspath(os.path.expanduser(output))
    if not path.endswith(".h5ad"):
        raise ParameterError(f"output must end in .h5ad, got {os.fspath(output)!r}")
    if not os.path.isdir(os.path.dirname(path)):
        raise ParameterError(f"output: there is no folder {os.path.dirname(path)!r}")
    if os.path.realpath(path) in [os.path.realpath(one) for one in inputs if not isinstance(one, Remote)]:
        raise ParameterError(f"output {os.fspath(output)!r} is an input: choose another name")
    return path


def _dtypes(dtype: str | Mapping[str, str] | None) -> dict[str, str]:
    given = {} if dtype is None else {"X": dtype} if isinstance(dtype, str) else dict(dtype)
    for field, name in given.items():
        try:
            kind = np.dtype(name).kind
        except TypeError:
            kind = "O"
        if kind not in "iuf":
            raise ParameterError(f"dtype of {field} must be a numpy type of numbers such as 'uint16', got {name!r}")
    return given


def _rows_per_part(store: FieldStore, dtypes: Mapping[str, str], memory: int, without: Sequence[str]) -> int:
    matrices = matrices_of(store, dtypes, without)
    widest = max([store.matrix(matrix.field).row_bytes for matrix in matrices], default=1.0)
    resident = 8 * store.n_obs * (sum(matrix.sparse for matrix in matrices) + 1)
    rows = min((memory - _PROGRAM_BYTES - resident) // 4, _LARGEST_PART) / max(1.0, widest)
    needed = min(_LEAST_ROWS, store.n_obs)
    if rows < needed:
        least = _PROGRAM_BYTES + resident + 4 * needed * widest
        raise ParameterError(
            f"memory must be at least {brief_bytes(1.01 * least)} for these files, got {brief_bytes(memory)}"
        )
    return int(max(1, rows))


def _block_size(store: FieldStore, rows_per_part: int) -> int:
    advised = store.block_advice().size
    return max(advised, min(_LONGER * advised, min(rows_per_part, store.n_obs) // _BLOCKS_PER_PART))
