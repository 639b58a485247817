"""Files in an S3 store, and on file systems of fsspec: the same batches, and patterns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from buckets import bucket_of, reached
from builders import adata_of, write
from web_servers import seen

from annpipes import Collection, Remote, stream
from annpipes.errors import ChangedError, FormatError, RemoteError, SourceError

pytest.importorskip("obstore")
fsspec = pytest.importorskip("fsspec")

HOW: dict[str, Any] = {"batch_size": 8, "fields": ["X", "obs/cell_type", "obs/barcode"], "seed": 3, "block_size": 2}
NAMES = ("a 1.h5ad", "b.h5ad", "deeper/c.h5ad", "note.txt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("atlas")
    (top / "deeper").mkdir()
    for name, form in zip(NAMES, ("csr", "dense", "csr"), strict=False):
        write(adata_of(x=form), top / name, "gzip")
    (top / "note.txt").write_text("no file of this kind")
    return top


@pytest.fixture(scope="module")
def options(folder: Path) -> Iterator[dict[str, Any]]:
    """What reaches a server with the folder in ``s3://atlas/cells``."""
    with bucket_of(folder, "atlas/cells") as url:
        yield reached("s3", url)


@pytest.mark.parametrize("name", NAMES[:3])
def test_batches_of_an_s3_store_are_those_of_the_local_file(folder: Path, options: Any, name: str) -> None:
    remote = Remote(f"s3://atlas/cells/{name}", **options)
    assert seen(stream(remote, **HOW)) == seen(stream(folder / name, **HOW))


@pytest.mark.parametrize(("pattern", "found"), [("*.h5ad", 2), ("[ab]*", 2), ("*/*.h5ad", 1), ("?.h5ad", 1)])
def test_a_pattern_names_what_it_does_in_a_folder(folder: Path, options: Any, pattern: str, found: int) -> None:
    remote = Collection(Remote(f"s3://atlas/cells/{pattern}", **options))
    local = Collection(str(folder / pattern))
    assert len(remote.files) == len(local.files) == found
    assert seen(stream(remote, **HOW)) == seen(stream(local, **HOW))


def test_a_pattern_is_one_wherever_a_path_may_stand(folder: Path, options: Any) -> None:
    loader = stream(Remote("s3://atlas/cells/*.h5ad", **options), **HOW)
    assert seen(loader) == seen(stream(str(folder / "*.h5ad"), **HOW))


def test_a_pattern_without_matches_and_one_on_a_web_server_are_refused(options: Any) -> None:
    with pytest.raises(SourceError, match=r"nothing matches 's3://atlas/cells/\*\.loom'"):
        stream(Remote("s3://atlas/cells/*.loom", **options))
    with pytest.raises(FormatError, match=r"cannot list its files: give a list"):
        stream("https://localhost/cells/*.h5ad")


def test_an_object_that_is_not_there_is_told(options: Any) -> None:
    with pytest.raises(RemoteError, match=r"s3://atlas/cells/none.h5ad could not be read"):
        stream(Remote("s3://atlas/cells/none.h5ad", **options))


def test_an_object_that_changed_is_refused(folder: Path, options: Any) -> None:
    import obstore
    from obstore.store import S3Store

    store = S3Store("atlas", **options)
    obstore.put(store, "changing.h5ad", (folder / "a 1.h5ad").read_bytes())
    loader = stream(Remote("s3://atlas/changing.h5ad", **options), **HOW)
    obstore.put(store, "changing.h5ad", (folder / "a 1.h5ad").read_bytes() + b"more")
    with pytest.raises(ChangedError, match=r"s3://atlas/changing.h5ad changed since"):
        list(loader)


@pytest.mark.parametrize("name", NAMES[:2])
def test_other_protocols_are_read_by_fsspec(folder: Path, name: str) -> None:
    fsspec.filesystem("memory").pipe(f"/cells/{name}", (folder / name).read_bytes())
    local = seen(stream(folder / name, **HOW))
    assert seen(stream(f"memory://cells/{name}", **HOW)) == local
    assert seen(stream((folder / name).as_uri().replace("%20", " "), **HOW)) == local
    fsspec.filesystem("memory").rm("/cells", recursive=True)


def test_a_file_that_fsspec_sees_change_is_refused(folder: Path, tmp_path: Path) -> None:
    path = write(adata_of(), tmp_path / "cells.h5ad")
    loader = stream(path.as_uri(), **HOW)
    write(adata_of(40), path)
    with pytest.raises(ChangedError, match=r"cells.h5ad changed since"):
        list(loader)


def test_patterns_are_listed_by_fsspec(folder: Path) -> None:
    assert seen(stream(f"file://{folder}/*.h5ad", **HOW)) == seen(stream(f"{folder}/*.h5ad", **HOW))


def test_what_fsspec_does_not_find_is_told() -> None:
    with pytest.raises(RemoteError, match=r"could not be read.*check the address"):
        stream("memory://nowhere/cells.h5ad")
    with pytest.raises(RemoteError, match="nosuch"):
        stream("nosuch://nowhere/cells.h5ad")


def test_more_is_read_ahead_over_a_network(folder: Path) -> None:
    path = str(folder / NAMES[0])
    assert [stream(data).prefetch for data in (path, f"file://{path}", [path, f"file://{path}"])] == [1, 3, 3]
    assert stream(f"file://{path}", prefetch=0).prefetch == 0


@pytest.mark.parametrize("place", ["http://169.254.169.254/latest/api/token", "http://metadata.google.internal/token"])
def test_a_machine_without_a_role_has_no_credentials(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    asked = []

    def call(*arguments: Any) -> Any:
        asked.append(arguments)
        return False, ("GenericError", f"Error performing PUT {place} in 10s - HTTP error: error sending request")

    monkeypatch.setattr("annpipes.stores.bytes.by_obstore.calls.call", call)
    with pytest.raises(RemoteError, match="no credentials were found: pass them to Remote") as refusal:
        stream("s3://atlas/cells.h5ad")
    assert "skip_signature=True" in refusal.value.remedy
    assert len(asked) == 1, "asked again, which takes as long each time"


def test_what_an_address_lacks_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_CONNECTION_STRING"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RemoteError, match=r"could not be read: .*Account must be specified"):
        stream("az://atlas/cells.h5ad")
