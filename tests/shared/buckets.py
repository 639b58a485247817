"""A server of objects as S3 and Google's XML API ask for them, for the files of a folder."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

__all__ = ["bucket_of", "put_object", "reached"]

moto_server = pytest.importorskip("moto.server")


@contextmanager
def bucket_of(folder: Path, where: str) -> Iterator[str]:
    """The address of a server with the files of a folder in the bucket and folder ``where``, until the block ends."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    try:
        reset = urllib.request.Request(f"{url}/moto-api/reset", method="POST")  # noqa: S310 (our own)
        urllib.request.urlopen(reset, timeout=60).close()  # noqa: S310 (all servers of a process have the same objects)
        _put(f"{url}/{where.partition('/')[0]}", b"")
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                put_object(url, f"{where}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        yield url
    finally:
        server.stop()


def put_object(url: str, key: str, content: bytes) -> None:
    """Write an object that everybody may read."""
    _put(f"{url}/{quote(key)}", content)


def _put(url: str, content: bytes) -> None:
    headers = {"x-amz-acl": "public-read", "Content-Type": "application/octet-stream"}  # or it is taken for a form
    request = urllib.request.Request(url, content, headers, method="PUT")  # noqa: S310 (our own)
    urllib.request.urlopen(request, timeout=60).close()  # noqa: S310


def reached(protocol: str, url: str) -> dict[str, Any]:
    """Options by which obstore asks such a server."""
    plain = {"client_options": {"allow_http": True}}
    if protocol == "gs":
        return {"base_url": url, "skip_signature": True, **plain}
    return {"endpoint": url, "region": "us-east-1", "access_key_id": "some", "secret_access_key": "hush", **plain}
