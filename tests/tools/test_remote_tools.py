"""The tools with addresses: what they find and write is what they do of the local file."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import h5py
import pytest
from builders import adata_of, write
from click.testing import CliRunner
from rewritten_files import same_cells
from web_servers import WebServer, serving
from zarr_stores import put, stored, unconsolidated, written, zipped

from annpipes import Remote, check, inspect, rewrite_shuffled, tune
from annpipes.errors import ChangedError, ParameterError, RemoteError
from annpipes.tools.cli import annpipes
from annpipes.tools.rewriting import jobs

pytest.importorskip("obstore")
pytestmark = pytest.mark.usefixtures("calm_server")
NAMES = ("cells.h5ad", "two.zarr", "three.zarr", "three.zarr.zip")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("served")
    write(adata_of(), folder / "cells.h5ad", "gzip")
    written(adata_of(), folder / "two.zarr", 2)
    zipped(written(adata_of(), folder / "three.zarr", 3), folder / "three.zarr.zip")
    with serving(folder) as running:
        yield running


@pytest.mark.parametrize("name", NAMES)
def test_inspect_tells_what_it_does_of_the_local_one(server: WebServer, name: str) -> None:
    far, near = inspect(f"{server.url}/{name}"), inspect(server.folder / name)
    assert (far.fields, far.block_size, far.findings) == (near.fields, near.block_size, near.findings)
    assert {one.name for one in far.others} == {one.name for one in near.others}
    objects = 0
    if name.endswith(".zarr"):  # of which a web server tells the sizes of objects alone
        objects = sum(one.stat().st_size for one in server.folder.joinpath(name).rglob("[.z]*") if one.is_file())
    assert far.file_bytes == near.file_bytes - objects


@pytest.mark.parametrize("name", NAMES)
def test_tune_measures(server: WebServer, name: str) -> None:
    assert tune(f"{server.url}/{name}", seconds=0.1, batch_size=8).points


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_file_is_checked(server: WebServer, name: str) -> None:
    far, near = check(f"{server.url}/{name}"), check(server.folder / name)
    assert far.healthy
    assert (far.read_bytes, far.damage, far.remarks) == (near.read_bytes, near.damage, near.remarks)
    assert far.file == f"{server.url}/{name}"


def test_damage_is_found_where_it_is(server: WebServer) -> None:
    path = write(adata_of(), server.folder / "damaged.h5ad", "gzip")
    with h5py.File(path) as file:
        offset = file["X/data"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 4] = b"none"
    path.write_bytes(content)
    store = put(written(adata_of(), server.folder / "damaged.zarr"), "X/data", chunks=(16,))
    stored(store, "X/data")[1].write_bytes(b"none")
    for name in ("damaged.h5ad", "damaged.zarr"):
        far, near = check(f"{server.url}/{name}"), check(server.folder / name)
        assert far.damage == near.damage != ()


def test_a_check_in_a_process_of_its_own_reaches_the_address(server: WebServer) -> None:
    report = check(Remote(f"{server.url}/cells.h5ad?Signature=hush", retries=1), own_process=True)
    assert report.healthy
    assert "hush" not in f"{report!r}{report}"


@pytest.mark.parametrize("name", NAMES)
def test_a_network_that_fails_is_no_damage(server: WebServer, name: str) -> None:
    """Wherever in the pass it does."""
    check(f"{server.url}/{name}")
    requests = len([one for one in server.log if one[0] == "GET"])
    for period in sorted({1, 2, requests // 3, requests // 2, requests - 1}):
        server.calm()
        server.fault, server.period = "503", period
        with pytest.raises(RemoteError, match="503"):
            check(Remote(f"{server.url}/{name}", retries=0))


def test_a_file_that_changes_meanwhile_is_no_damage(server: WebServer) -> None:
    path = write(adata_of(), server.folder / "changing.h5ad", "gzip")
    seen = list[int]()

    def changing(done: int, total: int) -> None:
        seen.append(done)
        write(adata_of(40), path)

    with pytest.raises(ChangedError):
        check(f"{server.url}/changing.h5ad", progress=changing)
    assert seen


@pytest.mark.parametrize("name", NAMES)
def test_a_shuffled_copy_is_that_of_the_local_file(server: WebServer, tmp_path: Path, name: str) -> None:
    how: dict[str, Any] = {"codec": "gzip", "seed": 3, "block_size": 2}
    done = rewrite_shuffled(f"{server.url}/{name}", tmp_path / "far.h5ad", **how)
    near = rewrite_shuffled(server.folder / name, tmp_path / "near.h5ad", **how)
    assert (done.n_obs, done.left_out) == (near.n_obs, near.left_out)
    assert 0 < done.input_bytes <= near.input_bytes
    found, expected = (anndata.read_h5ad(tmp_path / one) for one in ("far.h5ad", "near.h5ad"))
    assert found.obs_names.tolist() == expected.obs_names.tolist()
    same_cells(found, expected)


@pytest.mark.filterwarnings("ignore:Observation names are not unique:UserWarning")  # anndata's, and meant here
def test_files_here_and_elsewhere_are_rewritten_together(server: WebServer, tmp_path: Path) -> None:
    inputs = [server.folder / "cells.h5ad", Remote(f"{server.url}/three.zarr"), f"file://{server.folder}/two.z*"]
    assert rewrite_shuffled(inputs, tmp_path / "all.h5ad", codec="gzip").n_obs == 3 * 29


def test_a_rewrite_that_the_network_broke_off_goes_on_with_another_signature(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written down of it has no secret, and knows the input all the same."""
    output, how = tmp_path / "out.h5ad", dict[str, Any](codec="gzip", block_size=2)
    monkeypatch.setattr("annpipes.tools.rewriting._rows_per_part", lambda *_: 5)
    remote = Remote(f"{server.url}/cells.h5ad?Signature=hush", retries=0, client_options={"user_agent": "hush"})

    def failing(done: int, total: int) -> None:
        server.fault, server.period = "503" if done else "", 1

    with pytest.raises(RemoteError):
        rewrite_shuffled(remote, output, progress=failing, **how)
    server.calm()
    record = (tmp_path / "out.h5ad.unfinished" / "job.json").read_text()
    assert "hush" not in record
    assert json.loads(record)
    done = rewrite_shuffled(f"{server.url}/cells.h5ad?Signature=another", output, **how)
    assert done.reused_parts > 0
    near = rewrite_shuffled(server.folder / "cells.h5ad", tmp_path / "near.h5ad", **how)
    same_cells(anndata.read_h5ad(output), anndata.read_h5ad(near.files[0]))


