"""Zarr stores in a remote zip archive: read where they lie in it, through its directory."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from builders import adata_of, write
from torch.utils.data import DataLoader
from web_servers import FAULTS, WebServer, seen, serving
from zarr_stores import expected, put, written, zipped

from annpipes import AnnDataset, Collection, stream
from annpipes.errors import ChangedError, DamageError, FormatError
from annpipes.stores import open_store

pytest.importorskip("obstore")
pytestmark = pytest.mark.usefixtures("calm_server")
FIELDS = ["X", "layers/counts", "obs/cell_type", "obs/donor:code", "obsm/X_pca", "rows"]
HOW: dict[str, Any] = {"batch_size": 8, "fields": FIELDS, "seed": 3, "block_size": 2}
NAMES = ("two.zarr.zip", "three.zarr.zip", "sharded.zip", "packed.zarr.zip", "streamed.zarr.zip", "longer.zarr.zip")


class _Pipe:
    """A file that cannot go back, so that what an entry holds is described behind it."""

    def __init__(self, path: Path) -> None:
        self.file = open(path, "wb")  # noqa: SIM115 (closed below)
        self.write, self.flush, self.close = self.file.write, self.file.flush, self.file.close


def streamed(path: Path, to: Path) -> Path:
    pipe: Any = _Pipe(to)
    with ZipFile(pipe, "w") as archive:
        for one in sorted(path.rglob("*")):
            if one.is_file():
                archive.write(one, one.relative_to(path).as_posix())
    pipe.close()
    return to


def longer(path: Path, to: Path, extra: int = 33) -> Path:
    """An archive whose entries have more bytes in headers of their own than its directory says."""
    ends, entries, content = list[tuple[int, int]](), bytearray(), path.read_bytes()
    with ZipFile(path) as archive:
        listed, directory = archive.infolist(), archive.start_dir
    for one, following in zip(listed, [*(entry.header_offset for entry in listed[1:]), directory], strict=True):
        entry = bytearray(content[one.header_offset : following])
        name = len(one.filename.encode())
        struct.pack_into("<H", entry, 28, extra)
        ends.append((one.header_offset, len(entries)))
        entries += entry[: 30 + name] + struct.pack("<HH", 0xCAFE, extra - 4) + bytes(extra - 4) + entry[30 + name :]
    rest = bytearray(content[directory:])
    place = 0
    for _, begin in ends:
        struct.pack_into("<I", rest, place + 42, begin)
        name, more, comment = struct.unpack_from("<HHH", rest, place + 28)
        place += 46 + name + more + comment
    struct.pack_into("<I", rest, place + 16, len(entries))
    to.write_bytes(entries + rest)
    return to


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("served")
    stores = tmp_path_factory.mktemp("stores")
    three = written(adata_of(), stores / "three.zarr", 3)
    sharded = written(adata_of(), stores / "sharded.zarr", 3)
    for part in ("data", "indices"):
        put(sharded, f"X/{part}", chunks=(8,), shards=(24,))
    zipped(written(adata_of(), stores / "two.zarr", 2), folder / "two.zarr.zip")
    zipped(three, folder / "three.zarr.zip")
    zipped(sharded, folder / "sharded.zip")
    zipped(three, folder / "packed.zarr.zip", compression=8)
    streamed(three, folder / "streamed.zarr.zip")
    longer(folder / "three.zarr.zip", folder / "longer.zarr.zip")
    with serving(folder) as running:
        yield running


@pytest.mark.parametrize("name", NAMES)
def test_batches_of_an_archive_are_what_anndata_reads(server: WebServer, name: str) -> None:
    far = stream(f"{server.url}/{name}", **HOW)
    assert seen(far) == seen(stream(server.folder / name, **HOW))
    whole = torch.cat([batch["X"] for batch in stream(f"{server.url}/{name}", 8, fields=["X"], shuffle=False)])
    assert np.array_equal(whole.numpy(), expected(server.folder / name).X.toarray())


@pytest.mark.parametrize("name", NAMES)
def test_the_route_is_that_of_the_local_archive(server: WebServer, name: str) -> None:
    far, near = (open_store(f"{place}/{name}").route("X") for place in (server.url, server.folder))
    assert far == near
    assert far.kind == ("zarr" if name.startswith("packed") else "direct")


@pytest.mark.parametrize(("name", "headers"), [("three.zarr.zip", 0), ("streamed.zarr.zip", 3), ("longer.zarr.zip", 3)])
def test_headers_of_entries_are_asked_for_only_where_their_length_is_in_doubt(
    server: WebServer, name: str, headers: int
) -> None:
    store = open_store(f"{server.url}/{name}")
    assert store.route("X").kind == "direct"
    asked = [span for _, _, span in server.log if span]
    assert len([span for span in asked if -np.subtract(*map(int, span[6:].split("-"))) == 29]) == headers


@pytest.mark.parametrize("fault", FAULTS)
def test_failures_that_pass_change_nothing(server: WebServer, fault: str) -> None:
    server.fault = fault
    assert seen(stream(f"{server.url}/sharded.zip", **HOW)) == seen(stream(server.folder / "sharded.zip", **HOW))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_read_the_same(server: WebServer, method: str) -> None:
    data, local = AnnDataset(f"{server.url}/sharded.zip"), AnnDataset(server.folder / "sharded.zip")
    loader = DataLoader(data, batch_size=8, num_workers=1, multiprocessing_context=method)
    torch.testing.assert_close(torch.cat([one["X"] for one in loader]), torch.stack([one["X"] for one in local]))


def test_archives_stand_beside_files(server: WebServer) -> None:
    write(adata_of(), server.folder / "cells.h5ad")
    far, near = (
        [f"{place}/{name}" for name in ("three.zarr.zip", "cells.h5ad")] for place in (server.url, server.folder)
    )
    assert seen(stream(Collection(far), **HOW)) == seen(stream(Collection(near), **HOW))


def test_an_archive_without_a_suffix_is_known_by_what_it_is(server: WebServer) -> None:
    (server.folder / "12345").write_bytes((server.folder / "sharded.zip").read_bytes())
    assert seen(stream(f"{server.url}/12345", **HOW)) == seen(stream(server.folder / "sharded.zip", **HOW))


def test_an_archive_that_changed_is_refused(server: WebServer) -> None:
    path = server.folder / "changing.zarr.zip"
    path.write_bytes((server.folder / "three.zarr.zip").read_bytes())
    loader = stream(f"{server.url}/changing.zarr.zip", batch_size=8)
    path.write_bytes((server.folder / "sharded.zip").read_bytes())
    with pytest.raises(ChangedError, match=r"changing.zarr.zip changed since"):
        list(loader)


def test_an_archive_with_a_file_is_no_store(server: WebServer) -> None:
    with ZipFile(server.folder / "cells.h5ad.zip", "w") as archive:
        archive.writestr("cells.h5ad", b"\x89HDF")
    with pytest.raises(FormatError, match=r"zip archive: unpack it"):
        open_store(f"{server.url}/cells.h5ad.zip")


def test_an_archive_that_is_cut_off_is_damaged(server: WebServer) -> None:
    (server.folder / "cut.zarr.zip").write_bytes((server.folder / "three.zarr.zip").read_bytes()[:-100])
    with pytest.raises(DamageError, match=r"cut.zarr.zip is a zip archive that cannot be read"):
        open_store(f"{server.url}/cut.zarr.zip")
