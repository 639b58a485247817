"""`bench` and `tune` with a cache: epochs after the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from storage_files import csr_file

import annpipes as ap
from annpipes.tools.benching import Benchmark, bench
from annpipes.tools.tuning import tune


def limits_of(found: Benchmark) -> set[str]:
    return {limit.name for each in found.cases for limit in (*each.limits, each.disk) if limit}


@pytest.mark.parametrize(("compression", "share"), [("gzip", 1.0), (None, None)])
def test_with_a_cache_decoding_is_no_limit(tmp_path: Path, compression: str | None, share: float | None) -> None:
    path = csr_file(tmp_path / "cells.h5ad", chunks=10, compression=compression)
    found = bench(path, seconds=0.01, cache=tmp_path / "cache")
    assert limits_of(found) == {"copy", "densify"}
    assert {each.read_amplification for each in found.cases} == {1.0}
    assert found.from_cache == share
    assert ("100% of the rows from the cache" in " ".join(str(found).split())) == (share is not None)


def test_a_cache_that_has_no_room_leaves_decoding_the_limit(tmp_path: Path) -> None:
    path = csr_file(tmp_path / "cells.h5ad", chunks=10, compression="gzip")
    found = bench(path, seconds=0.01, cache=ap.Cache(str(tmp_path / "cache"), size=1))
    assert limits_of(found) == {"decode", "copy", "densify"}
    assert found.from_cache is None


@pytest.mark.parametrize("given", [str, ap.Cache])
def test_all_is_kept_before_sizes_are_measured(tmp_path: Path, given: Any) -> None:
    path = csr_file(tmp_path / "cells.h5ad", chunks=10, compression="gzip")
    tuning = tune(path, form="csr", seconds=0.01, cache=given(str(tmp_path / "cache")))
    loader = eval(tuning.code, {"ap": ap})  # noqa: S307 (our own line)
    for _ in loader:
        pass
    assert loader.stats().cached == 1
    assert tuning.cached is None
