"""Files that are changed by others while they are read."""

from __future__ import annotations

from pathlib import Path

from storage_files import csr_of, matrix_values, write

DRAWN = [*range(399, 0, -3), 5, 5]


def file_of(folder: Path, name: str, seed: int = 0) -> Path:
    how, form = name.split()
    values = matrix_values(400, seed=seed)
    values[:, 0] = seed + 1  # every row tells which version it is of
    compression = {} if how == "plain" else {"compression": how}
    return write(folder / f"{name.replace(' ', '-')}.h5ad", csr_of(values) if form == "csr" else values, **compression)
