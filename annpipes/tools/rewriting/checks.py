"""What must hold before a rewrite begins."""

from __future__ import annotations

import os
import shutil

import numpy as np

from annpipes.errors import DiskSpaceError, ParameterError
from annpipes.messages.brevity import brief_bytes
from annpipes.stores import encoded_row_bytes
from annpipes.tools.rewriting.jobs import Workshop
from annpipes.types import Chunk

__all__ = ["check_outputs", "check_space"]

_SAMPLE_ROWS = 512


def check_outputs(workshop: Workshop, overwrite: bool) -> None:
    for path in workshop.outputs():
        if os.path.exists(path) and not overwrite:
            raise ParameterError(
                f"output {path!r} already exists: choose another name, or overwrite it (--overwrite, overwrite=True)"
            )


def _row_bytes(workshop: Workshop, chunk: Chunk) -> float:
    """What a row takes in the output, judged by those of ``chunk``; of what must be turned first, at most."""
    store, turned = workshop.store, {rows.field for rows in workshop.turned}
    there = [matrix for matrix in workshop.matrices if matrix.field not in turned]
    known = encoded_row_bytes(store, chunk, there, workshop.encoding)
    return known + sum(store.matrix(field).row_bytes for field in turned)


def check_space(workshop: Workshop) -> None:
    """Refuse to begin what the disk cannot hold: all parts, and the outputs beside them."""
    store = workshop.store
    starts = np.linspace(0, max(store.n_obs - _SAMPLE_ROWS // 8, 0), 8).astype(np.int64)
    rows = np.unique((starts[:, None] + np.arange(_SAMPLE_ROWS // 8)).clip(max=max(store.n_obs - 1, 0)))[: store.n_obs]
    row_bytes = _row_bytes(workshop, Chunk(rows, np.arange(len(rows))))
    columns = sum(field.startswith("obs/") for field in store.fields)
    dense = sum(store.matrix(field).row_bytes for field in workshop.assembly.dense)
    dense += sum(array.row_bytes for array in workshop.assembly.arrays)
    needed = 1.1 * store.n_obs * (2 * row_bytes + 8 * columns + 64 + dense) + sum(one.bytes for one in workshop.turned)
    folder = workshop.job.folder
    there = sum(entry.stat().st_size for entry in os.scandir(folder)) if os.path.isdir(folder) else 0
    free = shutil.disk_usage(os.path.dirname(workshop.job.output)).free
    if needed - there > free:
        raise DiskSpaceError(
            f"{os.path.dirname(folder)} has {brief_bytes(free)} free, and shuffling needs about "
            f"{brief_bytes(needed - there)} there (parts and result): make room, or choose another folder or codec"
        )
