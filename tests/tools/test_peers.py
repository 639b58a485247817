"""Other loaders: each is asked for the same rows, and none that is missing or fails stops the others."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from builders import adata_of, tiny, write
from scipy.sparse import csr_matrix

import annpipes as ap
from annpipes.errors import ParameterError, ParameterTypeError
from annpipes.tools.benching import peers as _peers
from annpipes.tools.benching.peers import PEERS, Task, as_peers, compare

DRAWN = np.random.default_rng(0).permutation(40)


def task_of(path: Path, form: Any = "dense", **changes: Any) -> Task:
    task = Task(
        path=str(path),
        order="random",
        form=form,
        drawn=DRAWN,
        block_size=1,
        batch_size=8,
        chunk_size=16,
        ours=lambda: None,
        before=lambda: None,
        seconds=0.01,
    )
    return replace(task, **changes)


def delivered(name: str, task: Task, count: int) -> list[Any]:
    """The batches that a peer hands on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # AnnLoader says that it is deprecated
        adata = anndata.read_h5ad(task.path, backed="r")
        batches = list(PEERS[name].start(adata, task)(count))
        adata.file.close()
    return batches


@pytest.mark.parametrize("name", ["anndata", "annloader"])
def test_a_peer_delivers_the_very_batches_of_annpipes(name: str, numbered: Path) -> None:
    batches = delivered(name, task_of(numbered), 20)
    assert [(batch[:, 0] / 100).tolist() for batch in batches] == [
        sorted(DRAWN[0:8].tolist()),
        sorted(DRAWN[8:16].tolist()),
        sorted(DRAWN[16:20].tolist()),
    ]


@pytest.mark.parametrize("order", ["random", "blocks", "sequential"])
def test_scdataset_delivers_the_same_rows(order: str, numbered: Path) -> None:
    batches = delivered("scdataset", task_of(numbered, order=order, block_size=4), 40)
    rows = [int(row) for batch in batches for row in batch[:, 0] / 100]
    assert {len(batch) for batch in batches} == {8}
    assert sorted(rows) == list(range(40))
    assert (rows == sorted(rows)) == (order == "sequential")


@pytest.mark.parametrize("name", PEERS)
def test_sparse_rows_come_as_the_tensors_of_csr(name: str, tmp_path: Path) -> None:
    path = write(adata_of(), tmp_path / "cells.h5ad", "gzip")
    rows = np.arange(29)
    batches = delivered(name, task_of(path, "csr", drawn=rows, order="sequential"), 29)
    x = anndata.read_h5ad(path).X
    parts = [
        csr_matrix((data.numpy(), indices.numpy(), indptr.numpy()), (len(indptr) - 1, x.shape[1]))
        for indptr, indices, data in batches
    ]
    assert np.concatenate([part.toarray() for part in parts]).tolist() == x.toarray().tolist()


def test_peers_read_a_shuffled_copy_whose_codec_hdf5_does_not_have(tmp_path: Path) -> None:
    path = write(adata_of(), tmp_path / "cells.h5ad", "gzip")
    # In a process that has not imported hdf5plugin, as that of the command.
    lines = (
        "import sys, numpy as np, annpipes as ap\n"
        "from annpipes.tools.benching.peers import Task, compare\n"
        "assert 'hdf5plugin' not in sys.modules\n"
        "task = Task(path=sys.argv[1], order='random', form='csr', drawn=np.arange(29), block_size=1, batch_size=8,\n"
        "    chunk_size=16, ours=lambda: None, before=lambda: None, seconds=0.01)\n"
        "print([compare(name, task).note for name in ('anndata', 'scdataset')])\n"
    )
    ap.rewrite_shuffled(path, tmp_path / "shuffled.h5ad", codec="lz4")
    command = [sys.executable, "-c", lines, str(tmp_path / "shuffled.h5ad")]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.stdout == "['', '']\n", found.stderr


def test_a_measured_peer_has_numbers_that_fit_each_other(numbered: Path) -> None:
    for name in PEERS:
        found = compare(name, task_of(numbered))
        assert (found.name, found.order, found.form, found.note) == (name, "random", "dense", "")
        assert found.cells_per_second
        assert found.annpipes_cells_per_second
        assert found.speed == pytest.approx(found.annpipes_cells_per_second / found.cells_per_second)


def test_a_peer_that_is_not_installed_is_reported_with_the_remedy(
    numbered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = replace(PEERS["scdataset"], module="no_such_module_at_all")
    monkeypatch.setitem(_peers.PEERS, "scdataset", absent)
    found = compare("scdataset", task_of(numbered))
    assert found.note == 'not installed: pip install "scdataset==0.3.*"'
    assert found.cells_per_second is None
    assert found.order is None


def test_a_package_without_the_loader_is_reported(numbered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_peers.PEERS, "annloader", replace(PEERS["annloader"], attribute="Gone"))
    assert compare("annloader", task_of(numbered)).note == "the installed anndata has no Gone"


def test_a_package_that_breaks_on_import_is_reported(
    numbered: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_peer.py").write_text("raise ValueError('too old\\nand more')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(_peers.PEERS, "scdataset", replace(PEERS["scdataset"], module="broken_peer"))
    assert compare("scdataset", task_of(numbered)).note == "cannot be imported: ValueError: too old"


def failing(error: Exception) -> Callable[[Any, Task], Any]:
    def start(adata: Any, task: Task) -> Any:
        raise error

    return start


def test_a_peer_that_fails_is_reported_with_its_reason(numbered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_peers.PEERS, "anndata", replace(PEERS["anndata"], start=failing(KeyError("x"))))
    found = compare("anndata", task_of(numbered))
    assert found.note == "failed on this file: KeyError: 'x'"
    assert (found.order, found.speed) == ("random", None)


def test_the_file_is_closed_after_a_peer_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tiny(40), tmp_path / "cells.h5ad")
    monkeypatch.setitem(_peers.PEERS, "anndata", replace(PEERS["anndata"], start=failing(KeyError("x"))))
    compare("anndata", task_of(path))
    write(tiny(40), path)  # HDF5 refuses to write a file that is open


def test_installed_means_every_peer() -> None:
    assert as_peers("installed") == tuple(PEERS)
    assert as_peers(()) == ()
    assert as_peers("anndata") == ("anndata",)
    assert as_peers(["annloader", "anndata", "annloader"]) == ("annloader", "anndata")


def test_an_unknown_peer_is_refused_with_those_known() -> None:
    with pytest.raises(ParameterError, match=r"against must be 'installed' or some of anndata.*got 'tahoe'"):
        as_peers(["anndata", "tahoe"])


@pytest.mark.parametrize("against", [3, None, [1], {"anndata"}])
def test_what_names_no_peer_is_refused(against: Any) -> None:
    with pytest.raises(ParameterTypeError, match="against must be"):
        as_peers(against)