def test_a_job_travels_with_what_it_needs_to_read(server: WebServer) -> None:
    """As it does to the workers of a cluster."""
    remote = Remote(f"{server.url}/cells.h5ad", retries=2)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(jobs.open_inputs, ((remote,), "inner")).n_obs == 29


def test_what_is_no_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="empty list"):
        rewrite_shuffled([], tmp_path / "out.h5ad")
    with pytest.raises(TypeError, match="paths of files, or addresses"):
        rewrite_shuffled([3], tmp_path / "out.h5ad")


def test_what_nothing_lists_is_left_out_with_a_warning(server: WebServer, tmp_path: Path) -> None:
    unconsolidated(server.folder / "three.zarr", server.folder / "alone.zarr")
    with pytest.warns(UserWarning, match="layers, obsm and similar groups"):
        rewrite_shuffled(f"{server.url}/alone.zarr", tmp_path / "out.h5ad", codec="gzip")
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert sorted(found.obs_names) == sorted(adata_of().obs_names)
    assert not found.layers


def test_the_commands_take_addresses(server: WebServer, tmp_path: Path) -> None:
    """With signatures, which are not shown, and patterns of what can be listed."""
    signed, many = f"{server.url}/cells.h5ad?Signature=hush", f"file://{server.folder}/t*.zarr"
    shown = CliRunner().invoke(annpipes, ["inspect", signed, many])
    assert shown.exit_code == 0, shown.output
    assert all(f"{name}: 29 rows" in shown.output for name in ("cells.h5ad?…", "two.zarr", "three.zarr"))
    checked = CliRunner().invoke(annpipes, ["inspect", "--check", signed])
    assert "no damage" in checked.output
    done = CliRunner().invoke(annpipes, ["shuffle", signed, "-o", str(tmp_path / "out.h5ad"), "--codec", "gzip"])
    assert done.exit_code == 0, done.output
    assert anndata.read_h5ad(tmp_path / "out.h5ad").n_obs == 29
    assert "hush" not in shown.output + checked.output + done.output
