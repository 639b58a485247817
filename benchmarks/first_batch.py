"""Seconds from ``import annpipes`` done to the first batch, each time in a fresh process.

The file is in the page cache and the kernels are in numba's: a first process that is not
counted compiles them. Everything is by default, so the first chunk is a whole one.
"""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from typing import Any

import files
import measuring

CASES = {"gzip": "gzip", "uncompressed": None}
PROGRAM = """
import sys, time
import annpipes
begin = time.perf_counter()
batch = next(iter(annpipes.stream(sys.argv[1])))
print(time.perf_counter() - begin)
"""


def measure(compression: str | None, quick: bool) -> dict[str, Any]:
    n_obs, processes = (20_000, 2) if quick else (200_000, 7)
    path = files.sparse_file(n_obs, compression)
    seconds = []
    for _ in range(processes + 1):
        measuring.warm(path)
        done = subprocess.run([sys.executable, "-c", PROGRAM, path], check=True, capture_output=True, text=True)
        seconds.append(float(done.stdout))
    counted = seconds[1:]
    return {"file": path.name, "processes": processes, "seconds": median(counted), "slowest": max(counted)}


if __name__ == "__main__":
    measuring.main(CASES, measure, __doc__)
