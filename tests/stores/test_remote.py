"""Files on a web server: the same batches as from the local file, whatever befalls requests."""

from __future__ import annotations

import multiprocessing
import pickle
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from builders import adata_of, write
from torch.utils.data import DataLoader
from web_servers import FAULTS, WebServer, seen, serving

pytest.importorskip("obstore")

from annpipes import AnnDataset, Collection, IndexSource, Remote, inspect, stream
from annpipes.errors import ChangedError, FormatError, ParameterError, RemoteError, SourceError
from annpipes.stores import open_store

pytestmark = pytest.mark.usefixtures("calm_server")

FIELDS = ["X", "layers/counts", "obs/cell_type", "obs/donor:code", "obs/barcode", "obsm/X_pca", "rows"]
SECRET = ("secret_access_key", "token")
HOW: dict[str, Any] = {"batch_size": 8, "fields": FIELDS, "seed": 3, "block_size": 2}
FORMS = {"gzip": ("csr", "gzip"), "plain": ("csr", None), "dense": ("dense", "gzip")}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("served")
    for name, (form, compression) in FORMS.items():
        write(adata_of(x=form), folder / f"{name}.h5ad", compression)
    (folder / "text.h5ad").write_text("nothing of the kind")
    with serving(folder) as running:
        yield running


def near(server: WebServer, name: str) -> str:
    return str(server.folder / name)


@pytest.mark.parametrize("form", FORMS)
def test_batches_are_those_of_the_local_file(server: WebServer, form: str) -> None:
    name = f"{form}.h5ad"
    assert seen(stream(f"{server.url}/{name}", **HOW)) == seen(stream(near(server, name), **HOW))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("form", ["gzip", "plain"])
def test_failures_that_pass_change_nothing(server: WebServer, fault: str, form: str) -> None:
    server.fault, name = fault, f"{form}.h5ad"
    assert seen(stream(f"{server.url}/{name}", **HOW)) == seen(stream(near(server, name), **HOW))
    assert len(server.log) > 3  # so that some were hit


@pytest.mark.parametrize(("fault", "told"), [("503", "503"), ("dropped", "error"), ("short", "error")])
def test_failures_that_stay_are_told_with_address_and_range(server: WebServer, fault: str, told: str) -> None:
    server.fault, server.period = fault, 1
    with pytest.raises(RemoteError, match=rf"bytes 0 … \d+ of {server.url}/gzip.h5ad .* 3 times: .*{told}") as refusal:
        stream(Remote(f"{server.url}/gzip.h5ad", retries=2))
    assert refusal.value.__cause__ is not None
    assert len([one for one in server.log if one[0] == "GET"]) == 3


def test_what_is_not_there_is_a_source_error_at_once(server: WebServer) -> None:
    with pytest.raises(SourceError, match=r"none.h5ad could not be read.*404.*check the address"):
        stream(f"{server.url}/none.h5ad")
    assert len(server.log) <= 2


def test_a_denied_request_names_the_remedy(server: WebServer) -> None:
    server.denied = True
    with pytest.raises(RemoteError, match=r"403.*credentials") as refusal:
        stream(f"{server.url}/gzip.h5ad")
    assert "credentials" in refusal.value.remedy


def test_a_server_without_ranges_is_refused(server: WebServer) -> None:
    server.ranges = False
    with pytest.raises(RemoteError, match=r"whole files only"):
        stream(f"{server.url}/gzip.h5ad")


def test_a_server_that_compresses_what_it_sends_is_told_from_a_file_that_changed(server: WebServer) -> None:
    server.compressed = True
    with pytest.raises(
        RemoteError, match=r"85640 bytes when it was looked up, but 17128\d when it was read.*Content-Encoding"
    ):
        stream(f"{server.url}/gzip.h5ad")


def test_a_connection_that_nobody_takes_says_why() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(RemoteError, match=r"cells.h5ad could not be read: .*[Cc]onnection refused"):
            stream(Remote(f"http://127.0.0.1:{nobody.getsockname()[1]}/cells.h5ad", retries=0))


def test_a_file_of_another_kind_is_refused(server: WebServer) -> None:
    with pytest.raises(FormatError, match=r"text.h5ad' is not an HDF5 file"):
        stream(f"{server.url}/text.h5ad")


