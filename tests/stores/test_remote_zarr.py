"""Remote Zarr stores: on a web server, which lists nothing, and on file systems that do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import adata_of
from torch.utils.data import DataLoader
from web_servers import FAULTS, WebServer, seen, serving
from zarr_stores import put, stored, unconsolidated, written, zarr

from annpipes import AnnDataset, Collection, IndexSource, Remote, stream
from annpipes.errors import ChangedError, FormatError, RemoteError
from annpipes.stores import open_store

pytest.importorskip("obstore")
pytestmark = pytest.mark.usefixtures("calm_server")
FIELDS = ["X", "layers/counts", "obs/cell_type", "obs/donor:code", "obsm/X_pca", "rows"]
HOW: dict[str, Any] = {"batch_size": 8, "fields": FIELDS, "seed": 3, "block_size": 2}
NAMES = ("two.zarr", "three.zarr", "sharded.zarr")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("served")
    written(adata_of(), folder / "two.zarr", 2)
    written(adata_of(), folder / "three.zarr", 3)
    sharded = written(adata_of(), folder / "sharded.zarr", 3)
    for part in ("data", "indices"):
        put(sharded, f"X/{part}", chunks=(8,), shards=(24,))
    for name in NAMES:
        unconsolidated(folder / name, folder / f"alone_{name}")
    with serving(folder) as running:
        yield running


@pytest.mark.parametrize("name", NAMES)
def test_batches_from_a_web_server_are_those_of_the_local_store(server: WebServer, name: str) -> None:
    assert seen(stream(f"{server.url}/{name}", **HOW)) == seen(stream(server.folder / name, **HOW))


@pytest.mark.parametrize("name", NAMES)
def test_batches_through_fsspec_are_those_of_the_local_store(server: WebServer, name: str) -> None:
    assert seen(stream(f"file://{server.folder}/{name}", **HOW)) == seen(stream(server.folder / name, **HOW))


@pytest.mark.parametrize(("name", "asked"), [("two.zarr", 5), ("three.zarr", 1)])
def test_what_a_store_is_is_asked_once(server: WebServer, name: str, asked: int) -> None:
    """One request for each object of metadata at the top, and none for what the version of Zarr rules out."""
    store = open_store(f"{server.url}/{name}")
    tops = [path for _, path, _ in server.log]
    assert len(tops) == len(set(tops)) == asked
    assert (store.n_obs, store.fields[0]) == (29, "X")
    assert len(server.log) == asked


def test_each_object_is_looked_at_once(server: WebServer) -> None:
    IndexSource(f"{server.url}/sharded.zarr").store.check(FIELDS)
    asked = [(method, path, span) for method, path, span in server.log]
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("name", NAMES)
def test_without_consolidated_metadata_a_store_has_what_its_encodings_name(server: WebServer, name: str) -> None:
    """What the groups hold whose keys are free, and which only a listing would tell, is warned of."""
    how = {**HOW, "fields": ["X", "raw/X", "obs/cell_type", "obs/donor:code", "obs/alias", "rows"]}
    with pytest.warns(UserWarning, match=r"obsm and similar groups of .*alone_.* not consolidated") as told:
        far = seen(stream(f"{server.url}/alone_{name}", **how))
    assert far == seen(stream(server.folder / name, **how))
    assert len(told) == 1
    assert "consolidate_metadata" in str(told[0].message)


def test_a_group_that_is_no_anndata_is_refused_where_nothing_lists_it(server: WebServer) -> None:
    zarr.open_group(server.folder / "other.zarr", mode="w").create_group("images")
    with pytest.raises(FormatError, match=r"other.zarr are unknown.*consolidate_metadata"):
        open_store(f"{server.url}/other.zarr")


def test_a_server_that_answers_anything_has_no_store_for_that(server: WebServer) -> None:
    (server.folder / "page").mkdir()
    for key in ("zarr.json", ".zgroup"):
        (server.folder / "page" / key).write_text("<html>It is {} here</html>")
    with pytest.raises(RemoteError, match=r"/page could not be read.*404"):
        open_store(f"{server.url}/page")


@pytest.mark.parametrize("consolidated", [True, False])
def test_a_store_of_several_is_a_collection(tmp_path: Path, consolidated: bool) -> None:
    """As annbatch writes them: on a web server if consolidated, and always where folders can be listed."""
    folder = tmp_path / "collection.zarr"
    zarr.open_group(folder, mode="w").attrs["encoding-type"] = "annbatch-preshuffled"
    for number in range(11):
        part = adata_of()[:2].copy()
        part.obs["number"] = number
        written(part, folder / f"dataset_{number}")
    how: dict[str, Any] = {"batch_size": 4, "fields": ["X", "obs/number", "file"], "seed": 1}
    if consolidated:
        zarr.consolidate_metadata(str(folder))
    with serving(tmp_path) as server:
        addresses = [f"file://{folder}", *([f"{server.url}/collection.zarr"] if consolidated else [])]
        for address in addresses:
            source = IndexSource(Remote(address))
            assert source.obs["number"].tolist() == [number for number in range(11) for _ in range(2)]
            assert [file.rpartition("/")[2] for file in source.files][-2:] == ["dataset_9", "dataset_10"]
            assert seen(stream(address, **how)) == seen(stream(folder, **how))
            assert Collection(address).n_obs == 22
        assert open_store(f"{server.url}/collection.zarr/dataset_3").n_obs == 2


def test_what_only_zarr_decodes_is_not_kept_whole(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large matrix that zarr reads, memory would fill up otherwise."""
    path = written(adata_of(x="dense"), server.folder / "turned.zarr", 2)
    put(path, "X", chunks=(2, 11), order="F")
    monkeypatch.setattr("annpipes.stores.containers.zarr_requests._MOST_KEPT", 300)
    store = open_store(f"{server.url}/turned.zarr")
    assert store.route("X").kind == "zarr"
    assert seen(stream(f"{server.url}/turned.zarr", 8, fields=["X"])) == seen(stream(path, 8, fields=["X"]))
    list(stream(store, 8, fields=["X"]))
    kept = store.container.group.store._kept
    assert 0 < sum(len(one) for one in kept.values() if one) < 600


