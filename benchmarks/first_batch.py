"""Seconds from the import of `stream` to the first batch, each time in a fresh process.

The file is in the page cache and the kernels are in numba's: a first process that is not
counted compiles them. Chunks are of the default size, and the first of them is a whole one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import files
import measuring


@dataclass(frozen=True)
class Case:
    """How X is stored, and what is asked of `stream` beside its defaults."""

    compression: str | None
    options: dict[str, Any] = field(default_factory=dict)


CASES = {
    "gzip": Case("gzip"),
    "uncompressed": Case(None),
    "gzip, single rows": Case("gzip", {"block_size": 1}),
    "gzip, 2,000 genes": Case("gzip", {"genes": [*range(0, 20_000, 10)]}),
    "gzip, single rows, 2,000 genes": Case("gzip", {"block_size": 1, "genes": [*range(0, 20_000, 10)]}),
}
PROGRAM = """
import json, sys, time
from annpipes import stream
begin = time.perf_counter()
batches = iter(stream(sys.argv[1], **json.loads(sys.argv[2])))
batch = next(batches)
print(time.perf_counter() - begin)
"""


def measure(case: Case, quick: bool) -> dict[str, Any]:
    n_obs, processes = (20_000, 2) if quick else (200_000, 7)
    path = files.sparse_file(n_obs, case.compression)
    program, seconds = [sys.executable, "-c", PROGRAM, path, json.dumps(case.options)], []
    for _ in range(processes + 1):
        measuring.warm(path)
        done = subprocess.run(program, check=True, capture_output=True, text=True)
        seconds.append(float(done.stdout))
    counted = seconds[1:]
    return {"file": path.name, "processes": processes, "seconds": median(counted), "slowest": max(counted)}


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