@pytest.mark.parametrize("other", [40, 29])
def test_a_file_that_changed_is_refused(server: WebServer, other: int) -> None:
    path = write(adata_of(), server.folder / "changing.h5ad")
    loader = stream(f"{server.url}/changing.h5ad", batch_size=8, fields=["X"])
    changed = adata_of(other)
    changed.X = changed.X * 2
    write(changed, path)
    with pytest.raises(ChangedError, match=r"changing.h5ad changed since"):
        list(loader)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_read_the_same(server: WebServer, method: str) -> None:
    """A fork of a process that has used obstore has none of its threads."""
    data = AnnDataset(f"{server.url}/gzip.h5ad", chunk_size=8)
    assert data[3]["X"].shape == (11,)
    local = AnnDataset(near(server, "gzip.h5ad"))
    loader = DataLoader(data, batch_size=8, num_workers=1, multiprocessing_context=multiprocessing.get_context(method))
    torch.testing.assert_close(torch.cat([one["X"] for one in loader]), torch.stack([one["X"] for one in local]))


def test_failures_are_told_in_a_fork(server: WebServer) -> None:
    data = AnnDataset(Remote(f"{server.url}/gzip.h5ad", retries=0))
    server.fault, server.period = "503", 1
    with pytest.raises(RemoteError, match="503"):
        list(DataLoader(data, batch_size=8, num_workers=1, multiprocessing_context="fork"))


def test_a_store_pickles_and_reads_again(server: WebServer) -> None:
    source = IndexSource(Remote(f"{server.url}/gzip.h5ad", requests=4), block_size=2)
    again = pickle.loads(pickle.dumps(source))
    pipes = (one.sort_within_chunks(16).read_rows(["X"]).batch_rows(8) for one in (source, again))
    for one, other in zip(*pipes, strict=True):
        np.testing.assert_array_equal(one["X"].to_dense(), other["X"].to_dense())
    assert repr(again) == repr(source)
    assert "requests=4" in repr(source)


def test_addresses_and_paths_make_one_collection(server: WebServer) -> None:
    address, path = f"{server.url}/gzip.h5ad", near(server, "plain.h5ad")
    mixed = stream(Collection([address, path]), **HOW)
    assert seen(mixed) == seen(stream(Collection([near(server, "gzip.h5ad"), path]), **HOW))


def test_states_of_the_local_file_are_those_of_the_remote(server: WebServer) -> None:
    """Where bytes lie is no part of what a state belongs to."""
    loader, other = stream(f"{server.url}/gzip.h5ad", **HOW), stream(near(server, "gzip.h5ad"), **HOW)
    batches = iter(loader)
    next(batches)
    other.load_state_dict(loader.state_dict())
    assert seen(batches) == seen(other)


def test_genes_are_chosen_of_remote_rows(server: WebServer) -> None:
    how = {"batch_size": 29, "genes": ["gene-7", "gene-2"], "shuffle": False}
    assert seen(stream(f"{server.url}/gzip.h5ad", **how)) == seen(stream(near(server, "gzip.h5ad"), **how))


def test_no_secret_is_shown(server: WebServer) -> None:
    remote = Remote("s3://atlas/cells.h5ad", region="eu", skip_signature=True, **dict.fromkeys(SECRET, "hush"))
    assert repr(remote) == (
        "Remote('s3://atlas/cells.h5ad', region='eu', skip_signature=True, secret_access_key=…, token=…)"
    )
    signed = f"{server.url}/gzip.h5ad?Signature=hush"
    assert "hush" not in repr(open_store(signed))
    with pytest.raises(RemoteError) as refusal:
        open_store(f"{server.url}/none.h5ad?Signature=hush")
    assert "hush" not in str(refusal.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [("cells.h5ad", "begin with a protocol"), ("s3://", "name something"), ("s3://a/b", "retries")],
)
def test_what_is_no_address_is_refused(given: str, told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        Remote(given, retries=-1)


def test_an_option_that_the_library_lacks_is_refused(server: WebServer) -> None:
    with pytest.raises(ParameterError, match="options of s3://atlas"):
        open_store(Remote("s3://atlas/cells.h5ad", no_such_option="1"))


@pytest.mark.parametrize("how", [str, Remote])
def test_inspect_tells_of_a_remote_file_what_it_tells_of_the_local_one(server: WebServer, how: Any) -> None:
    far, near_by = inspect(how(f"{server.url}/gzip.h5ad")), inspect(near(server, "gzip.h5ad"))
    assert (far.fields, far.file_bytes, far.block_size) == (near_by.fields, near_by.file_bytes, near_by.block_size)


@pytest.mark.parametrize("name", ["gzip.h5ad?Signature=hush", "gr%C3%B6%C3%9Fe%20%25.h5ad", "größe %25.h5ad"])
def test_addresses_with_signatures_and_letters_of_all_kinds(server: WebServer, name: str) -> None:
    (server.folder / "größe %.h5ad").write_bytes((server.folder / "gzip.h5ad").read_bytes())
    assert seen(stream(f"{server.url}/{name}", **HOW)) == seen(stream(near(server, "gzip.h5ad"), **HOW))
    assert inspect(f"{server.url}/{name}").fields == inspect(near(server, "gzip.h5ad")).fields