def test_matrices_are_read_by_the_engine(server: WebServer) -> None:
    assert open_store(f"{server.url}/sharded.zarr").route("X").kind == "direct"


@pytest.mark.parametrize("fault", FAULTS)
def test_failures_that_pass_change_nothing(server: WebServer, fault: str) -> None:
    server.fault = fault
    assert seen(stream(f"{server.url}/sharded.zarr", **HOW)) == seen(stream(server.folder / "sharded.zarr", **HOW))


def test_a_store_whose_objects_changed_is_refused(server: WebServer) -> None:
    path = written(adata_of(), server.folder / "changing.zarr", 3)
    loader = stream(f"{server.url}/changing.zarr", batch_size=8)
    for file in stored(path, "X/data"):
        file.write_bytes(file.read_bytes()[::-1])
    with pytest.raises(ChangedError, match=r"changing.zarr/X/data/c/0 changed since"):
        list(loader)


def test_a_fork_reads_the_same(server: WebServer) -> None:
    data, local = AnnDataset(f"{server.url}/sharded.zarr"), AnnDataset(server.folder / "sharded.zarr")
    loader = DataLoader(data, batch_size=8, num_workers=1, multiprocessing_context="fork")
    torch.testing.assert_close(torch.cat([one["X"] for one in loader]), torch.stack([one["X"] for one in local]))


def test_a_pattern_names_stores(server: WebServer, tmp_path: Path) -> None:
    for name in ("a.zarr", "b.zarr"):
        written(adata_of(), tmp_path / name)
    assert seen(stream(f"file://{tmp_path}/*.zarr", **HOW)) == seen(stream(f"{tmp_path}/*.zarr", **HOW))
