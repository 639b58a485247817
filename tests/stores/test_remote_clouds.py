"""Buckets and hubs: options travel, and rows, patterns and tools are those of the local folder."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from buckets import bucket_of, put_object, reached
from builders import adata_of, write
from hubs import Hub, hub_of
from web_servers import seen
from zarr_stores import written, zipped

from annpipes import Collection, Remote, check, inspect, rewrite_shuffled, stream
from annpipes.errors import ChangedError, RemoteError
from annpipes.stores.bytes.requesting import Requests

pytest.importorskip("obstore")
pytest.importorskip("fsspec")
HOW: dict[str, Any] = {"batch_size": 8, "fields": ["X", "obs/cell_type", "obs/barcode"], "seed": 3, "block_size": 2}
NAMES = ("a 1.h5ad", "größe%.h5ad", "c.zarr", "c.zarr.zip", "deeper/c.zarr")
TOKEN = "hf_hush"  # noqa: S105 (of our own server)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("atlas")
    (top / "deeper").mkdir()
    write(adata_of(), top / NAMES[0], "gzip")
    write(adata_of(x="dense"), top / NAMES[1], "gzip")
    zipped(written(adata_of(), top / "c.zarr"), top / "c.zarr.zip")
    written(adata_of(), top / "deeper" / "c.zarr", 2)
    (top / "note.txt").write_text("no file of this kind")
    return top


@pytest.fixture(scope="module")
def bucket(folder: Path) -> Iterator[str]:
    with bucket_of(folder, "atlas/cells") as url:
        yield url


@pytest.fixture(scope="module", params=["s3", "gs", "hf"])
def place(request: pytest.FixtureRequest, folder: Path) -> Iterator[Remote]:
    """The folder, in each kind of cloud."""
    if request.param == "hf":
        pytest.importorskip("huggingface_hub")
        with hub_of(folder, TOKEN) as hub:
            yield Remote("hf://datasets/lab/atlas", endpoint=hub.url, token=TOKEN, retries=1)
    else:
        url = request.getfixturevalue("bucket")
        yield Remote(f"{request.param}://atlas/cells", retries=1, **reached(request.param, url))


def at(place: Remote, name: str) -> Remote:
    return place.at(f"{place.url}/{name}")


@pytest.mark.parametrize("name", NAMES)
def test_batches_are_those_of_the_local_one(place: Remote, folder: Path, name: str) -> None:
    if "%" in name and place.protocol == "hf":
        pytest.skip("huggingface_hub takes %25 in a path for an encoded slash, and others for what it stands for")
    assert seen(stream(at(place, name), **HOW)) == seen(stream(folder / name, **HOW))


@pytest.mark.parametrize(("pattern", "found"), [("*.h5ad", 2), ("*.zarr", 1), ("*/*.zarr", 1), ("[a-b]*", 1)])
def test_a_pattern_names_what_it_does_in_a_folder(place: Remote, folder: Path, pattern: str, found: int) -> None:
    remote, local = Collection(at(place, pattern)), Collection(str(folder / pattern))
    assert [name.rpartition("/")[2] for name in remote.files] == [os.path.basename(name) for name in local.files]
    assert len(remote.files) == found
    assert seen(stream(remote, **HOW)) == seen(stream(local, **HOW))


@pytest.mark.parametrize("name", ["a 1.h5ad", "c.zarr", "c.zarr.zip"])
def test_tools_tell_what_they_do_of_the_local_one(place: Remote, folder: Path, name: str, tmp_path: Path) -> None:
    if place.protocol == "hf" and not name.endswith(".zip"):
        pytest.skip("each look takes two requests there: half a minute, for what an archive shows as well")
    far, near = inspect(at(place, name)), inspect(folder / name)
    assert (far.fields, far.file_bytes, far.others) == (near.fields, near.file_bytes, near.others)
    assert check(at(place, name)).read_bytes == check(folder / name).read_bytes
    how: dict[str, Any] = {"codec": "gzip", "seed": 1, "without": ["obs/note", "layers", "obsm"]}
    done = rewrite_shuffled(at(place, name), tmp_path / "far.h5ad", **how)
    assert done.input_bytes == near.file_bytes
    again = rewrite_shuffled(folder / name, tmp_path / "near.h5ad", **how)
    how = {"batch_size": 29, "fields": ["X", "obs/barcode"], "shuffle": False}
    assert seen(stream(done.files[0], **how)) == seen(stream(again.files[0], **how))


def test_what_is_not_there_is_told(place: Remote) -> None:
    with pytest.raises(RemoteError, match=r"none.h5ad could not be read.*check the address"):
        stream(at(place, "none.h5ad"), **HOW)


def test_a_bucket_that_is_not_open_to_all_names_the_remedy(bucket: str) -> None:
    put_object(bucket, "atlas/private/note", b"")
    nobody = {**reached("gs", bucket), "retries": 0}
    with pytest.raises(RemoteError, match=r"nowhere/cells.h5ad could not be read") as refusal:
        stream(Remote("gs://nowhere/cells.h5ad", **nobody), **HOW)
    assert refusal.value.remedy


@pytest.fixture
def hub(folder: Path) -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub")
    with hub_of(folder, TOKEN) as running:
        yield running


def test_a_hub_that_denies_access_names_the_remedy(hub: Hub) -> None:
    for token in ("wrong", False):
        with pytest.raises(RemoteError, match=r"private|denied|access") as refusal:
            stream(Remote("hf://datasets/lab/atlas/a 1.h5ad", endpoint=hub.url, token=token, retries=0), **HOW)
        assert refusal.value.remedy


def test_a_range_is_asked_for_as_it_is(hub: Hub) -> None:
    """And not with the megabytes behind it, which fsspec reads for files that are read from front to back."""
    content = np.random.default_rng(0).bytes(6 << 20)
    (hub.folder / "large.bin").write_bytes(content)
    requests = Requests(Remote("hf://datasets/lab/atlas/large.bin", endpoint=hub.url, token=TOKEN))
    seen_as = requests.head("")
    assert seen_as.size == len(content)
    hub.log.clear()
    assert bytes(requests.get("", 1000, 50, seen_as)) == content[1000:1050]
    assert [span for _, _, span in hub.log if span] == ["bytes=1000-1049"]


def test_a_file_that_changed_on_a_hub_is_refused(hub: Hub) -> None:
    path = write(adata_of(), hub.folder / "changing.h5ad")
    loader = stream(Remote("hf://datasets/lab/atlas/changing.h5ad", endpoint=hub.url, token=TOKEN), **HOW)
    changed = adata_of()
    changed.X = changed.X * 2
    write(changed, path)
    with pytest.raises(ChangedError, match=r"changing.h5ad changed since"):
        list(loader)


ALONE = """
import pickle, sys
from annpipes import stream
print(sum(len(batch["X"]) for batch in stream(pickle.loads(sys.stdin.buffer.read()), batch_size=8)))
"""


def test_the_environment_gives_what_options_do_not(hub: Hub) -> None:
    """In a process of its own, to which an address travels as it does to workers."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
    remote = pickle.dumps(Remote("hf://datasets/lab/atlas/a 1.h5ad", retries=0))
    ran = subprocess.run([sys.executable, "-c", ALONE], input=remote, capture_output=True, env=environment, check=True)
    assert ran.stdout.decode().strip() == "29"
