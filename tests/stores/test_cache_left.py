"""A cache that just suffices, and reads that are left before they have kept what they were to keep."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import numpy as np
import pytest
from cached_files import ROWS, cached, gzip_file, present, read_all

from annpipes.stores import kept_in, reading
from annpipes.stores.engine.pools import LeftError
from annpipes.types import Chunk


@pytest.mark.parametrize("genes", [None, [1, 5]])
def test_what_reads_that_were_left_did_not_keep_is_kept_by_later_ones(tmp_path: Path, genes: list[int] | None) -> None:
    path, folder = gzip_file(tmp_path / "a.h5ad"), tmp_path / "cache"
    read_all(cached(path, tmp_path / "whole"))
    needed = sum(one.n_bytes for one in kept_in(str(tmp_path / "whole")))
    store, left = cached(path, folder, 2 * needed), Event()
    left.set()
    every = Chunk.of(np.arange(ROWS))
    for _ in range(20):
        with reading(1, left), pytest.raises(LeftError):
            store.read(every, ["X"], None if genes is None else store.genes(genes))
    assert present(folder)[0] == 0
    read_all(store)
    assert present(folder) == (present(folder)[1],) * 2
